//! Requests and limits as the kernel takes them.

use std::collections::BTreeMap;

use coracle_api_meta::Quantity;
use coracle_cri::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::{is_sidecar, qos};

pub type ResourceList = BTreeMap<String, ApiQuantity>;

/// Microseconds.
pub const CPU_PERIOD: u64 = 100_000;
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
/// Microseconds; the kernel takes no less.
const QUOTA_MIN: i64 = 1_000;
/// Below these the kernel's values stay the same, so that status repeats what was asked.
pub(crate) const MILLI_CPU_LIMIT_MIN: i64 = 10;

/// Source: kubelet `MilliCPUToShares`.
#[must_use]
pub fn cpu_shares(milli: i64) -> u64 {
    let milli = u64::try_from(milli).unwrap_or(0);
    (milli.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

/// Source: kubelet `MilliCPUToQuota`; 0 for no limit.
#[must_use]
pub fn cpu_quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * 100).max(QUOTA_MIN) }
}

#[must_use]
pub fn quantity(list: Option<&ResourceList>, name: &str) -> Option<Quantity> {
    Quantity::parse(&list?.get(name)?.0).ok()
}

fn requests(resources: Option<&ResourceRequirements>) -> Option<&ResourceList> {
    resources?.requests.as_ref()
}

fn limits(resources: Option<&ResourceRequirements>) -> Option<&ResourceList> {
    resources?.limits.as_ref()
}

fn milli(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    quantity(list, name).map(|quantity| quantity.milli_value())
}

fn value(list: Option<&ResourceList>, name: &str) -> i64 {
    quantity(list, name).map_or(0, |quantity| quantity.value())
}

/// What the runtime is told about a container.
#[must_use]
pub fn container_resources(pod: &Pod, container: &Container, memory_capacity: i64) -> LinuxContainerResources {
    let own = container.resources.as_ref();
    let pod_level = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let cpu_limit = milli(limits(own), "cpu").or_else(|| milli(limits(pod_level), "cpu")).unwrap_or(0);
    let memory_limit = match value(limits(own), "memory") {
        0 => value(limits(pod_level), "memory"),
        bytes => bytes,
    };
    let shares_from = milli(requests(own), "cpu").or_else(|| milli(limits(own), "cpu")).unwrap_or(0);
    LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: cpu_quota(cpu_limit),
        cpu_shares: cpu_shares(shares_from),
        memory_limit,
        oom_score_adj: qos::oom_score_adj(pod, container, memory_capacity),
        hugepage_limits: hugepages(limits(own)),
        ..LinuxContainerResources::default()
    }
}

fn hugepages(limits: Option<&ResourceList>) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for (name, amount) in limits.into_iter().flatten() {
        let Some(size) = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok()) else { continue };
        let Ok(bytes) = Quantity::parse(&amount.0) else { continue };
        let mebibytes = size.value() >> 20;
        let name = if mebibytes >= 1024 { format!("{}GB", mebibytes >> 10) } else { format!("{mebibytes}MB") };
        found.push((name, u64::try_from(bytes.value()).unwrap_or(0)));
    }
    found
}

/// What is set on the cgroup of the pod as a whole. Source: kubelet `ResourceConfigForPod`.
#[must_use]
pub fn pod_resources(pod: &Pod) -> LinuxContainerResources {
    let asked = pod_requests(pod);
    let limit = pod_limits(pod);
    let cpu_request = milli(Some(&asked), "cpu").unwrap_or(0);
    let mut resources = LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_shares: cpu_shares(cpu_request),
        ..LinuxContainerResources::default()
    };
    if let Some(cpu) = limit.cpu {
        resources.cpu_quota = cpu_quota(cpu);
    }
    if let Some(memory) = limit.memory {
        resources.memory_limit = memory;
    }
    resources
}

/// Limits of a pod; `None` where some container has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PodLimits {
    /// Thousandths.
    cpu: Option<i64>,
    /// Bytes.
    memory: Option<i64>,
}

fn pod_limits(pod: &Pod) -> PodLimits {
    let Some(spec) = &pod.spec else { return PodLimits::default() };
    let pod_level = limits(spec.resources.as_ref());
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let limit_of = |container: &Container, name: &str| quantity(limits(container.resources.as_ref()), name);
    let whole = |name: &str| -> Option<Quantity> {
        if let Some(own) = quantity(pod_level, name) {
            return Some(own);
        }
        let sidecars = init.iter().filter(|container| is_sidecar(container));
        let running = spec.containers.iter().chain(sidecars);
        let mut sum = Quantity::ZERO;
        for container in running {
            sum = sum.plus(&limit_of(container, name).filter(|quantity| !quantity.is_zero())?);
        }
        for container in init.iter().filter(|container| !is_sidecar(container)) {
            sum = sum.max(limit_of(container, name).filter(|quantity| !quantity.is_zero())?);
        }
        let overhead = quantity(spec.overhead.as_ref(), name);
        Some(overhead.map_or(sum, |overhead| sum.plus(&overhead)))
    };
    PodLimits { cpu: whole("cpu").map(|q| q.milli_value()), memory: whole("memory").map(|q| q.value()) }
}

