//! What a group has used, and how often it ran out of memory.

use super::{Cgroup, read};

/// Use of a group since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds.
    pub cpu: u64,
    /// Bytes now.
    pub memory: u64,
    /// Bytes less those of inactive file pages, which the kernel takes back first.
    pub memory_working_set: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    pub pids: u64,
}

impl Cgroup<'_> {
    /// What the group uses; zero where the kernel does not say.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let v2 = self.all.is_v2();
        let text = |controller: &str, file: &str| {
            self.folder_of(controller).and_then(|folder| read(&folder.join(file)).ok()).unwrap_or_default()
        };
        let number = |controller: &str, file: &str| text(controller, file).trim().parse::<u64>().unwrap_or(0);
        let stat = text("memory", "memory.stat");
        let cpu =
            if v2 { field(&text("cpu", "cpu.stat"), "usage_usec") * 1000 } else { number("cpuacct", "cpuacct.usage") };
        let memory = number("memory", if v2 { "memory.current" } else { "memory.usage_in_bytes" });
        let inactive = field(&stat, if v2 { "inactive_file" } else { "total_inactive_file" });
        let rss = field(&stat, if v2 { "anon" } else { "total_rss" });
        Usage {
            cpu,
            memory,
            memory_working_set: memory.saturating_sub(inactive),
            memory_rss: rss,
            pids: number("pids", "pids.current"),
        }
    }

    /// Processes of the group that the kernel killed for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let file = if self.all.is_v2() { "memory.events" } else { "memory.oom_control" };
        let folder = self.folder_of("memory");
        folder.and_then(|folder| read(&folder.join(file)).ok()).map_or(0, |text| field(&text, "oom_kill"))
    }
}

/// The number behind `key` in lines of `key number`.
fn field(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, number)| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), 3);
        assert_eq!(field("", "oom_kill"), 0);
    }
}
