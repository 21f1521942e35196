//! What containers and pods use.

use coracle_cri::{ContainerStats, FsUsage, PodSandboxStats};
use coracle_host::{fs as host_fs, info, netns};

use crate::records::Phase;
use crate::runtime::{Container, Runtime, Sandbox};

impl Runtime {
    /// Reads the kernel's counters; blocks.
    pub(crate) fn stats_of(&self, container: &Container) -> ContainerStats {
        let record = &container.record;
        let usage = self.cgroups.group(&record.cgroup).map(|group| group.usage()).unwrap_or_default();
        let upper = self.folders.container(&record.id).join("upper");
        let (used_bytes, inodes_used) = host_fs::disk_usage(&upper);
        ContainerStats {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            name: record.config.metadata.name.clone(),
            timestamp: info::now_nanos(),
            cpu_usage_core_nanos: usage.cpu,
            memory_working_set: usage.memory_working_set,
            memory_usage: usage.memory,
            memory_rss: usage.memory_rss,
            writable_layer: FsUsage { mountpoint: upper.to_string_lossy().into_owned(), used_bytes, inodes_used },
            pids: usage.pids,
        }
    }

    /// Of sandboxes that run; blocks.
    pub(crate) fn sandbox_stats(&self, sandbox: &Sandbox) -> Option<PodSandboxStats> {
        let record = &sandbox.record;
        if record.phase != Phase::Ready {
            return None;
        }
        let group = self.cgroups.group(&record.config.linux.cgroup_parent);
        let usage = group.map(|group| group.usage()).unwrap_or_default();
        let counters = record.netns.as_ref().and_then(|path| {
            netns::run_in(path, || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default()).ok()
        });
        let (received, sent) = counters.map(|text| interface_bytes(&text, "eth0")).unwrap_or_default();
        Some(PodSandboxStats {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            timestamp: info::now_nanos(),
            cpu_usage_core_nanos: usage.cpu,
            memory_working_set: usage.memory_working_set,
            network_rx_bytes: received,
            network_tx_bytes: sent,
            pids: usage.pids,
        })
    }
}

/// Bytes received and sent. Source: proc(5) `/proc/net/dev`.
fn interface_bytes(text: &str, name: &str) -> (u64, u64) {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.into_iter().find(|(interface, _)| interface.trim() == name);
    let numbers =
        found.map(|(_, rest)| rest.split_whitespace().filter_map(|text| text.parse().ok()).collect::<Vec<u64>>());
    let numbers = numbers.unwrap_or_default();
    (numbers.first().copied().unwrap_or(0), numbers.get(8).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_interface_are_found() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 0 0 0 0 0 0 0 1 0\n  eth0: 10 1 0 0 0 0 0 0 20 2 0 0\n";
        assert_eq!(interface_bytes(text, "eth0"), (10, 20));
        assert_eq!(interface_bytes(text, "eth1"), (0, 0));
    }
}
