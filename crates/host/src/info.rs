//! Facts of the machine.

use std::path::Path;

use crate::{Context, Result};

/// What a node reports about its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    pub hostname: String,
    /// CPUs this process may run on.
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    pub swap: u64,
    pub kernel_version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// Go's word for it: `amd64`.
    pub architecture: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
}

/// Size and use of a file system, in bytes and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FsStat {
    pub capacity: u64,
    /// Free for anyone but root's reserve.
    pub available: u64,
    pub used: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Reads the facts; what cannot be read is empty.
#[must_use]
pub fn machine() -> Machine {
    let uname = rustix::system::uname();
    let meminfo = read("/proc/meminfo");
    Machine {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory: meminfo_bytes(&meminfo, "MemTotal"),
        swap: meminfo_bytes(&meminfo, "SwapTotal"),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        os_image: os_image(),
        architecture: architecture().to_owned(),
        machine_id: first_of(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
        system_uuid: first_of(&["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]),
        boot_id: boot_id(),
    }
}

/// Changes with every boot of the machine.
#[must_use]
pub fn boot_id() -> String {
    first_of(&["/proc/sys/kernel/random/boot_id"])
}

/// Bytes that can be used without swapping.
#[must_use]
pub fn memory_available() -> u64 {
    meminfo_bytes(&read("/proc/meminfo"), "MemAvailable")
}

/// CPU time of all processes since the machine started, in nanoseconds.
#[must_use]
pub fn cpu_usage_nanos() -> u64 {
    /// `USER_HZ`, which is the same on all machines.
    const NANOS_PER_TICK: u64 = 1_000_000_000 / 100;
    let text = read("/proc/stat");
    let ticks =
        |line: &str| -> Vec<u64> { line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect() };
    match text.lines().next().map(ticks).as_deref() {
        // Everything but what nobody used. Source: proc(5).
        Some([user, nice, system, _idle, _iowait, irq, softirq, ..]) => {
            (user + nice + system + irq + softirq) * NANOS_PER_TICK
        }
        _ => 0,
    }
}

/// Process ids in use, and how many there are.
#[must_use]
pub fn process_ids() -> Option<(u64, u64)> {
    let max = read("/proc/sys/kernel/pid_max").trim().parse().ok()?;
    let load = read("/proc/loadavg");
    // Source: proc(5): "0.20 0.18 0.12 1/80 11206".
    let used = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((used, max))
}

/// Go's word for the architecture.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The file system that holds `path`.
pub fn statfs(path: &Path) -> Result<FsStat> {
    let stat = rustix::fs::statvfs(path).context(|| format!("stat the file system of {}", path.display()))?;
    Ok(FsStat {
        capacity: stat.f_blocks * stat.f_frsize,
        available: stat.f_bavail * stat.f_frsize,
        used: (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

/// Nanoseconds since the epoch.
#[must_use]
pub fn now_nanos() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

fn os_image() -> String {
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn meminfo_bytes(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find(|line| line.split(':').next() == Some(key));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn first_of(paths: &[&str]) -> String {
    paths.iter().map(|path| read(path).trim().to_owned()).find(|text| !text.is_empty()).unwrap_or_default()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_cpus_and_memory() {
        assert!(process_ids().is_some_and(|(used, max)| 0 < used && used < max));
        let machine = machine();
        assert!(machine.cpus > 0 && machine.memory > 0 && !machine.kernel_version.is_empty());
        assert!(statfs(Path::new("/")).unwrap().capacity > 0);
        assert_eq!(meminfo_bytes("MemTotal:       24 kB\n", "MemTotal"), 24 << 10);
    }
}
