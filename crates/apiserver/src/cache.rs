//! Answers that hold for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most so many values, each until its time.
pub(crate) struct Cache<K, V> {
    values: Mutex<HashMap<K, (Instant, V)>>,
    values_max: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(values_max: usize) -> Self {
        Self { values: Mutex::default(), values_max }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V, ttl: Duration) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if values.len() >= self.values_max {
            values.retain(|_, (until, _)| *until > now);
            if values.len() >= self.values_max {
                values.clear();
            }
        }
        values.insert(key, (now + ttl, value));
    }
}
