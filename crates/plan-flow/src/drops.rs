//! When those who were turned away should come back: later the more there are.

use std::collections::VecDeque;

/// Seconds. Source: `maxRetryAfter`.
const RETRY_SECONDS_MAX: u64 = 32;

/// Requests of one level that were turned away lately.
#[derive(Debug, Clone)]
pub struct Drops {
    /// Second and count, oldest first.
    seconds: VecDeque<(u64, u64)>,
    retry: u64,
    raised: u64,
}

impl Default for Drops {
    fn default() -> Self {
        Self { seconds: VecDeque::new(), retry: 1, raised: 0 }
    }
}

impl Drops {
    /// Counts one more in this second, and says after how many seconds to try again.
    pub fn add(&mut self, second: u64) -> u64 {
        match self.seconds.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => {
                self.adjust(second);
                self.seconds.push_back((second, 1));
            }
        }
        self.retry
    }

    fn adjust(&mut self, second: u64) {
        let kept = RETRY_SECONDS_MAX;
        while self.seconds.front().is_some_and(|(at, _)| second.saturating_sub(*at) > kept) {
            self.seconds.pop_front();
        }
        let lately = self.seconds.iter().filter(|(at, _)| second.saturating_sub(*at) <= self.retry);
        let dropped: u64 = lately.map(|(_, count)| count).sum();
        if dropped >= 3 * self.retry && second.saturating_sub(self.raised) >= self.retry {
            self.retry = (self.retry * 2).min(RETRY_SECONDS_MAX);
            self.raised = second;
        } else if dropped < self.retry && self.retry > 1 {
            self.retry -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_drops_mean_longer_waits() {
        let mut drops = Drops::default();
        let mut seen = Vec::new();
        for second in 100..120 {
            seen.push((0..50).map(|_| drops.add(second)).last().expect("one"));
        }
        assert_eq!(seen[..4], [1, 2, 2, 4]);
        assert!(seen[19] >= 8);
        let calm = (200..240).step_by(2).map(|second| drops.add(second)).last();
        assert_eq!(calm, Some(1));
    }
}
