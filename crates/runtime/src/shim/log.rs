//! Container logs: `<time> <stream> <F|P> <text>`. Source: KEP-1977 and kubelet `pkg/kubelet/kuberuntime/logs`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use coracle_host::{Context, Result};

/// Longest text of one record; longer lines are cut into parts.
const LINE_BYTES_MAX: usize = 16 << 10;

/// The log file of a container. A record that cannot be written (full disk) is dropped, never waited for.
pub(super) struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Log {
    pub fn open(path: Option<PathBuf>) -> Result<Self> {
        let file = path.as_deref().map(append_to).transpose()?;
        Ok(Self { path, file })
    }

    /// Goes on in a new file of the same name, after a rotation renamed the old one.
    pub fn reopen(&mut self) -> Result<()> {
        self.file = self.path.as_deref().map(append_to).transpose()?;
        Ok(())
    }

    fn write(&mut self, records: &[u8]) {
        if let (Some(file), false) = (&mut self.file, records.is_empty()) {
            file.write_all(records).ok();
        }
    }
}

fn append_to(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.append(true).create(true).mode(0o640);
    options.open(path).context(|| format!("open log {}", path.display()))
}

/// Cuts one stream into records.
pub(super) struct Lines {
    stream: &'static str,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
}

impl Lines {
    pub fn new(stream: &'static str) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Writes what `bytes` completes.
    pub fn push(&mut self, bytes: &[u8], now: i64, log: &mut Log) {
        let mut records = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.rest.extend_from_slice(text);
            while self.rest.len() > LINE_BYTES_MAX {
                let tail = self.rest.split_off(LINE_BYTES_MAX);
                let head = std::mem::replace(&mut self.rest, tail);
                self.record(&mut records, &head, 'P', now);
            }
            if ended {
                let line = std::mem::take(&mut self.rest);
                self.record(&mut records, &line, 'F', now);
            }
        }
        log.write(&records);
    }

    /// Writes a last line that has no end.
    pub fn finish(&mut self, now: i64, log: &mut Log) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            let mut records = Vec::new();
            self.record(&mut records, &rest, 'P', now);
            log.write(&records);
        }
    }

    fn record(&self, to: &mut Vec<u8>, text: &[u8], tag: char, now: i64) {
        to.extend_from_slice(timestamp(now).as_bytes());
        to.extend_from_slice(format!(" {} {tag} ", self.stream).as_bytes());
        to.extend_from_slice(text);
        to.push(b'\n');
    }
}

/// RFC 3339 with nanoseconds, in UTC.
fn timestamp(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// The Gregorian date of a day since 1970: eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_full() {
        let check = |nanos, expected| assert_eq!(timestamp(nanos), expected);
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(1_709_164_800_000_000_001, "2024-02-29T00:00:00.000000001Z");
        check(1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn lines_are_cut_and_completed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(Some(path.clone())).unwrap();
        let mut lines = Lines::new("stdout");
        lines.push(b"one\ntw", 0, &mut log);
        lines.push(b"o\n\n", 0, &mut log);
        lines.push(&[b'x'; LINE_BYTES_MAX + 1], 0, &mut log);
        lines.finish(0, &mut log);
        let text = std::fs::read_to_string(path).unwrap();
        let shown = text.replace("1970-01-01T00:00:00.000000000Z ", "").replace(&"x".repeat(LINE_BYTES_MAX), "xxx");
        assert_eq!(shown, "stdout F one\nstdout F two\nstdout F \nstdout P xxx\nstdout P x\n");
    }
}
