//! Limits of a running pod as a whole. Source: KEP-1287.

use coracle_cri::LinuxContainerResources;
use coracle_host::cgroup::{Cgroups, Limits};

/// Resizing a pod takes two steps, with its containers in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing gets less yet.
    Grow,
    /// What is wanted, exactly.
    Settle,
}

/// Changes the limits of the group at `path`.
pub(crate) fn resize(path: &str, wanted: &LinuxContainerResources, step: Step) -> coracle_host::Result<()> {
    let groups = Cgroups::discover()?;
    let group = groups.group(path)?;
    if !group.exists() {
        return Ok(());
    }
    let now = group.limits();
    group.set(&limits(wanted, &now, step))
}

fn limits(wanted: &LinuxContainerResources, now: &Limits, step: Step) -> Limits {
    let or_none = |limit: i64| if limit > 0 { limit } else { -1 };
    let larger = |wanted: i64, now: i64| match (or_none(wanted), or_none(now)) {
        (-1, _) | (_, -1) => -1,
        (wanted, now) => wanted.max(now),
    };
    let (cpu_quota, memory) = match step {
        Step::Grow => (larger(wanted.cpu_quota, now.cpu_quota), larger(wanted.memory_limit, now.memory)),
        Step::Settle => (or_none(wanted.cpu_quota), or_none(wanted.memory_limit)),
    };
    Limits { cpu_shares: wanted.cpu_shares, cpu_quota, cpu_period: wanted.cpu_period, memory, ..Limits::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_grows_first_and_shrinks_last() {
        let wanted = LinuxContainerResources { cpu_quota: 20, memory_limit: 5, ..LinuxContainerResources::default() };
        let now = Limits { cpu_quota: 10, memory: 9, ..Limits::default() };
        let grown = limits(&wanted, &now, Step::Grow);
        assert_eq!((grown.cpu_quota, grown.memory), (20, 9));
        let settled = limits(&LinuxContainerResources { cpu_quota: 0, ..wanted }, &now, Step::Settle);
        assert_eq!((settled.cpu_quota, settled.memory), (-1, 5));
    }
}
