//! How many watches a change of an object may wake.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Gate;

/// By collection and namespace; the empty namespace stands for all.
#[derive(Default)]
pub(super) struct Watches(Mutex<HashMap<Arc<str>, HashMap<String, usize>>>);

/// A watch that is counted until this is dropped.
pub(crate) struct Watched {
    gate: Arc<Gate>,
    collection: Arc<str>,
    namespace: String,
}

impl Watches {
    pub(super) fn add(&self, gate: &Arc<Gate>, collection: &Arc<str>, namespace: &str) -> Watched {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(Arc::clone(collection)).or_default().entry(namespace.to_owned()).or_default() += 1;
        Watched { gate: Arc::clone(gate), collection: Arc::clone(collection), namespace: namespace.to_owned() }
    }

    pub(super) fn count(&self, collection: &str, namespace: &str) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = all.get(collection) else { return 0 };
        let everywhere = own.get("").copied().unwrap_or(0);
        if namespace.is_empty() { everywhere } else { everywhere + own.get(namespace).copied().unwrap_or(0) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut all = self.gate.watches.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = all.get_mut(&self.collection) else { return };
        if let Some(count) = own.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                own.remove(&self.namespace);
            }
        }
        if own.is_empty() {
            all.remove(&self.collection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_of_all_namespaces_count_everywhere() {
        let gate = Arc::new(Gate::new());
        let pods: Arc<str> = "pods".into();
        let (all, one) = (gate.watched(&pods, ""), gate.watched(&pods, "a"));
        assert_eq!(["", "a", "b"].map(|namespace| gate.watches.count("pods", namespace)), [1, 2, 1]);
        drop(all);
        assert_eq!(gate.watches.count("pods", "a"), 1);
        drop(one);
        assert!(gate.watches.0.lock().expect("no panic").is_empty());
    }
}
