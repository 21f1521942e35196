//! A limit to the entries of updates: the oldest are merged into one entry per version.

use std::collections::BTreeMap;

use super::entries::{Managed, ManagerId, Operation};

/// `DefaultMaxUpdateManagers` upstream.
const UPDATE_MANAGERS_MAX: usize = 10;
const OLD_UPDATES: &str = "ancient-changes";

pub(crate) fn cap_update_managers(managed: &mut Managed) {
    let mut updaters: Vec<ManagerId> = managed.keys().filter(|id| id.operation == Operation::Update).cloned().collect();
    let mut count = updaters.len();
    if count <= UPDATE_MANAGERS_MAX {
        return;
    }
    let time = |id: &ManagerId| managed.get(id).and_then(|entry| entry.time.clone());
    updaters.sort_by_cached_key(|id| (time(id), id.clone()));
    let mut firsts: BTreeMap<String, ManagerId> = BTreeMap::new();
    for id in updaters {
        if count <= UPDATE_MANAGERS_MAX {
            return;
        }
        let bucket = ManagerId {
            manager: OLD_UPDATES.to_owned(),
            operation: Operation::Update,
            api_version: id.api_version.clone(),
            subresource: String::new(),
        };
        let Some(first) = firsts.get(&id.api_version).filter(|_| id != bucket) else {
            firsts.insert(id.api_version.clone(), id);
            continue;
        };
        if !managed.contains_key(&bucket)
            && let Some(entry) = managed.remove(first)
        {
            managed.insert(bucket.clone(), entry);
        }
        let Some(entry) = managed.remove(&id) else { continue };
        if let Some(bucket) = managed.get_mut(&bucket) {
            bucket.set = entry.set.union(&bucket.set);
            bucket.time = entry.time;
        }
        count -= 1;
    }
}
