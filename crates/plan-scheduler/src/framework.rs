//! One scheduling cycle: which node, or why none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_plan_core::rng::Rng;

use crate::cluster::Cluster;
use crate::explain;
use crate::info::{NodeInfo, PodInfo};
use crate::plugins::{self, State};
use crate::preemption::{self, Nomination};
use crate::status::{Code, Rejection};

/// Nodes that are looked at in any case. Source: `minFeasibleNodesToFind`.
const FEASIBLE_NODES_MIN: usize = 100;

/// Outcome of a cycle.
#[derive(Debug, Clone)]
pub enum Decision {
    Bind {
        node: String,
        /// Claims whose volumes are chosen now: claim name and what to do.
        volumes: Vec<plugins::volume_binding::Choice>,
    },
    Reject(Box<Refusal>),
}

/// Why no node was found, and what was decided about it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// In upstream's words, for event and condition.
    pub message: String,
    /// Names of the plugins whose events could change the answer.
    pub plugins: BTreeSet<&'static str>,
    pub nomination: Nomination,
}

/// Per-node refusals of one cycle.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    pub by_node: BTreeMap<String, Rejection>,
    /// A refusal before any node was looked at.
    pub pre_filter: Option<Rejection>,
}

/// Decides where the pod goes.
#[must_use]
pub fn schedule(cluster: &Cluster, pod: &Arc<PodInfo>, rng: &mut Rng) -> Decision {
    if cluster.nodes().len() == 0 {
        return Decision::Reject(Box::new(Refusal {
            message: "no nodes available to schedule pods".to_owned(),
            plugins: BTreeSet::from([plugins::NODE_UNSCHEDULABLE]),
            nomination: Nomination::Clear,
        }));
    }
    let mut diagnosis = Diagnosis::default();
    let state = match State::new(cluster, pod) {
        Ok(state) => state,
        Err(rejection) => {
            diagnosis.pre_filter = Some(rejection);
            return refuse(cluster, pod, None, diagnosis);
        }
    };
    let feasible = find_feasible(cluster, &state, pod, &mut diagnosis, rng);
    match feasible.as_slice() {
        [] => refuse(cluster, pod, Some(&state), diagnosis),
        [only] => bind(cluster, pod, only),
        _ => bind(cluster, pod, best(&state, pod, &feasible, rng)),
    }
}

fn bind(cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> Decision {
    Decision::Bind { node: node.name().to_owned(), volumes: plugins::volume_binding::choose(cluster, pod, node) }
}

/// Source: `numFeasibleNodesToFind`.
fn enough(nodes: usize) -> usize {
    if nodes < FEASIBLE_NODES_MIN {
        return nodes;
    }
    let percentage = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percentage / 100).max(FEASIBLE_NODES_MIN)
}

fn find_feasible<'a>(
    cluster: &'a Cluster,
    state: &State<'_>,
    pod: &Arc<PodInfo>,
    diagnosis: &mut Diagnosis,
    rng: &mut Rng,
) -> Vec<&'a NodeInfo> {
    // A node that was made free for the pod is taken if it fits.
    if let Some((nominated, _)) = cluster.nominated.get(pod.pod.uid())
        && let Some(node) = cluster.node(nominated)
        && fits(cluster, state, pod, node).is_ok()
    {
        return vec![node];
    }
    let count = cluster.nodes().len();
    let wanted = enough(count);
    let start = if wanted < count { rng.below(count) } else { 0 };
    let mut feasible = Vec::new();
    for node in cluster.nodes().skip(start).chain(cluster.nodes().take(start)) {
        match fits(cluster, state, pod, node) {
            Ok(()) => feasible.push(node),
            Err(rejection) => drop(diagnosis.by_node.insert(node.name().to_owned(), rejection)),
        }
        if feasible.len() == wanted {
            break;
        }
    }
    feasible
}

/// Filters with and without the more important pods that wait for room on the node.
fn fits(cluster: &Cluster, state: &State<'_>, pod: &Arc<PodInfo>, node: &NodeInfo) -> Result<(), Rejection> {
    let waiting = cluster.nominated.iter().filter(|(uid, (name, other))| {
        name == node.name() && uid.as_str() != pod.pod.uid() && other.priority() >= pod.priority()
    });
    let mut crowded = None;
    for (_, (_, other)) in waiting {
        crowded.get_or_insert_with(|| node.clone()).add_pod(other.clone());
    }
    if let Some(crowded) = &crowded {
        plugins::filter(state, pod, crowded)?;
    }
    plugins::filter(state, pod, node)
}

fn best<'a>(state: &State<'_>, pod: &PodInfo, feasible: &[&'a NodeInfo], rng: &mut Rng) -> &'a NodeInfo {
    let scores = plugins::score(state, pod, feasible);
    let highest = scores.iter().max().copied().unwrap_or_default();
    let ties: Vec<&NodeInfo> =
        feasible.iter().zip(&scores).filter(|(_, score)| **score == highest).map(|(node, _)| *node).collect();
    ties.get(rng.below(ties.len())).copied().unwrap_or(feasible[0])
}

fn refuse(cluster: &Cluster, pod: &Arc<PodInfo>, state: Option<&State<'_>>, diagnosis: Diagnosis) -> Decision {
    let (nomination, note) = match state {
        Some(state) => preemption::try_preempt(cluster, state, pod, &diagnosis),
        None => preemption::not_helpful(cluster, pod),
    };
    let plugins = diagnosis.by_node.values().chain(&diagnosis.pre_filter).map(|rejection| rejection.plugin).collect();
    let message = explain::fit_error(cluster.nodes().len(), &diagnosis, &note);
    Decision::Reject(Box::new(Refusal { message, plugins, nomination }))
}

/// Whether removing pods from the node could help.
#[must_use]
pub fn is_resolvable(rejection: &Rejection) -> bool {
    rejection.code == Code::Unschedulable
}
