//! PodTopologySpread: evenly over zones, hosts and the like.
//! Source: `pkg/scheduler/framework/plugins/podtopologyspread`.

use std::collections::BTreeMap;

use coracle_api_meta::selector::Requirement;
use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::api::core::v1::TopologySpreadConstraint;
use coracle_plan_core::select::{LabelSelector, compile_opt, matches};

use super::taint_toleration::tolerates;
use super::{POD_TOPOLOGY_SPREAD, SCORE_MAX, State, node_affinity};
use crate::cluster::Cluster;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

#[derive(Debug, Clone)]
struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: usize,
    selector: LabelSelector,
    /// The pod itself is one of those that are spread.
    self_match: bool,
    hard: bool,
    honor_affinity: bool,
    honor_taints: bool,
}

/// Matching pods in each place of each constraint.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    namespace: String,
    constraints: Vec<Constraint>,
    /// Per constraint: value of the key to count.
    places: Vec<BTreeMap<String, i64>>,
}

fn compile(constraint: &TopologySpreadConstraint, pod: &PodInfo) -> Constraint {
    let labels = pod.pod.metadata.labels.as_ref();
    let mut selector = compile_opt(constraint.label_selector.as_ref());
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.and_then(|labels| labels.get(key)) {
            selector.requirements.push(Requirement::Equals(key.clone(), value.clone()));
        }
    }
    Constraint {
        key: constraint.topology_key.clone(),
        max_skew: constraint.max_skew.into(),
        min_domains: constraint.min_domains.and_then(|count| count.try_into().ok()).unwrap_or(1),
        self_match: matches(&selector, labels),
        selector,
        hard: constraint.when_unsatisfiable == "DoNotSchedule",
        honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn counts_node(constraint: &Constraint, pod: &PodInfo, node: &NodeInfo) -> bool {
    let taints = node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerated = || {
        taints
            .iter()
            .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
            .all(|taint| tolerates(pod.tolerations(), taint))
    };
    (!constraint.honor_affinity || node_affinity::matches(pod, node)) && (!constraint.honor_taints || tolerated())
}

impl Counts {
    #[must_use]
    pub fn new(cluster: &Cluster, pod: &PodInfo) -> Self {
        let wanted = pod.spec().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default();
        let mut counts = Self {
            namespace: pod.pod.namespace().to_owned(),
            constraints: wanted.iter().map(|constraint| compile(constraint, pod)).collect(),
            places: vec![BTreeMap::new(); wanted.len()],
        };
        if wanted.is_empty() {
            return counts;
        }
        for node in cluster.nodes() {
            // A node counts only when it has the keys of all constraints of its kind.
            let has_keys = |hard: bool| {
                let mut own = counts.constraints.iter().filter(|constraint| constraint.hard == hard);
                own.all(|constraint| node.label(&constraint.key).is_some())
            };
            let (hard, soft) = (has_keys(true), has_keys(false));
            for (constraint, places) in counts.constraints.iter().zip(&mut counts.places) {
                let has_keys = if constraint.hard { hard } else { soft };
                let Some(value) = node.label(&constraint.key) else { continue };
                if has_keys && counts_node(constraint, pod, node) {
                    let own = node.pods.iter().filter(|other| is_counted(constraint, &counts.namespace, other)).count();
                    *places.entry(value.to_owned()).or_default() += i64::try_from(own).unwrap_or(i64::MAX);
                }
            }
        }
        counts
    }

    pub fn count(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        for (constraint, places) in self.constraints.iter().zip(&mut self.places) {
            let place = node.label(&constraint.key).and_then(|value| places.get_mut(value));
            if let Some(count) = place
                && is_counted(constraint, &self.namespace, other)
            {
                *count += by;
            }
        }
    }
}

fn is_counted(constraint: &Constraint, namespace: &str, other: &PodInfo) -> bool {
    other.pod.namespace() == namespace
        && !other.pod.is_deleting()
        && matches(&constraint.selector, other.pod.metadata.labels.as_ref())
}

pub fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    let counts = &state.spread;
    for (constraint, places) in counts.constraints.iter().zip(&counts.places).filter(|(own, _)| own.hard) {
        let Some(value) = node.label(&constraint.key) else {
            let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
            return Err(Rejection::unresolvable(POD_TOPOLOGY_SPREAD, reason));
        };
        let fewest =
            if places.len() < constraint.min_domains { 0 } else { places.values().copied().min().unwrap_or_default() };
        let here = places.get(value).copied().unwrap_or_default();
        if here + i64::from(constraint.self_match) - fewest > constraint.max_skew {
            let reason = "node(s) didn't match pod topology spread constraints";
            return Err(Rejection::unschedulable(POD_TOPOLOGY_SPREAD, reason));
        }
    }
    Ok(())
}

/// Fewer matching pods in the node's places score higher, 0 to 100.
#[must_use]
pub fn scores(state: &State<'_>, _pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let counts = &state.spread;
    if counts.constraints.iter().all(|constraint| constraint.hard) {
        return vec![0; nodes.len()];
    }
    let of = |node: &&NodeInfo| -> i64 {
        let soft = counts.constraints.iter().zip(&counts.places).filter(|(own, _)| !own.hard);
        soft.map(|(constraint, places)| {
            let value = node.label(&constraint.key);
            value.and_then(|value| places.get(value)).copied().unwrap_or_default() + constraint.max_skew - 1
        })
        .sum()
    };
    let raw: Vec<i64> = nodes.iter().map(of).collect();
    let (low, high) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    raw.into_iter().map(|score| if high == 0 { SCORE_MAX } else { SCORE_MAX * (high + low - score) / high }).collect()
}
