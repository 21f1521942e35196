//! Durations for people. Source: `k8s.io/apimachinery/pkg/util/duration.HumanDuration`.

use coracle_api_meta::Value;
use jiff::Timestamp;

/// Two units at most, and one where the other says little: `9s`, `3m5s`, `47h`, `4d3h`, `2y10d`.
#[must_use]
pub fn human(seconds: i64) -> String {
    let two = |first: i64, unit: &str, second: i64, below: &str| {
        if second == 0 { format!("{first}{unit}") } else { format!("{first}{unit}{second}{below}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let years = days / 365;
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 8 * 365 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// Time since an RFC 3339 stamp, `<unknown>` where there is none.
#[must_use]
pub fn since(stamp: &str, now: Timestamp) -> String {
    match stamp.parse::<Timestamp>() {
        Ok(then) => human(now.duration_since(then).as_secs()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// The age of an object.
#[must_use]
pub fn age(object: &Value, now: Timestamp) -> String {
    let stamp = object.get("metadata").and_then(|meta| meta.get("creationTimestamp")).and_then(Value::as_str);
    since(stamp.unwrap_or_default(), now)
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn as_kubectl_shows_them() {
        let (minute, hour, day) = (60, 3600, 86400);
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (10 * minute + 5, "10m"),
            (179 * minute, "179m"),
            (3 * hour, "3h"),
            (3 * hour + minute, "3h1m"),
            (8 * hour + 5 * minute, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (4 * day + 3 * hour, "4d3h"),
            (8 * day + hour, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (740 * day, "2y10d"),
            (8 * 365 * day + day, "8y"),
            (-1, "0s"),
            (-2, "<invalid>"),
        ];
        for (seconds, shown) in cases {
            assert_eq!(human(seconds), shown, "{seconds}");
        }
    }
}
