//! Ranges of user ids for pods with `hostUsers: false`. Source: KEP-127, kubelet `userns_manager.go`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use coracle_cri::{IdMapping, UserNamespace};

/// Ids of one pod. Source: kubelet `userNsUnitLength`.
const LENGTH: u32 = 65536;
/// The first range is the host's own.
const SLOT_FIRST: u32 = 1;
const SLOT_LAST: u32 = u32::MAX / LENGTH - 1;

/// Which pod has which range. What pods have that were there before a restart, the runtime tells.
#[derive(Default)]
pub(crate) struct UserRanges {
    by_pod: Mutex<BTreeMap<String, u32>>,
}

impl UserRanges {
    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u32>> {
        self.by_pod.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The range of a pod, a free one when it has none yet; `None` when there is no more.
    pub(crate) fn of(&self, uid: &str) -> Option<UserNamespace> {
        let mut by_pod = self.locked();
        let slot = match by_pod.get(uid) {
            Some(slot) => *slot,
            None => (SLOT_FIRST..=SLOT_LAST).find(|slot| !by_pod.values().any(|taken| taken == slot))?,
        };
        by_pod.insert(uid.to_owned(), slot);
        let mapping = vec![IdMapping { host_id: slot * LENGTH, container_id: 0, length: LENGTH }];
        Some(UserNamespace { uids: mapping.clone(), gids: mapping })
    }

    /// A pod that runs already has this.
    pub(crate) fn remember(&self, uid: &str, users: &UserNamespace) {
        if let Some(mapping) = users.uids.first() {
            self.locked().insert(uid.to_owned(), mapping.host_id / LENGTH);
        }
    }

    pub(crate) fn release(&self, uid: &str) {
        self.locked().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_meet_and_are_used_again() {
        let ranges = UserRanges::default();
        let host_id = |uid: &str| ranges.of(uid).and_then(|users| users.uids.first().map(|first| first.host_id));
        assert_eq!([host_id("a"), host_id("b"), host_id("a")], [Some(65536), Some(131_072), Some(65536)]);
        ranges.release("a");
        assert_eq!(host_id("c"), Some(65536));
        let known = UserNamespace { uids: vec![IdMapping { host_id: 196_608, ..IdMapping::default() }], gids: vec![] };
        ranges.remember("d", &known);
        assert_eq!(host_id("e"), Some(262_144));
    }
}
