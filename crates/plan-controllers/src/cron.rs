//! Cron schedules. Source of the rules: `github.com/robfig/cron/v3` standard parser, which upstream uses.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Days that are looked at for the next match: more than four years, for February 29.
const DAYS_MAX: usize = 366 * 5;

/// The values of one field, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Written as `*` or `?`: says nothing.
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| value < u64::BITS && self.bits & (1 << value) != 0)
    }
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads five fields, or `@hourly` and the like. The error is for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(format!("unrecognized descriptor: {other}")),
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
        };
        Ok(Self {
            minute: field(minute, (0, 59), &[])?,
            hour: field(hour, (0, 23), &[])?,
            day: field(day, (1, 31), &[])?,
            month: field(month, (1, 12), &MONTHS)?,
            weekday: field(weekday, (0, 6), &WEEKDAYS)?,
        })
    }

    fn matches_day(&self, date: Date) -> bool {
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        let either = if self.day.star || self.weekday.star { day && weekday } else { day || weekday };
        self.month.has(date.month()) && either
    }

    /// The first match after the moment. `None` when there is none for years.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone());
        let mut date = start.date();
        for _ in 0..DAYS_MAX {
            if self.matches_day(date)
                && let Some(found) = self.first_of_day(date, after, zone)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn first_of_day(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        for hour in (0..24).filter(|&hour| self.hour.has(hour)) {
            for minute in (0..60).filter(|&minute| self.minute.has(minute)) {
                let civil = date.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
                let ambiguous = zone.to_ambiguous_timestamp(civil);
                // A time that a change of clocks leaves out does not come.
                if matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
                    continue;
                }
                if let Ok(moment) = ambiguous.compatible()
                    && moment > after
                {
                    return Some(moment);
                }
            }
        }
        None
    }

    /// The last match in `(after, until]`.
    #[must_use]
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        for minutes in [2_i64, 90, 60 * 25, 60 * 24 * 32, 60 * 24 * 366, 60 * 24 * 366 * 5] {
            let from = until.checked_sub(minutes.minutes()).unwrap_or(after).max(after);
            let mut found = None;
            let mut at = from;
            while let Some(next) = self.next(at, zone).filter(|next| *next <= until) {
                found = Some(next);
                at = next;
            }
            if found.is_some() || from == after {
                return found;
            }
        }
        None
    }
}

fn field(text: &str, (low, high): (u32, u32), names: &[&str]) -> Result<Field, String> {
    let mut bits = 0;
    let mut star = false;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step, &[])?)),
            None => (part, None),
        };
        let (first, last) = match range {
            "*" | "?" => {
                star |= step.is_none_or(|step| step == 1);
                (low, high)
            }
            range => match range.split_once('-') {
                Some((first, last)) => (number(first, names)?, number(last, names)?),
                None if step.is_some() => (number(range, names)?, high),
                None => (number(range, names)?, number(range, names)?),
            },
        };
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        if first < low {
            return Err(format!("beginning of range ({first}) below minimum ({low}): {part}"));
        }
        if last > high {
            return Err(format!("end of range ({last}) above maximum ({high}): {part}"));
        }
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
        }
        let mut value = first;
        while value <= last {
            bits |= 1_u64 << value;
            value += step;
        }
    }
    Ok(Field { bits, star })
}

fn number(text: &str, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(position) = names.iter().position(|name| *name == lower) {
        let first = u32::from(names.len() == MONTHS.len());
        return Ok(u32::try_from(position).unwrap_or_default() + first);
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, after: &str, expected: &[&str]) {
        let schedule = Schedule::parse(schedule).expect("schedule");
        let mut at: Timestamp = after.parse().expect("time");
        for expected in expected {
            at = schedule.next(at, &TimeZone::UTC).expect("a next time");
            assert_eq!(at.to_string(), *expected);
        }
    }

    #[test]
    fn next_times() {
        check("*/1 * * * ?", "2026-01-01T00:00:30Z", &["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]);
        check("* */1 * * ?", "2026-01-01T00:00:00Z", &["2026-01-01T00:01:00Z"]);
        check(
            "30 4 1,15 * fri",
            "2026-01-01T05:00:00Z",
            &["2026-01-02T04:30:00Z", "2026-01-09T04:30:00Z", "2026-01-15T04:30:00Z"],
        );
        check("0 0 29 feb *", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        check("@monthly", "2026-01-01T00:00:00Z", &["2026-02-01T00:00:00Z"]);
        check("10-20/5 0 * * 1-5", "2026-01-02T00:16:00Z", &["2026-01-02T00:20:00Z", "2026-01-05T00:10:00Z"]);
    }

    #[test]
    fn the_last_time_and_bad_schedules() {
        let schedule = Schedule::parse("0 0 1 1 *").expect("schedule");
        let time = |text: &str| text.parse::<Timestamp>().expect("time");
        let last = schedule.last(time("2020-01-01T00:00:00Z"), time("2026-06-01T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(last, Some(time("2026-01-01T00:00:00Z")));
        for bad in ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "x * * * *", "@never"] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
