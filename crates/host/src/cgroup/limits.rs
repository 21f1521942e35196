//! Limits: what a group may use, written to and read from the kernel's files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Cgroup, read, write};
use crate::{Error, Result};

/// What a group may use; zero or empty where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// 2 to 262144, as v1 has it.
    pub cpu_shares: u64,
    /// Microseconds in each period; -1: no limit.
    pub cpu_quota: i64,
    pub cpu_period: u64,
    /// Bytes; -1: no limit. No swap on top.
    pub memory: i64,
    /// -1: no limit.
    pub pids: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Page size (`2MB`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// v2 files and their content.
    pub unified: Vec<(String, String)>,
}

/// Devices a group may use. `None`: any number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a`ll, `b`lock or `c`haracter.
    pub kind: char,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of `rwm`.
    pub access: String,
}

impl DeviceRule {
    fn new(kind: char, major: Option<u32>, minor: Option<u32>, access: &str) -> Self {
        Self { kind, major, minor, access: access.into() }
    }

    /// Everything.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![Self::new('a', None, None, "rwm")]
    }

    /// What every container may use: null, zero, full, random, urandom, tty, console, ptmx and terminals, and making
    /// any node. Source: OCI runtime specification, config-linux "Default Devices".
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let mut rules = vec![Self::new('c', None, None, "m"), Self::new('b', None, None, "m")];
        let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
        rules.extend(nodes.map(|(major, minor)| Self::new('c', Some(major), Some(minor), "rwm")));
        rules.push(Self::new('c', Some(136), None, "rwm"));
        rules
    }

    fn line(&self) -> String {
        let number = |part: Option<u32>| part.map_or_else(|| "*".to_owned(), |number| number.to_string());
        match self.kind {
            'a' => "a".to_owned(),
            kind => format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access),
        }
    }
}

