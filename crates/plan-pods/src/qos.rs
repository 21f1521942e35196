//! Quality of service: class, cgroup and OOM score.

use coracle_api_meta::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use crate::is_sidecar;

type List = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// Name of its cgroup below the root one; none for `Guaranteed`.
    #[must_use]
    pub fn cgroup(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }
}

/// The class that the API server wrote, else computed anew.
#[must_use]
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => compute(pod),
    }
}

const COUNTED: [&str; 2] = ["cpu", "memory"];

fn amount(list: Option<&List>, name: &str) -> Option<Quantity> {
    let quantity = Quantity::parse(&list?.get(name)?.0).ok()?;
    (!quantity.is_zero()).then_some(quantity)
}

fn compute(pod: &Pod) -> QosClass {
    let Some(spec) = &pod.spec else { return QosClass::BestEffort };
    let pod_level =
        spec.resources.iter().filter(|resources| resources.limits.is_some() || resources.requests.is_some());
    let pod_level: Vec<&ResourceRequirements> = pod_level.collect();
    let all = if pod_level.is_empty() {
        let init = spec.init_containers.as_deref().unwrap_or_default();
        spec.containers.iter().chain(init).map(|container| container.resources.as_ref()).collect()
    } else {
        pod_level.into_iter().map(Some).collect::<Vec<_>>()
    };
    let any = all.iter().flatten().any(|resources| {
        COUNTED.iter().any(|name| {
            amount(resources.requests.as_ref(), name).is_some() || amount(resources.limits.as_ref(), name).is_some()
        })
    });
    if !any {
        return QosClass::BestEffort;
    }
    let guaranteed = all.iter().all(|resources| {
        COUNTED.iter().all(|name| {
            let Some(resources) = resources else { return false };
            let Some(limit) = amount(resources.limits.as_ref(), name) else { return false };
            amount(resources.requests.as_ref(), name).is_none_or(|request| request == limit)
        })
    });
    if guaranteed { QosClass::Guaranteed } else { QosClass::Burstable }
}

/// Priority from which a pod counts as critical for its node. Source: `scheduling.SystemCriticalPriority`.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

#[must_use]
pub fn is_critical(pod: &Pod) -> bool {
    use coracle_api_types::Object;
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    priority >= SYSTEM_CRITICAL_PRIORITY
        || pod.annotation("kubernetes.io/config.source").is_some_and(|source| source != "api")
        || pod.annotation("kubernetes.io/config.mirror").is_some()
}

const GUARANTEED_SCORE: i64 = -997;
const BEST_EFFORT_SCORE: i64 = 1000;

/// How eagerly the kernel kills the container's processes when memory runs out. Source: kubelet `qos` policy.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    let score = match qos_class(pod) {
        _ if is_node_critical(pod) => GUARANTEED_SCORE,
        QosClass::Guaranteed => GUARANTEED_SCORE,
        QosClass::BestEffort => BEST_EFFORT_SCORE,
        QosClass::Burstable => burstable_score(pod, container, memory_capacity.max(1)),
    };
    i32::try_from(score).unwrap_or(1000)
}

fn is_node_critical(pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    is_critical(pod) && class == Some("system-node-critical")
}

fn memory_request(container: &Container) -> i64 {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    amount(requests, "memory").map_or(0, |quantity| quantity.value())
}

fn burstable_score(pod: &Pod, container: &Container, capacity: i64) -> i64 {
    let score_of =
        |request: i64| 1000 - i64::try_from(i128::from(request) * 1000 / i128::from(capacity)).unwrap_or(1000);
    let share = unassigned_share(pod);
    let mut score = score_of(memory_request(container) + share);
    if is_sidecar(container) {
        let regular = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let least = regular.iter().map(memory_request).min().unwrap_or(0);
        score = score.min(score_of(least + share));
    }
    score.clamp(1000 + GUARANTEED_SCORE, BEST_EFFORT_SCORE - 1)
}

/// What a pod asks for as a whole beyond its containers, in equal parts. Source: KEP-2837.
fn unassigned_share(pod: &Pod) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let Some(whole) = amount(requests, "memory") else { return 0 };
    let sidecars = spec.init_containers.as_deref().unwrap_or_default().iter().filter(|container| is_sidecar(container));
    let all: Vec<&Container> = spec.containers.iter().chain(sidecars).collect();
    let assigned: i64 = all.iter().map(|container| memory_request(container)).sum();
    let count = i64::try_from(all.len()).unwrap_or(1).max(1);
    (whole.value() - assigned).max(0) / count
}
