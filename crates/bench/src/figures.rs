//! Latencies and what to say of them.

use std::time::Duration;

/// What one measurement found.
#[derive(Debug, Default)]
pub struct Figures {
    latencies: Vec<Duration>,
    pub errors: usize,
    pub wall: Duration,
    /// CPU seconds of the server, when its process is known.
    pub server_cpu: Option<f64>,
}

impl Figures {
    pub fn add(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }

    pub fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.errors += other.errors;
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that `share` (0 to 1) of the operations stay under.
    #[must_use]
    pub fn percentile(&mut self, share: f64) -> Duration {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }

    /// One line: name, operations a second, percentiles in ms, server CPU in ms per operation.
    #[must_use]
    pub fn line(&mut self, name: &str) -> String {
        #[allow(clippy::cast_precision_loss)]
        let count = self.count() as f64;
        let rate = count / self.wall.as_secs_f64().max(1e-9);
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (p50, p90, p99) = (self.percentile(0.5), self.percentile(0.9), self.percentile(0.99));
        let cpu = self.server_cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{:.3}", cpu * 1e3 / count.max(1.0)));
        format!(
            "{name:<22}{rate:>10.0}{:>10.2}{:>10.2}{:>10.2}{cpu:>12}{:>8}",
            millis(p50),
            millis(p90),
            millis(p99),
            self.errors
        )
    }
}

/// Heading of [`Figures::line`].
pub const HEADING: &str = "operation                  ops/s    p50 ms    p90 ms    p99 ms  cpu ms/op  errors";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut figures = Figures::default();
        for ms in (1..=100).rev() {
            figures.add(Duration::from_millis(ms));
        }
        assert_eq!(figures.percentile(0.5), Duration::from_millis(51));
        assert_eq!(figures.percentile(1.0), Duration::from_millis(100));
        assert_eq!(Figures::default().percentile(0.5), Duration::ZERO);
    }
}
