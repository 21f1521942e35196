//! Decoded objects of one process, each version kept once however many caches hold it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coracle_api_types::Object;

/// Entries below which nobody looks for those that are gone.
const SWEEP_AT_FIRST: usize = 256;

/// What informers of the same pool hold is shared: each of them reads with the rights of its own client, and finds the
/// object that another one has decoded already. Clones are the same pool.
#[derive(Clone, Default)]
pub struct Pool {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// By type and uid: the version that was seen last.
    latest: HashMap<(TypeId, String), Weak<dyn Any + Send + Sync>>,
    sweep_at: usize,
}

impl Pool {
    /// The object, or the one of the same version that somebody holds.
    pub(crate) fn share<K: Object>(&self, object: K) -> Arc<K> {
        if object.uid().is_empty() {
            return Arc::new(object);
        }
        let key = (TypeId::of::<K>(), object.uid().to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let held = known.latest.get(&key).and_then(Weak::upgrade).and_then(|held| held.downcast::<K>().ok());
        if let Some(held) = held.filter(|held| held.resource_version() == object.resource_version()) {
            return held;
        }
        let object = Arc::new(object);
        let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&object) as _;
        known.latest.insert(key, weak);
        known.sweep();
        object
    }
}

impl Known {
    /// An entry keeps the room of its object, so those that nobody holds must go. Costs a constant for each insertion.
    fn sweep(&mut self) {
        if self.latest.len() > self.sweep_at.max(SWEEP_AT_FIRST) {
            self.latest.retain(|_, held| held.strong_count() > 0);
            self.sweep_at = self.latest.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;

    use super::*;

    fn object<K: Object>(uid: &str, version: &str) -> K {
        K::from_value(&json!({"metadata": {"name": "a", "uid": uid, "resourceVersion": version}})).expect("an object")
    }

    #[test]
    fn the_same_version_is_kept_once() {
        let pool = Pool::default();
        let first = pool.share(object::<ConfigMap>("u", "1"));
        assert!(Arc::ptr_eq(&first, &pool.clone().share(object::<ConfigMap>("u", "1"))));
        assert!(!Arc::ptr_eq(&first, &pool.share(object::<ConfigMap>("v", "1"))));
        let _other_kind = pool.share(object::<Secret>("u", "1"));
        let second = pool.share(object::<ConfigMap>("u", "2"));
        assert!(Arc::ptr_eq(&second, &pool.share(object::<ConfigMap>("u", "2"))));
        assert_eq!(pool.share(object::<ConfigMap>("", "2")).uid(), "");
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let pool = Pool::default();
        let held: Vec<_> = (0..10).map(|n| pool.share(object::<ConfigMap>(&format!("held-{n}"), "1"))).collect();
        for n in 0..10 * SWEEP_AT_FIRST {
            drop(pool.share(object::<ConfigMap>(&format!("gone-{n}"), "1")));
        }
        let known = pool.known.lock().expect("no panic");
        assert!(known.latest.len() <= SWEEP_AT_FIRST + 1, "{}", known.latest.len());
        assert_eq!(held.iter().filter(|held| Arc::weak_count(held) == 1).count(), 10);
    }
}
