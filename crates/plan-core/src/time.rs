//! Moments and spans in objects.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The moment in whole seconds, as objects keep it.
#[must_use]
pub fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Time from `earlier` to `later`; zero when it has not come yet.
#[must_use]
pub fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

/// Time until `earlier + span`; `None` when that is over.
#[must_use]
pub fn left(earlier: Timestamp, span: Duration, now: Timestamp) -> Option<Duration> {
    let left = span.checked_sub(since(earlier, now))?;
    (!left.is_zero()).then_some(left)
}

#[must_use]
pub fn from_seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or_default())
}
