//! NodeResourcesBalancedAllocation: rather where CPU and memory are used alike.

use super::SCORE_MAX;
use crate::info::{NodeInfo, PodInfo};

/// 100 when both would be used to the same share.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // Shares need no more precision.
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let share = |capacity: i64, used: i64, wanted: i64| {
        (capacity > 0).then(|| ((used + wanted) as f64 / capacity as f64).min(1.0))
    };
    let cpu = share(node.allocatable.milli_cpu, node.requested.milli_cpu, pod.requests.milli_cpu);
    let memory = share(node.allocatable.memory, node.requested.memory, pod.requests.memory);
    let spread = match (cpu, memory) {
        (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - spread) * SCORE_MAX as f64) as i64
}
