//! Pods. Source: `pkg/registry/core/pod/strategy.go`.

use coracle_api_meta::{ObjectExt, Value};
use serde_json::json;

use crate::edit::{copy, each, make, object, put};
use crate::qos;

pub fn create(pod: &mut Value) {
    let class = qos::class(pod);
    let mut status = json!({"phase": "Pending", "qosClass": class});
    let gated = pod.at(&["spec", "schedulingGates"]).and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
    if gated {
        put(
            &mut status,
            "conditions",
            json!([{
                "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": null,
                "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]),
        );
    }
    put(pod, "status", status);
    match_label_keys(pod);
}

/// `matchLabelKeys` and `mismatchLabelKeys` become terms of the selector, with the pod's own values (KEP-3633, KEP-3243).
fn match_label_keys(pod: &mut Value) {
    let labels = pod.labels().cloned().unwrap_or_default();
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let Some(spec) = object(pod, "spec") else { return };
    for constraint in each(spec, "topologySpreadConstraints") {
        merge_keys(constraint, "matchLabelKeys", "In", &label);
    }
    let Some(affinity) = object(spec, "affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = object(affinity, kind) else { continue };
        for term in each(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_keys(term, "matchLabelKeys", "In", &label);
            merge_keys(term, "mismatchLabelKeys", "NotIn", &label);
        }
        for weighted in each(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = object(weighted, "podAffinityTerm") {
                merge_keys(term, "matchLabelKeys", "In", &label);
                merge_keys(term, "mismatchLabelKeys", "NotIn", &label);
            }
        }
    }
}

fn merge_keys<'a>(term: &mut Value, field: &str, operator: &str, label: &impl Fn(&str) -> Option<&'a str>) {
    let keys = term.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(value) = label(key) else { continue };
        let Some(selector) = object(term, "labelSelector") else { return };
        let mut terms = selector.get("matchExpressions").and_then(Value::as_array).cloned().unwrap_or_default();
        let added = json!({"key": key, "operator": operator, "values": [value]});
        if !terms.contains(&added) {
            terms.push(added);
            put(selector, "matchExpressions", terms);
        }
    }
}

/// Old kubelets drop fields that the server filled; they stay.
pub fn status_update(new: &mut Value, old: &Value) {
    let before = old.get("status").cloned().unwrap_or_default();
    let Some(status) = make(new, "status") else { return };
    if status.str_at(&["qosClass"]).is_empty() {
        copy(status, &before, "qosClass");
    }
    if status.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default() == 0 {
        copy(status, &before, "observedGeneration");
    }
    let mut known: Vec<(String, Value)> = before
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|old| (old.str_at(&["type"]).to_owned(), old.get("observedGeneration").cloned().unwrap_or_default()))
        .collect();
    for condition in each(status, "conditions") {
        let kind = condition.str_at(&["type"]);
        let found = known.iter().position(|(known, _)| known == kind).map(|at| known.remove(at).1);
        let generation = found.filter(|generation| !generation.is_null());
        if condition.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default() == 0
            && let Some(generation) = generation
        {
            put(condition, "observedGeneration", generation);
        }
    }
}

/// Only ephemeral containers change.
pub fn ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = new.at(&["spec", "ephemeralContainers"]).cloned();
    copy(new, old, "spec");
    copy(new, old, "status");
    super::keep_metadata(new, old);
    if let (Some(containers), Some(spec)) = (containers, object(new, "spec")) {
        put(spec, "ephemeralContainers", containers);
    }
}

/// Only resources and resize policies of containers change.
pub fn resize(new: &mut Value, old: &Value) {
    let sent = new.get("spec").cloned().unwrap_or_default();
    copy(new, old, "spec");
    copy(new, old, "status");
    super::keep_metadata(new, old);
    let Some(spec) = object(new, "spec") else { return };
    for list in ["containers", "initContainers"] {
        let containers = sent.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        for container in each(spec, list) {
            let name = container.str_at(&["name"]).to_owned();
            if let Some(from) = containers.iter().find(|from| from.str_at(&["name"]) == name) {
                copy(container, from, "resources");
                copy(container, from, "resizePolicy");
            }
        }
    }
    if sent.get("resources").is_some() {
        copy(spec, &sent, "resources");
    }
}

/// How long a deletion waits: as asked, else as the pod says; not at all where no kubelet holds it or it has ended.
pub fn grace_seconds(pod: &Value, asked: Option<i64>) -> i64 {
    let own = || pod.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or_default();
    let ended = matches!(pod.str_at(&["status", "phase"]), "Failed" | "Succeeded");
    if ended || pod.str_at(&["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let seconds = asked.unwrap_or_else(own);
    if seconds < 0 { 1 } else { seconds }
}
