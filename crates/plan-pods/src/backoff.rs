//! Delays that double.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// Delay after the first failure. Source: kubelet.
pub const CONTAINER_BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// The longest delay. Source: kubelet.
pub const CONTAINER_BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Delays by key. An entry that was not raised for twice the longest delay begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    delay: Duration,
    raised: Timestamp,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(CONTAINER_BACKOFF_FIRST, CONTAINER_BACKOFF_MAX)
    }
}

impl Backoff {
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, entries: BTreeMap::new() }
    }

    /// Until when to wait, and how long the whole delay is, when `event` (the end of a container, the failure of a
    /// pull) was so recent that a delay is due.
    #[must_use]
    pub fn hold(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<(Timestamp, Duration)> {
        let entry = self.entries.get(key)?;
        if self.is_expired(entry, event) {
            return None;
        }
        let until = after(event, entry.delay);
        (now < until).then_some((until, entry.delay))
    }

    /// Like [`Self::hold`], counted from when the delay was last raised.
    #[must_use]
    pub fn hold_since_raised(&self, key: &str, now: Timestamp) -> Option<(Timestamp, Duration)> {
        let entry = self.entries.get(key)?;
        if self.is_expired(entry, now) {
            return None;
        }
        let until = after(entry.raised, entry.delay);
        (now < until).then_some((until, entry.delay))
    }

    /// Doubles the delay, or begins with the first one.
    pub fn raise(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.is_expired(entry, event) => (entry.delay * 2).min(self.max),
            _ => self.first,
        };
        self.entries.insert(key.to_owned(), Entry { delay, raised: now });
    }

    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Forgets what has expired.
    pub fn collect(&mut self, now: Timestamp) {
        let max = self.max;
        self.entries.retain(|_, entry| now < after(entry.raised, max * 2));
    }

    fn is_expired(&self, entry: &Entry, event: Timestamp) -> bool {
        event > after(entry.raised, self.max * 2)
    }
}

fn after(time: Timestamp, delay: Duration) -> Timestamp {
    time.checked_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    #[test]
    fn delays_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.hold("a", at(0), at(0)), None);
        let mut seen = Vec::new();
        let mut now = 0;
        for _ in 0..7 {
            backoff.raise("a", at(now), at(now));
            let (until, delay) = backoff.hold("a", at(now + 1), at(now + 1)).expect("held");
            seen.push(delay.as_secs());
            assert_eq!(until, at(now + 1 + i64::try_from(delay.as_secs()).expect("small")));
            now = until.as_second();
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        backoff.raise("a", at(now + 601), at(now + 601));
        assert_eq!(backoff.hold("a", at(now + 602), at(now + 602)).map(|(_, delay)| delay.as_secs()), Some(10));
    }
}