/// What a pod asks for as a whole: the larger of what runs together and what an init container needs, plus overhead.
/// Source: KEP-753, `component-helpers/resource`.
#[must_use]
pub fn pod_requests(pod: &Pod) -> ResourceList {
    let Some(spec) = &pod.spec else { return ResourceList::new() };
    let mut running = Sums::default();
    for container in &spec.containers {
        running.add(requests(container.resources.as_ref()));
    }
    let mut init_max = Sums::default();
    let mut sidecars = Sums::default();
    for container in spec.init_containers.as_deref().unwrap_or_default() {
        let asked = requests(container.resources.as_ref());
        if is_sidecar(container) {
            running.add(asked);
            sidecars.add(asked);
            init_max.max(&sidecars);
        } else {
            let mut together = sidecars.clone();
            together.add(asked);
            init_max.max(&together);
        }
    }
    running.max(&init_max);
    for (name, amount) in requests(spec.resources.as_ref()).into_iter().flatten() {
        if let Ok(quantity) = Quantity::parse(&amount.0) {
            running.0.insert(name.clone(), quantity);
        }
    }
    running.add(spec.overhead.as_ref());
    running.0.into_iter().map(|(name, quantity)| (name, ApiQuantity(quantity.to_string()))).collect()
}

#[derive(Clone, Default)]
struct Sums(BTreeMap<String, Quantity>);

impl Sums {
    fn add(&mut self, list: Option<&ResourceList>) {
        for (name, amount) in list.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&amount.0) else { continue };
            let sum = self.0.get(name).map_or(quantity, |sum| sum.plus(&quantity));
            self.0.insert(name.clone(), sum);
        }
    }

    fn max(&mut self, other: &Self) {
        for (name, quantity) in &other.0 {
            let larger = self.0.get(name).map_or(*quantity, |own| (*own).max(*quantity));
            self.0.insert(name.clone(), larger);
        }
    }
}

/// Whether the limits in force differ from those wanted, as far as a resize can change them.
#[must_use]
pub fn differs(actual: &LinuxContainerResources, wanted: &LinuxContainerResources) -> bool {
    // A runtime that reports nothing cannot be compared with.
    if actual.cpu_shares == 0 && actual.cpu_quota == 0 && actual.memory_limit == 0 {
        return false;
    }
    let quota = |resources: &LinuxContainerResources| resources.cpu_quota.max(0);
    let memory = |resources: &LinuxContainerResources| resources.memory_limit.max(0);
    (actual.cpu_shares != 0 && actual.cpu_shares != wanted.cpu_shares)
        || quota(actual) != quota(wanted)
        || !is_same_memory(memory(actual), memory(wanted))
}

/// The kernel keeps whole pages, of 64 KiB at most.
pub(crate) fn is_same_memory(actual: i64, wanted: i64) -> bool {
    const PAGE_BYTES_MAX: u64 = 64 << 10;
    actual == wanted || (actual > 0 && wanted > 0 && actual.abs_diff(wanted) < PAGE_BYTES_MAX)
}

/// Limits that are in force and no longer wanted are lifted by saying so: the kernel's word for none is -1.
pub(crate) fn lifting(
    mut wanted: LinuxContainerResources,
    actual: &LinuxContainerResources,
) -> LinuxContainerResources {
    if wanted.cpu_quota == 0 && actual.cpu_quota > 0 {
        wanted.cpu_quota = -1;
    }
    if wanted.memory_limit == 0 && actual.memory_limit > 0 {
        wanted.memory_limit = -1;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_of_shares_count() {
        let shares = |cpu_shares| LinuxContainerResources { cpu_shares, ..LinuxContainerResources::default() };
        assert!(differs(&shares(20), &shares(25)));
        assert!(!differs(&shares(20), &shares(20)));
    }

    #[test]
    fn limits_of_memory_are_whole_pages() {
        let with = |memory_limit| LinuxContainerResources { memory_limit, ..LinuxContainerResources::default() };
        let check = |actual, wanted| differs(&with(actual), &with(wanted));
        assert!(!check(12_290_844 << 10, 12_290_846 << 10));
        assert!(check(64 << 20, 65 << 20) && check(64 << 20, 0));
    }

    #[test]
    fn kernel_units() {
        assert_eq!([0, 1, 2, 100, 1000, 1_000_000].map(cpu_shares), [2, 2, 2, 102, 1024, 262_144]);
        assert_eq!([0, 1, 10, 100, 1500].map(cpu_quota), [0, 1000, 1000, 10_000, 150_000]);
    }
}
