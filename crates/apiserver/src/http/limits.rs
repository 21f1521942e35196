//! How long requests may take, and how many are worked on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_api_meta::Status;

use super::Ctx;

/// Requests that are not long-running are given up after this. Source: `--request-timeout`.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct InFlight {
    reading: Arc<AtomicUsize>,
    mutating: Arc<AtomicUsize>,
}

/// Counted until dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlight {
    pub(crate) fn enter(&self, mutating: bool) -> Place {
        let counter = if mutating { &self.mutating } else { &self.reading };
        counter.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(counter))
    }

    /// Reading, then mutating.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.reading.load(Ordering::Relaxed), self.mutating.load(Ordering::Relaxed))
    }
}

/// How long the request may take: what it says itself, within the server's limit.
/// Source: `k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go`.
pub(crate) fn time_max(ctx: &Ctx) -> Result<Duration, Status> {
    let text = ctx.query.get("timeout");
    if text.is_empty() {
        return Ok(REQUEST_TIME_MAX);
    }
    let time = go_duration(text)
        .map_err(|why| Status::bad_request(format!("invalid timeout specified in the request URL - time: {why}")))?;
    Ok(if time.is_zero() { REQUEST_TIME_MAX } else { time.min(REQUEST_TIME_MAX) })
}

/// Reads `1h2m3.5s` and the like. Negative ones are zero.
fn go_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            "" => return Err(format!("missing unit in duration {text:?}")),
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    if negative {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let read = |text| go_duration(text).map(|time| time.as_millis());
        assert_eq!(read("30s"), Ok(30_000));
        assert_eq!(read("1m1.5s"), Ok(61_500));
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("-5s"), Ok(0));
        assert_eq!(read("5"), Err("missing unit in duration \"5\"".to_owned()));
        assert_eq!(read("x"), Err("invalid duration \"x\"".to_owned()));
        assert_eq!(read("5 s"), Err("unknown unit \" s\" in duration \"5 s\"".to_owned()));
        assert!(read("99999999999999999999999h").is_err());
    }
}
