//! RFC 3339 as Go's `time.Parse` reads it, and seconds since 1970 back to text.

/// Seconds of Go's zero time, which Kubernetes writes as `null`.
pub(crate) const ZERO_SECONDS: i64 = -62_135_596_800;
const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const LAYOUT_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";
const DAY_SECONDS: i64 = 86_400;

/// A point in time: seconds since 1970 and nanoseconds.
pub(crate) type Instant = (i64, u32);

/// Reads RFC 3339; the error is worded as Go's.
pub(crate) fn parse(text: &str, micro: bool) -> Result<Instant, String> {
    let layout = if micro { LAYOUT_MICRO } else { LAYOUT };
    let quoted = crate::text::go_quote(text);
    let mut reader = Reader { rest: text };
    let fields = reader.fields(micro).map_err(|(rest, element)| {
        let rest = crate::text::go_quote(rest);
        format!("parsing time {quoted} as \"{layout}\": cannot parse {rest} as \"{element}\"")
    })?;
    if !reader.rest.is_empty() {
        let rest = crate::text::go_quote(reader.rest);
        return Err(format!("parsing time {quoted}: extra text: {rest}"));
    }
    fields.instant().map_err(|what| format!("parsing time {quoted}: {what} out of range"))
}

/// `2006-01-02T15:04:05Z`.
pub(crate) fn seconds(seconds: i64) -> String {
    let days = seconds.div_euclid(DAY_SECONDS);
    let rest = seconds.rem_euclid(DAY_SECONDS);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2006-01-02T15:04:05.000000Z`.
pub(crate) fn micros((whole, nanos): Instant) -> String {
    let mut text = seconds(whole);
    text.pop();
    format!("{text}.{:06}Z", nanos / 1000)
}

struct Fields {
    date: [i64; 3],
    time: [i64; 3],
    nanos: u32,
    offset_seconds: i64,
}

impl Fields {
    fn instant(&self) -> Result<Instant, &'static str> {
        let [year, month, day] = self.date;
        let [hour, minute, second] = self.time;
        for (what, fine) in [
            ("month", (1..=12).contains(&month)),
            ("hour", hour < 24),
            ("minute", minute < 60),
            ("second", second < 60),
            ("day", day >= 1 && day <= month_days(year, month)),
        ] {
            if !fine {
                return Err(what);
            }
        }
        let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
        Ok((seconds - self.offset_seconds, self.nanos))
    }
}

struct Reader<'a> {
    rest: &'a str,
}

type Failure<'a> = (&'a str, &'static str);

impl<'a> Reader<'a> {
    fn fields(&mut self, micro: bool) -> Result<Fields, Failure<'a>> {
        let year = self.digits(4, "2006")?;
        self.literal("-")?;
        let month = self.digits(2, "01")?;
        self.literal("-")?;
        let day = self.digits(2, "02")?;
        self.literal("T")?;
        let hour = self.digits(2, "15")?;
        self.literal(":")?;
        let minute = self.digits(2, "04")?;
        self.literal(":")?;
        let second = self.digits(2, "05")?;
        let nanos = self.fraction();
        if micro && nanos.is_none() {
            return Err((self.rest, ".000000"));
        }
        let offset_seconds = self.offset()?;
        Ok(Fields { date: [year, month, day], time: [hour, minute, second], nanos: nanos.unwrap_or(0), offset_seconds })
    }

    fn digits(&mut self, count: usize, element: &'static str) -> Result<i64, Failure<'a>> {
        let failure = (self.rest, element);
        let digits = self.rest.get(..count).ok_or(failure)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(failure);
        }
        self.rest = &self.rest[count..];
        digits.parse().map_err(|_| failure)
    }

    fn literal(&mut self, literal: &'static str) -> Result<(), Failure<'a>> {
        self.rest = self.rest.strip_prefix(literal).ok_or((self.rest, literal))?;
        Ok(())
    }

    fn fraction(&mut self) -> Option<u32> {
        let digits = self.rest.strip_prefix(['.', ','])?;
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return None;
        }
        self.rest = &digits[count..];
        let nanos: String = digits[..count].chars().chain("000000000".chars()).take(9).collect();
        nanos.parse().ok()
    }

    fn offset(&mut self) -> Result<i64, Failure<'a>> {
        const ELEMENT: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let start = self.rest;
        let failure = |_| (start, ELEMENT);
        let sign = match start.bytes().next() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err((start, ELEMENT)),
        };
        self.rest = &start[1..];
        let hours = self.digits(2, ELEMENT).map_err(failure)?;
        self.literal(":").map_err(failure)?;
        let minutes = self.digits(2, ELEMENT).map_err(failure)?;
        if hours > 24 || minutes > 60 { Err((start, ELEMENT)) } else { Ok(sign * (hours * 3600 + minutes * 60)) }
    }
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// Inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59+02:00", "2024-02-29T21:59:59Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z"),
            ("2026-11-20T13:15:00.123456-01:30", "2026-11-20T14:45:00Z"),
        ] {
            assert_eq!(parse(text, false).map(|(s, _)| seconds(s)).as_deref(), Ok(expected));
        }
        let micro = parse("2026-11-20T13:15:00.123456Z", true).expect("time");
        assert_eq!(micros(micro), "2026-11-20T13:15:00.123456Z");
        assert_eq!(seconds(ZERO_SECONDS), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn refuses_in_gos_words() {
        for (text, expected) in [
            ("soon", r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#),
            ("2024-02-30T00:00:00Z", r#"parsing time "2024-02-30T00:00:00Z": day out of range"#),
            (
                "2024-02-01 00:00:00Z",
                r#"parsing time "2024-02-01 00:00:00Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 00:00:00Z" as "T""#,
            ),
            ("2024-02-01T00:00:00Zz", r#"parsing time "2024-02-01T00:00:00Zz": extra text: "z""#),
        ] {
            assert_eq!(parse(text, false), Err(expected.to_owned()));
        }
    }
}
