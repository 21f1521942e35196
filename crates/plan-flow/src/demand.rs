//! How many seats a level could use, over time: what borrowing goes by.

use std::time::Duration;

/// Decay of the smoothed demand in one period; its half-life is five minutes. Source: `seatDemandSmoothingCoefficient`.
const SMOOTHING: f64 = 0.977;

/// Integrals of a value and its square since the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    value: f64,
    max: f64,
    since: Duration,
    seconds: f64,
    sum: f64,
    squares: f64,
    /// Upper envelope of the demand, coming down slowly.
    pub(crate) smoothed: f64,
    /// Highest demand of the last period.
    pub(crate) high: u32,
}

impl Demand {
    pub(crate) fn new(now: Duration) -> Self {
        Self { since: now, ..Self::default() }
    }

    fn advance(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.since).as_secs_f64();
        self.since = self.since.max(now);
        self.seconds += elapsed;
        self.sum += self.value * elapsed;
        self.squares += self.value * self.value * elapsed;
    }

    pub(crate) fn set(&mut self, value: u32, now: Duration) {
        self.advance(now);
        self.value = f64::from(value);
        self.max = self.max.max(self.value);
    }

    pub(crate) fn current(&self) -> f64 {
        self.value
    }

    /// Ends a stretch of time that held `periods` periods.
    pub(crate) fn close(&mut self, periods: i32, now: Duration) {
        self.advance(now);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let high = self.max.round() as u32;
        self.high = high;
        if self.seconds > 0.0 {
            let average = self.sum / self.seconds;
            let deviation = (self.squares / self.seconds - average * average).max(0.0).sqrt();
            let envelope = average + deviation;
            let kept = SMOOTHING.powi(periods.max(1));
            self.smoothed = envelope.max(kept * self.smoothed + (1.0 - kept) * envelope);
        }
        (self.seconds, self.sum, self.squares, self.max) = (0.0, 0.0, 0.0, self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_at_once_and_falls_slowly() {
        let mut demand = Demand::new(Duration::ZERO);
        demand.set(8, Duration::ZERO);
        demand.set(0, Duration::from_secs(10));
        demand.close(1, Duration::from_secs(10));
        assert_eq!((demand.high, demand.smoothed.round()), (8, 8.0));
        demand.close(30, Duration::from_secs(310));
        assert!((3.9..4.1).contains(&demand.smoothed), "half after five minutes: {}", demand.smoothed);
        assert_eq!(demand.high, 0);
    }
}