impl Cgroup<'_> {
    /// Puts limits in force; what is zero or empty stays as it is.
    pub fn set(&self, limits: &Limits) -> Result<()> {
        self.set_cpu(limits)?;
        self.set_memory(limits.memory)?;
        self.set_number("pids", "pids.max", limits.pids)?;
        for (file, value) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
            if let (false, Some(folder)) = (value.is_empty(), self.folder_of("cpuset")) {
                write(&folder.join(file), value)?;
            }
        }
        for (size, bytes) in &limits.hugepages {
            let file = if self.all.is_v2() { "max" } else { "limit_in_bytes" };
            if let Some(folder) = self.folder_of("hugetlb") {
                write(&folder.join(format!("hugetlb.{size}.{file}")), &bytes.to_string())?;
            }
        }
        if let (true, Some(mount)) = (self.all.is_v2(), &self.all.unified) {
            for (file, value) in limits.unified.iter().filter(|(file, _)| !file.contains('/')) {
                write(&mount.join(&self.path).join(file), value)?;
            }
        }
        Ok(())
    }

    fn set_cpu(&self, limits: &Limits) -> Result<()> {
        let Some(folder) = self.folder_of("cpu") else { return Ok(()) };
        if self.all.is_v2() {
            if limits.cpu_shares > 0 {
                write(&folder.join("cpu.weight"), &weight_of_shares(limits.cpu_shares).to_string())?;
            }
            if limits.cpu_quota != 0 || limits.cpu_period > 0 {
                let quota = if limits.cpu_quota > 0 { limits.cpu_quota.to_string() } else { "max".to_owned() };
                let period = if limits.cpu_period > 0 { limits.cpu_period } else { 100_000 };
                write(&folder.join("cpu.max"), &format!("{quota} {period}"))?;
            }
            return Ok(());
        }
        if limits.cpu_shares > 0 {
            write(&folder.join("cpu.shares"), &limits.cpu_shares.to_string())?;
        }
        if limits.cpu_quota == 0 {
            return self.set_period(&folder, limits.cpu_period);
        }
        // The kernel checks quota and period together against the parent, so either order may be the one that fits.
        let quota = limits.cpu_quota.max(-1).to_string();
        self.set_period(&folder, limits.cpu_period).ok();
        write(&folder.join("cpu.cfs_quota_us"), &quota)?;
        self.set_period(&folder, limits.cpu_period)
    }

    fn set_period(&self, folder: &Path, period: u64) -> Result<()> {
        if period == 0 { Ok(()) } else { write(&folder.join("cpu.cfs_period_us"), &period.to_string()) }
    }

    fn set_memory(&self, bytes: i64) -> Result<()> {
        let Some(folder) = self.folder_of("memory").filter(|_| bytes != 0) else { return Ok(()) };
        let number = if bytes < 0 { "-1".to_owned() } else { bytes.to_string() };
        if self.all.is_v2() {
            let swap = folder.join("memory.swap.max");
            if bytes > 0 && swap.exists() {
                write(&swap, "0")?;
            }
            if bytes > 0 && folder.join("memory.oom.group").exists() {
                // Without this a container may live on with some of its processes gone.
                write(&folder.join("memory.oom.group"), "1")?;
            }
            return write(&folder.join("memory.max"), if bytes < 0 { "max" } else { &number });
        }
        let (memory, both) = (folder.join("memory.limit_in_bytes"), folder.join("memory.memsw.limit_in_bytes"));
        if !both.exists() {
            return write(&memory, &number);
        }
        // Memory with swap is never below memory: the order depends on whether the limit grows.
        if write(&memory, &number).is_ok() {
            return write(&both, &number);
        }
        write(&both, &number)?;
        write(&memory, &number)
    }

    fn set_number(&self, controller: &str, file: &str, value: i64) -> Result<()> {
        match self.folder_of(controller) {
            Some(folder) if value != 0 => {
                write(&folder.join(file), &if value < 0 { "max".to_owned() } else { value.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Restricts the devices of the group to those of `rules`.
    pub fn set_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        if rules.iter().any(|rule| rule.kind == 'a') {
            return Ok(());
        }
        if let Some(mount) = self.all.v1_mount("devices") {
            let folder = mount.join(&self.path);
            write(&folder.join("devices.deny"), "a")?;
            for rule in rules {
                write(&folder.join("devices.allow"), &rule.line())?;
            }
            return Ok(());
        }
        match &self.all.unified {
            Some(mount) => crate::device_filter::attach(&mount.join(&self.path), rules),
            None => Err(Error::new("restrict devices without a hierarchy", libc::ENOENT)),
        }
    }

    /// As [`Group::limits`]; where the kernel rounds shares to weights, those asked for are named if they are in force.
    #[must_use]
    pub fn limits_as_asked(&self, shares: u64) -> Limits {
        let mut limits = self.limits();
        if self.all.is_v2() && limits.cpu_shares != 0 && weight_of_shares(limits.cpu_shares) == weight_of_shares(shares)
        {
            limits.cpu_shares = shares;
        }
        limits
    }

    /// The limits in force, as the kernel has them; zero or empty where there is none.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let text = |controller: &str, file: &str| {
            let folder = self.folder_of(controller);
            folder.and_then(|folder| read(&folder.join(file)).ok()).unwrap_or_default().trim().to_owned()
        };
        let number = |controller: &str, file: &str| text(controller, file).parse::<i64>().unwrap_or(0);
        let mut limits = Limits {
            pids: number("pids", "pids.max"),
            cpuset_cpus: text("cpuset", "cpuset.cpus"),
            cpuset_mems: text("cpuset", "cpuset.mems"),
            ..Limits::default()
        };
        if self.all.is_v2() {
            limits.memory = number("memory", "memory.max");
            limits.cpu_shares = shares_of_weight(text("cpu", "cpu.weight").parse().unwrap_or(0));
            let max = text("cpu", "cpu.max");
            let (quota, period) = max.split_once(' ').unwrap_or_default();
            limits.cpu_quota = quota.parse().unwrap_or(0);
            limits.cpu_period = period.parse().unwrap_or(0);
        } else {
            let memory = number("memory", "memory.limit_in_bytes");
            limits.memory = if memory > i64::MAX - (1 << 20) { 0 } else { memory };
            limits.cpu_shares = text("cpu", "cpu.shares").parse().unwrap_or(0);
            limits.cpu_quota = number("cpu", "cpu.cfs_quota_us").max(0);
            limits.cpu_period = text("cpu", "cpu.cfs_period_us").parse().unwrap_or(0);
        }
        limits
    }
}

/// The v2 weight (1 to 10000) of v1 shares (2 to 262144); 1024 shares are 100. Source: KEP-2254, as runtimes convert
/// since 2025: 10^((log2(s)^2 + 125 log2(s)) / 612 - 7/34).
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // In range by the two arms above.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

/// The lowest shares that give the weight; 0 for 0.
fn shares_of_weight(weight: u64) -> u64 {
    if weight == 0 {
        return 0;
    }
    let (mut low, mut high) = (2_u64, 262_144_u64);
    while low < high {
        let middle = low.midpoint(high);
        if weight_of_shares(middle) < weight { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weights_convert() {
        let weights = [2, 3, 102, 512, 1024, 2048, 262_144].map(weight_of_shares);
        assert_eq!(weights, [1, 2, 17, 59, 100, 174, 10_000]);
        for shares in [2, 1000, 1024, 262_144] {
            assert_eq!(weight_of_shares(shares_of_weight(weight_of_shares(shares))), weight_of_shares(shares));
        }
    }

    #[test]
    fn device_lines_are_those_of_the_kernel() {
        let lines = DeviceRule::defaults().iter().map(DeviceRule::line).collect::<Vec<_>>();
        assert_eq!(lines.first().unwrap(), "c *:* m");
        assert_eq!(lines.last().unwrap(), "c 136:* rwm");
    }
}
