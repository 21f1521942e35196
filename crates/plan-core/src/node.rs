//! Which nodes pods may be on. Source: `k8s.io/component-helpers/scheduling/corev1`.

use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

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
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
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
pub fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// Whether `nodeSelector` and required node affinity allow the node.
#[must_use]
pub fn affinity_allows(spec: &PodSpec, node: &Node) -> bool {
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| node.label(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| selector_matches(selector, node))
}

/// Source: `core/v1 Toleration.ToleratesTaint`.
#[must_use]
pub fn tolerates_one(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let own = toleration.value.as_deref().unwrap_or_default();
    let other = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => own == other,
        "Exists" => true,
        "Gt" | "Lt" => match (own.parse::<i64>(), other.parse::<i64>()) {
            (Ok(own), Ok(other)) if toleration.operator.as_deref() == Some("Gt") => other > own,
            (Ok(own), Ok(other)) => other < own,
            _ => false,
        },
        _ => false,
    }
}

#[must_use]
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates_one(toleration, taint))
}

#[must_use]
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}
