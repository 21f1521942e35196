//! Where a pod may run: affinity, tolerations, spreading, gates.

use std::collections::BTreeSet;

use coracle_api_meta::{FieldError, names};

use crate::at::{At, Errors};
use crate::meta::{label_name, label_selector};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(crate) fn affinity(affinity: &At<'_>, errors: &mut Errors) {
    let nodes = affinity.get("nodeAffinity");
    if nodes.has(REQUIRED) {
        node_selector(&nodes.get(REQUIRED), errors);
    }
    for term in nodes.get(PREFERRED).items() {
        weight(&term, errors);
        node_term(&term.get("preference"), false, errors);
    }
    for pods in ["podAffinity", "podAntiAffinity"].map(|field| affinity.get(field)) {
        pods.get(REQUIRED).items().iter().for_each(|term| pod_term(term, errors));
        for term in pods.get(PREFERRED).items() {
            weight(&term, errors);
            pod_term(&term.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &At<'_>, errors: &mut Errors) {
    if !(1..=100).contains(&term.number("weight")) {
        term.get("weight").invalid_as(errors, term.number("weight"), "must be in the range 1-100");
    }
}

/// A `NodeSelector`.
pub(crate) fn node_selector(selector: &At<'_>, errors: &mut Errors) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        return terms.required(errors, "must have at least one node selector term");
    }
    terms.items().iter().for_each(|term| node_term(term, true, errors));
}

fn node_term(term: &At<'_>, strict: bool, errors: &mut Errors) {
    for requirement in term.get("matchExpressions").items() {
        let values = requirement.get("values");
        match requirement.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                values.required(errors, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden(errors, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if values.len() != 1 => {
                values.required(errors, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => requirement.get("operator").invalid(errors, "not a valid selector operator"),
        }
        label_name(&requirement.get("key"), requirement.text("key"), errors);
        for value in values.items().iter().filter(|_| strict) {
            value.invalid_all(errors, names::is_label_value(value.str()));
        }
    }
    for requirement in term.get("matchFields").items() {
        node_field(&requirement, errors);
    }
}

fn node_field(requirement: &At<'_>, errors: &mut Errors) {
    let (values, key) = (requirement.get("values"), requirement.get("key"));
    match requirement.text("operator") {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => {
            values
                .required(errors, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
        }
        _ => requirement.get("operator").invalid(errors, "not a valid selector operator"),
    }
    if key.str() != "metadata.name" {
        return key.invalid(errors, "not a valid field selector key");
    }
    for value in values.items() {
        value.invalid_all(errors, names::is_dns1123_subdomain(value.str()));
    }
}

fn pod_term(term: &At<'_>, errors: &mut Errors) {
    label_selector(&term.get("labelSelector"), errors);
    label_selector(&term.get("namespaceSelector"), errors);
    for name in term.get("namespaces").strings() {
        for text in names::is_dns1123_label(name) {
            term.get("namespace").invalid_as(errors, name, text);
        }
    }
    match_keys(term, errors);
    let key = term.get("topologyKey");
    if key.is_empty() {
        key.required(errors, "can not be empty");
    }
    label_name(&key, key.str(), errors);
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside `labelSelector`.
fn match_keys(term: &At<'_>, errors: &mut Errors) {
    let selector = term.get("labelSelector");
    let (same, other) = (term.get("matchLabelKeys"), term.get("mismatchLabelKeys"));
    for keys in [&same, &other].into_iter().filter(|keys| !keys.is_empty()) {
        if !selector.exists() {
            keys.forbidden(errors, "must not be specified when labelSelector is not set");
            continue;
        }
        keys.items().iter().for_each(|key| label_name(key, key.str(), errors));
    }
    let wanted = same.strings();
    let mut seen: BTreeSet<&str> = selector.get("matchLabels").entries().into_iter().map(|(key, _)| key).collect();
    for key in selector.get("matchExpressions").items().iter().map(|expression| expression.text("key")) {
        if let Some(index) = wanted.iter().rposition(|wanted| *wanted == key).filter(|_| seen.contains(key)) {
            term.index(index).invalid_as(errors, key, "exists in both matchLabelKeys and labelSelector");
        }
        seen.insert(key);
    }
    let excluded = other.strings();
    for key in same.items().iter().filter(|key| excluded.contains(&key.str())) {
        key.invalid(errors, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

pub(crate) fn tolerations(tolerations: &At<'_>, errors: &mut Errors) {
    for toleration in tolerations.items() {
        let (key, operator, effect) = (toleration.get("key"), toleration.get("operator"), toleration.get("effect"));
        let value = toleration.text("value");
        if !key.is_empty() {
            label_name(&key, key.str(), errors);
        } else if operator.str() != "Exists" {
            operator.invalid(
                errors,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.has("tolerationSeconds") && effect.str() != "NoExecute" {
            effect.invalid(errors, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.str() {
            "Equal" | "" => {
                let texts = names::is_label_value(value);
                if !texts.is_empty() {
                    operator.invalid_as(errors, value, texts.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                operator.invalid_as(errors, value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => operator.unsupported(errors, &["Equal", "Exists", "Lt", "Gt"]),
            _ => operator.unsupported(errors, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            effect.one_of(errors, EFFECTS);
        }
    }
}

pub(crate) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(crate) fn gates(gates: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for gate in gates.items() {
        let name = gate.text("name");
        for text in names::is_qualified_name(name) {
            gate.invalid_as(errors, name, text);
        }
        if !seen.insert(name) {
            gate.duplicate_as(errors, name);
        }
    }
}

pub(crate) fn topology_spread(constraints: &At<'_>, errors: &mut Errors) {
    let all = constraints.items();
    for (index, constraint) in all.iter().enumerate() {
        constraint.get("maxSkew").positive(errors);
        let (key, action) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if key.is_empty() {
            key.required(errors, "can not be empty");
        }
        action.one_of(errors, &["DoNotSchedule", "ScheduleAnyway"]);
        let pair = format!("{{{}, {}}}", key.str(), action.str());
        let repeats =
            |other: &At<'_>| other.text("topologyKey") == key.str() && other.text("whenUnsatisfiable") == action.str();
        if all.iter().skip(index + 1).any(repeats) {
            let path = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&path, pair));
        }
        let domains = constraint.get("minDomains");
        if domains.exists() {
            domains.positive(errors);
            if action.str() != "DoNotSchedule" {
                let text = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.str());
                domains.invalid(errors, text);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(policy).one_of_if_set(errors, &["Honor", "Ignore"]);
        }
        match_keys(constraint, errors);
        label_selector(&constraint.get("labelSelector"), errors);
    }
}
