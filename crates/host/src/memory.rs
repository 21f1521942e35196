//! Memory of this process: what it can give back.

use std::ops::Range;

use crate::{Context, Result};

/// Unmaps the program's own code and constants, so that only what is used from now on is resident: starting touches far
/// more than idling does. What is needed again comes back from the page cache. Returns the bytes of the mappings.
pub fn give_back_program() -> Result<usize> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").context(|| "read /proc/self/smaps".to_owned())?;
    let program = std::fs::read_link("/proc/self/exe").context(|| "find this program".to_owned())?;
    let mut bytes = 0;
    for Range { start, end } in clean_ranges(&smaps, &program.to_string_lossy()) {
        // SAFETY: the range is a mapping of this program's file that cannot be written, and no page of it differs from
        // the file (see `clean_ranges`). Dropped pages are read from the file again when they are touched, with the
        // same contents. The address is the kernel's own and only handed back to the kernel.
        let result =
            unsafe { libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
        if result != 0 {
            return Err(std::io::Error::last_os_error()).context(|| "give back memory".to_owned());
        }
        bytes += end - start;
    }
    Ok(bytes)
}

/// Mappings of `program` that are read-only and the same as the file.
fn clean_ranges(smaps: &str, program: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current: Option<Range<usize>> = None;
    for line in smaps.lines() {
        if let Some((range, permissions, path)) = mapping(line) {
            current = (path == program && !permissions.contains('w')).then_some(range);
        } else if let Some(rest) = line.strip_prefix("Anonymous:")
            && let Some(range) = current.take()
            && rest.split_whitespace().next() == Some("0")
        {
            // Pages that were written while that was possible, such as relocated pointers, are not the file's any more.
            found.push(range);
        }
    }
    found
}

/// Addresses, permissions and path of an entry's first line. Source: proc(5) `/proc/pid/maps`.
fn mapping(line: &str) -> Option<(Range<usize>, &str, &str)> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    Some((range, words.next()?, words.nth(3).unwrap_or_default().trim_start()))
}

/// Processor time of this process so far, in clock ticks.
#[must_use]
pub fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name in parentheses and may hold anything; `utime` and `stime` are the 14th and 15th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_mappings_of_the_program_are_named() {
        let smaps = "\
55d0-55e0 r--p 00000000 fe:00 123                        /bin/program
Size:  4 kB
Anonymous:             0 kB
55e0-55f0 r-xp 00001000 fe:00 123                        /bin/program
Anonymous:             0 kB
55f0-5600 r--p 00002000 fe:00 123                        /bin/program
Anonymous:             8 kB
5600-5610 rw-p 00003000 fe:00 123                        /bin/program
Anonymous:             0 kB
7000-7010 r-xp 00000000 fe:00 124                        /lib/other
Anonymous:             0 kB
7f00-7f10 rw-p 00000000 00:00 0
Anonymous:             4 kB
";
        assert_eq!(clean_ranges(smaps, "/bin/program"), vec![0x55d0..0x55e0, 0x55e0..0x55f0]);
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        assert!(give_back_program().unwrap() > 0);
        assert_eq!(std::hint::black_box("constants").len(), 9);
        assert!(processor_ticks() < u64::MAX);
    }
}
