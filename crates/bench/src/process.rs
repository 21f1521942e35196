//! CPU time and memory of other processes, from `/proc`.

use anyhow::{Context as _, Result};

/// Clock ticks of `/proc/<pid>/stat`; 100 a second on every Linux we run on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system seconds of all the processes together.
pub fn cpu_seconds(pids: &[u32]) -> Result<Option<f64>> {
    if pids.is_empty() {
        return Ok(None);
    }
    let mut total = 0.0;
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        total += ticks(&text).with_context(|| format!("process {pid}: cannot read its CPU time"))? / TICKS_PER_SECOND;
    }
    Ok(Some(total))
}

/// Fields 14 and 15; the name in field 2 may hold spaces, so counting starts behind it.
fn ticks(stat: &str) -> Option<f64> {
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident bytes of all the processes together.
pub fn resident_bytes(pids: &[u32]) -> Option<u64> {
    pids.iter()
        .map(|pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_figures_can_be_read() {
        let own = [std::process::id()];
        assert!(cpu_seconds(&own).expect("stat").is_some());
        assert!(resident_bytes(&own).is_some_and(|bytes| bytes > 0));
        assert_eq!(ticks("1 (a b) c) S 1 1 1 0 -1 4 1 0 0 0 30 12 0 0 20"), Some(42.0));
    }
}
