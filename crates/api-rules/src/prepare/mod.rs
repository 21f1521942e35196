//! What a write does to the object besides what the client asked for, where a kind has such (`PrepareFor*` upstream).

pub mod pod;
pub mod service;

use coracle_api_meta::{Map, ObjectExt, Value};
use serde_json::json;

use crate::edit::{copy, copy_meta, fill, make, put, remove};
use crate::same::same;
use crate::strategy::META_OF_SPEC;

fn part<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    value.at(path).unwrap_or(&Value::Null)
}

pub fn namespace_create(namespace: &mut Value) {
    let Some(spec) = make(namespace, "spec") else { return };
    let mut finalizers = spec.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    if !finalizers.iter().any(|name| name == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    put(spec, "finalizers", finalizers);
}

/// Finalizers of the spec change through `finalize` only.
pub fn namespace_update(new: &mut Value, old: &Value) {
    copy(new, old, "spec");
}

pub fn node_create(node: &mut Value) {
    if let Some(spec) = make(node, "spec") {
        remove(spec, "configSource");
    }
}

/// The type of a secret that is left out stays.
pub fn secret_update(new: &mut Value, old: &Value) {
    if new.str_at(&["type"]).is_empty() {
        copy(new, old, "type");
    }
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub fn daemon_set_create(set: &mut Value) {
    set_template_generation(set, 1);
}

pub fn daemon_set_update(new: &mut Value, old: &Value) {
    let before =
        old.annotations().and_then(|all| all.get(TEMPLATE_GENERATION)?.as_str()?.parse::<i64>().ok()).unwrap_or(0);
    let changed = !same(part(new, &["spec", "template"]), part(old, &["spec", "template"]));
    set_template_generation(new, if changed { before + 1 } else { before });
}

/// `apps/v1` keeps the template's generation as an annotation.
fn set_template_generation(set: &mut Value, generation: i64) {
    if let Some(meta) = make(set, "metadata")
        && let Some(annotations) = make(meta, "annotations")
    {
        put(annotations, TEMPLATE_GENERATION, generation.to_string());
    }
}

const JOB_LABELS: [(&str, &str); 2] =
    [("batch.kubernetes.io/controller-uid", "controller-uid"), ("batch.kubernetes.io/job-name", "job-name")];

/// Pods of a job are told apart by its uid, unless the selector is the user's.
pub fn job_create(job: &mut Value) {
    if job.at(&["spec", "manualSelector"]).and_then(Value::as_bool) == Some(true) {
        return;
    }
    let values = [job.uid().to_owned(), job.name().to_owned()];
    let Some(spec) = make(job, "spec") else { return };
    let labels =
        make(spec, "template").and_then(|template| make(template, "metadata")).and_then(|meta| make(meta, "labels"));
    let Some(labels) = labels else { return };
    for ((name, legacy), value) in JOB_LABELS.iter().zip(&values) {
        fill(labels, legacy, value.clone());
        fill(labels, name, value.clone());
    }
    let Some(selector) = make(spec, "selector") else { return };
    if let Some(labels) = make(selector, "matchLabels") {
        fill(labels, JOB_LABELS[0].0, values[0].clone());
    }
}

pub fn signing_request_create(request: &mut Value) {
    put(request, "status", Value::Object(Map::new()));
}

/// The request itself never changes; neither do the approval conditions but through `approval`.
pub fn signing_request_update(new: &mut Value, old: &Value) {
    copy(new, old, "spec");
}

pub fn signing_request_status(new: &mut Value, old: &Value) {
    let approval = |condition: &Value| matches!(condition.str_at(&["type"]), "Approved" | "Denied");
    let list = |request: &Value| part(request, &["status", "conditions"]).as_array().cloned().unwrap_or_default();
    let kept: Vec<Value> = list(old).into_iter().filter(approval).collect();
    let sent: Vec<Value> = list(new).into_iter().filter(approval).collect();
    if !same(&Value::from(kept.clone()), &Value::from(sent)) {
        let others = list(new).into_iter().filter(|condition| !approval(condition));
        let all: Vec<Value> = kept.into_iter().chain(others).collect();
        if let Some(status) = make(new, "status") {
            put(status, "conditions", all);
        }
    }
}

/// Only the conditions change.
pub fn signing_request_approval(new: &mut Value, old: &Value) {
    let conditions = part(new, &["status", "conditions"]).clone();
    copy(new, old, "spec");
    copy(new, old, "status");
    if let Some(status) = make(new, "status") {
        match conditions {
            Value::Null => remove(status, "conditions"),
            found => put(status, "conditions", found),
        }
    }
    copy_meta(new, old, "generation");
}

pub fn crd_create(crd: &mut Value) {
    let versions = part(crd, &["spec", "versions"]).as_array().cloned().unwrap_or_default();
    let stored = versions.iter().find(|version| version.get("storage").and_then(Value::as_bool) == Some(true));
    let names: Vec<&str> = stored.into_iter().map(|version| version.str_at(&["name"])).collect();
    let names = json!(names);
    put(crd, "status", json!({"storedVersions": names}));
}

/// The new storage version joins those that objects may be stored in.
pub fn crd_update(new: &mut Value, _old: &Value) {
    let versions = part(new, &["spec", "versions"]).as_array().cloned().unwrap_or_default();
    let stored = versions.iter().find(|version| version.get("storage").and_then(Value::as_bool) == Some(true));
    let Some(name) = stored.map(|version| version.str_at(&["name"]).to_owned()) else { return };
    let Some(status) = make(new, "status") else { return };
    let mut known = status.get("storedVersions").and_then(Value::as_array).cloned().unwrap_or_default();
    if !known.iter().any(|known| *known == name.as_str()) {
        known.push(name.into());
        put(status, "storedVersions", known);
    }
}

/// Everything of `metadata` that a status write must not touch.
pub fn keep_metadata(new: &mut Value, old: &Value) {
    META_OF_SPEC.iter().for_each(|field| copy_meta(new, old, field));
}

/// The source of a claim has an old name and a new one (KEP-1495).
pub fn claim_create(claim: &mut Value) {
    let Some(spec) = make(claim, "spec") else { return };
    let (old, new) = (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned());
    match (old.filter(Value::is_object), new.filter(Value::is_object)) {
        (Some(old), None) => put(spec, "dataSourceRef", old),
        (None, Some(new)) if new.str_at(&["namespace"]).is_empty() => put(spec, "dataSource", new),
        _ => {}
    }
}
