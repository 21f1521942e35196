//! NodeResourcesFit: enough of every resource, and rather where more is left (LeastAllocated).

use super::{NODE_RESOURCES_FIT, SCORE_MAX};
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Code, Rejection, Verdict};

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Verdict {
    let mut reasons = Vec::new();
    let mut code = Code::Unschedulable;
    let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if pods + 1 > node.allocatable.pods {
        reasons.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, wanted: i64, allocatable: i64, used: i64| {
        if wanted > 0 && wanted > allocatable - used {
            reasons.push(format!("Insufficient {name}"));
            if wanted > allocatable {
                code = Code::UnschedulableAndUnresolvable;
            }
        }
    };
    let (wanted, all, used) = (&pod.requests, &node.allocatable, &node.requested);
    check("cpu", wanted.milli_cpu, all.milli_cpu, used.milli_cpu);
    check("memory", wanted.memory, all.memory, used.memory);
    check("ephemeral-storage", wanted.ephemeral_storage, all.ephemeral_storage, used.ephemeral_storage);
    for (name, &amount) in &wanted.scalars {
        let of = |from: &crate::resources::Resources| from.scalars.get(name).copied().unwrap_or_default();
        check(name, amount, of(all), of(used));
    }
    if reasons.is_empty() { Ok(()) } else { Err(Rejection { code, plugin: NODE_RESOURCES_FIT, reasons }) }
}

/// Share that would be left of CPU and memory, 0 to 100.
#[must_use]
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let left = |capacity: i64, used: i64, wanted: i64| {
        let used = used.saturating_add(wanted);
        (capacity > 0).then(|| if used > capacity { 0 } else { (capacity - used) * SCORE_MAX / capacity })
    };
    let cpu = left(node.allocatable.milli_cpu, node.nonzero.milli_cpu, pod.nonzero.milli_cpu);
    let memory = left(node.allocatable.memory, node.nonzero.memory, pod.nonzero.memory);
    let parts: Vec<i64> = [cpu, memory].into_iter().flatten().collect();
    let count = i64::try_from(parts.len()).unwrap_or(1).max(1);
    parts.into_iter().sum::<i64>() / count
}
