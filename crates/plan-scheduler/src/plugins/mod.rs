//! The plugins, under upstream's names and in upstream's order, and what they share within one cycle.

pub mod balanced_allocation;
pub mod fit;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_unschedulable;
pub mod taint_toleration;
pub mod topology_spread;
pub mod volume_binding;

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

pub const NODE_UNSCHEDULABLE: &str = "NodeUnschedulable";
pub const NODE_NAME: &str = "NodeName";
pub const TAINT_TOLERATION: &str = "TaintToleration";
pub const NODE_AFFINITY: &str = "NodeAffinity";
pub const NODE_PORTS: &str = "NodePorts";
pub const NODE_RESOURCES_FIT: &str = "NodeResourcesFit";
pub const VOLUME_BINDING: &str = "VolumeBinding";
pub const POD_TOPOLOGY_SPREAD: &str = "PodTopologySpread";
pub const INTER_POD_AFFINITY: &str = "InterPodAffinity";
pub const SCHEDULING_GATES: &str = "SchedulingGates";

/// Highest score of one plugin.
pub const SCORE_MAX: i64 = 100;

/// What is worked out once per cycle, before nodes are looked at.
#[derive(Debug, Clone)]
pub struct State<'a> {
    pub cluster: &'a Cluster,
    pub affinity: inter_pod_affinity::Counts,
    pub spread: topology_spread::Counts,
    pub volumes: volume_binding::Needs,
    pub node_names: Option<Vec<String>>,
}

impl<'a> State<'a> {
    /// Fails when no node can do.
    pub fn new(cluster: &'a Cluster, pod: &Arc<PodInfo>) -> Result<Self, Rejection> {
        Ok(Self {
            cluster,
            affinity: inter_pod_affinity::Counts::new(cluster, pod),
            spread: topology_spread::Counts::new(cluster, pod),
            volumes: volume_binding::Needs::new(cluster, pod)?,
            node_names: node_affinity::named_nodes(pod),
        })
    }

    /// A pod came to a node (`by` is 1) or left it (-1) in a trial.
    pub fn count_pod(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        self.affinity.count(pod, node, by);
        self.spread.count(pod, node, by);
    }
}

/// The first refusal in upstream's order.
pub fn filter(state: &State<'_>, pod: &PodInfo, node: &NodeInfo) -> Verdict {
    if let Some(names) = &state.node_names
        && !names.iter().any(|name| name == node.name())
    {
        return Err(Rejection::unresolvable(NODE_AFFINITY, "node(s) didn't satisfy plugin(s) [NodeAffinity]"));
    }
    node_unschedulable::filter(pod, node)?;
    node_name::filter(pod, node)?;
    taint_toleration::filter(pod, node)?;
    node_affinity::filter(pod, node)?;
    node_ports::filter(pod, node)?;
    fit::filter(pod, node)?;
    volume_binding::filter(state, node)?;
    topology_spread::filter(state, node)?;
    inter_pod_affinity::filter(state, pod, node)
}

/// The weighted sum for each node, in the nodes' order.
#[must_use]
pub fn score(state: &State<'_>, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let each = |score: &dyn Fn(&NodeInfo) -> i64| nodes.iter().map(|node| score(node)).collect::<Vec<_>>();
    let parts: [(i64, Vec<i64>); 7] = [
        (3, normalize(each(&|node| taint_toleration::score(pod, node)), true)),
        (2, normalize(each(&|node| node_affinity::score(pod, node)), false)),
        (1, each(&|node| fit::score(pod, node))),
        (2, topology_spread::scores(state, pod, nodes)),
        (2, inter_pod_affinity::scores(state, pod, nodes)),
        (1, each(&|node| balanced_allocation::score(pod, node))),
        (1, each(&|node| image_locality::score(state, pod, node))),
    ];
    let mut totals = vec![0; nodes.len()];
    for (weight, scores) in parts {
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    }
    totals
}

/// Stretches scores to 0..=100. Source: `helper.DefaultNormalizeScore`.
pub(crate) fn normalize(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or_default();
    for score in &mut scores {
        *score = if highest == 0 { 0 } else { *score * SCORE_MAX / highest };
        if reverse {
            *score = SCORE_MAX - *score;
        }
    }
    scores
}
