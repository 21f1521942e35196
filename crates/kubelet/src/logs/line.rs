//! One line of a log file.

/// Parts of a log line, borrowed from the file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// RFC 3339 with nanoseconds.
    pub(crate) time: &'a str,
    pub(crate) stderr: bool,
    /// With its newline, which partial lines lack.
    pub(crate) text: &'a [u8],
    pub(crate) ends_line: bool,
}

/// Reads `<time> <stream> <tag> <text>\n`; `None` for anything else. Source: CRI log format.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let tags = parts.next()?;
    let text = parts.next()?;
    let ends_line = tags.split(|&byte| byte == b':').next() == Some(b"F");
    let text = if ends_line { text } else { text.strip_suffix(b"\n").unwrap_or(text) };
    if !time.ends_with('Z') && !time.contains('+') && time.matches('-').count() < 3 {
        return None;
    }
    Some(Entry { time, stderr, text, ends_line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let full = parse(b"2026-11-20T13:00:00.1Z stdout F hello world\n").expect("entry");
        assert_eq!((full.stderr, full.text, full.ends_line), (false, &b"hello world\n"[..], true));
        let partial = parse(b"2026-11-20T13:00:00.1Z stderr P part\n").expect("entry");
        assert_eq!((partial.stderr, partial.text, partial.ends_line), (true, &b"part"[..], false));
        assert_eq!(parse(b"2026-11-20T13:00:00.1Z stdout F \n").map(|entry| entry.text), Some(&b"\n"[..]));
        for bad in [&b""[..], b"x", b"2026-11-20T13:00:00.1Z stdin F a\n", b"x stdout F a\n"] {
            assert_eq!(parse(bad), None);
        }
    }
}
