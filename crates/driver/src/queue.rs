//! Keys that wait for work. Source of the rules: `k8s.io/client-go/util/workqueue`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1000);
/// Doublings after which the delay no longer grows.
const DOUBLINGS_MAX: u32 = 18;

/// A queue in which a key waits at most once, and is handed to at most one worker. Clones share it.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when its worker is done.
    dirty: HashSet<K>,
    working: HashSet<K>,
    /// Ordered by when they become ready; the number tells equal moments apart.
    delayed: BTreeMap<(Instant, u64), K>,
    delayed_at: HashMap<K, (Instant, u64)>,
    delays: u64,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            delayed: BTreeMap::new(),
            delayed_at: HashMap::new(),
            delays: 0,
            failures: HashMap::new(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for work on the key as soon as possible.
    pub fn add(&self, key: K) {
        self.state().add(key);
        self.shared.wake.notify_one();
    }

    /// Asks for work on the key after a delay, or at the earlier moment that was asked for before.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.state().add_at(key, Instant::now() + delay);
        self.shared.wake.notify_one();
    }

    /// Counts a failure of the key and asks for work after a delay that doubles with each.
    pub fn retry(&self, key: K) -> Duration {
        let delay = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = BACKOFF_FIRST * 2_u32.pow((*failures).min(DOUBLINGS_MAX));
            *failures += 1;
            delay.min(BACKOFF_MAX)
        };
        self.add_after(key, delay);
        delay
    }

    /// Forgets the failures of the key.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// Waits for a key to work on. [`Self::done`] must follow. Safe to cancel.
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.state();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    return key;
                }
                state.delayed.first_key_value().map(|((due, _), _)| *due)
            };
            let woken = self.shared.wake.notified();
            match due {
                Some(due) => drop(tokio::time::timeout_at(due, woken).await),
                None => woken.await,
            }
        }
    }

    /// The worker is finished with the key.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.wake.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if let Some(at) = self.delayed_at.remove(&key) {
            self.delayed.remove(&at);
        }
        if !self.dirty.insert(key.clone()) || self.working.contains(&key) {
            return;
        }
        self.ready.push_back(key);
    }

    fn add_at(&mut self, key: K, due: Instant) {
        if self.dirty.contains(&key) && !self.working.contains(&key) {
            return;
        }
        if let Some(&before) = self.delayed_at.get(&key) {
            if before.0 <= due {
                return;
            }
            self.delayed.remove(&before);
        }
        self.delays += 1;
        let at = (due, self.delays);
        self.delayed.insert(at, key.clone());
        self.delayed_at.insert(key, at);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            self.delayed_at.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_runs_again_when_it_changed_meanwhile() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.next().await, "b");
        queue.done(&"b");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_the_earlier_moment_and_failures_double() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(5));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        let delays: Vec<u128> = (0..4).map(|_| queue.retry("b").as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40]);
        queue.forget(&"b");
        assert_eq!(queue.retry("b").as_millis(), 5);
        assert_eq!(queue.next().await, "b");
    }
}
