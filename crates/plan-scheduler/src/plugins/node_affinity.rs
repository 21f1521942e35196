//! NodeAffinity: `nodeSelector` and node affinity.

use std::collections::BTreeSet;

use coracle_api_types::k8s_openapi::api::core::v1::{NodeAffinity, NodeSelector};
use coracle_plan_core::node;

use super::NODE_AFFINITY;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

/// One of the terms must match.
#[must_use]
pub fn selector_matches(selector: &NodeSelector, node: &NodeInfo) -> bool {
    node::selector_matches(selector, &node.node)
}

fn affinity(pod: &PodInfo) -> Option<&NodeAffinity> {
    pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether `nodeSelector` and required node affinity allow the node.
#[must_use]
pub fn matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.spec().is_none_or(|spec| node::affinity_allows(spec, &node.node))
}

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Verdict {
    if matches(pod, node) {
        return Ok(());
    }
    Err(Rejection::unresolvable(NODE_AFFINITY, "node(s) didn't match Pod's node affinity/selector"))
}

/// The nodes that required affinity names by `metadata.name`, when every term does.
#[must_use]
pub fn named_nodes(pod: &PodInfo) -> Option<Vec<String>> {
    let required = affinity(pod)?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut names = BTreeSet::new();
    for term in &required.node_selector_terms {
        let mut own: Option<BTreeSet<String>> = None;
        for field in term.match_fields.iter().flatten() {
            if field.key == "metadata.name" && field.operator == "In" {
                let listed: BTreeSet<String> = field.values.iter().flatten().cloned().collect();
                own = Some(own.map_or(listed.clone(), |before| before.intersection(&listed).cloned().collect()));
            }
        }
        names.extend(own?);
    }
    Some(names.into_iter().collect())
}

/// Sum of the weights of preferred terms that match.
#[must_use]
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let preferred = affinity(pod).and_then(|own| own.preferred_during_scheduling_ignored_during_execution.as_ref());
    preferred
        .into_iter()
        .flatten()
        .filter(|preferred| node::term_matches(&preferred.preference, &node.node))
        .map(|preferred| i64::from(preferred.weight))
        .sum()
}
