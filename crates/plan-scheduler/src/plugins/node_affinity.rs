//! NodeAffinity: `nodeSelector` and node affinity.

use std::collections::BTreeSet;

use coracle_api_types::k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};

use super::NODE_AFFINITY;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|own| own == value);
    let number = |text: &str| text.parse::<i64>().ok();
    match (requirement.operator.as_str(), value) {
        ("In", Some(value)) => listed(value),
        ("NotIn", value) => value.is_none_or(|value| !listed(value)),
        ("Exists", value) => value.is_some(),
        ("DoesNotExist", value) => value.is_none(),
        ("Gt" | "Lt", Some(value)) => match (number(value), values.first().and_then(|bound| number(bound))) {
            (Some(value), Some(bound)) if requirement.operator == "Gt" => value > bound,
            (Some(value), Some(bound)) => value < bound,
            _ => false,
        },
        _ => false,
    }
}

/// A term without requirements matches nothing.
#[must_use]
pub fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let by_label = |requirement: &NodeSelectorRequirement| holds(requirement, node.label(&requirement.key));
    let by_field = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && holds(requirement, Some(node.name()))
    };
    !(expressions.is_empty() && fields.is_empty()) && expressions.iter().all(by_label) && fields.iter().all(by_field)
}

/// One of the terms must match.
#[must_use]
pub fn selector_matches(selector: &NodeSelector, node: &NodeInfo) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

fn affinity(pod: &PodInfo) -> Option<&NodeAffinity> {
    pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether `nodeSelector` and required node affinity allow the node.
#[must_use]
pub fn matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    let labels = pod.spec().and_then(|spec| spec.node_selector.as_ref());
    let selected = labels.into_iter().flatten().all(|(key, value)| node.label(key) == Some(value));
    let required = affinity(pod).and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| selector_matches(selector, node))
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
        .filter(|preferred| term_matches(&preferred.preference, node))
        .map(|preferred| i64::from(preferred.weight))
        .sum()
}
