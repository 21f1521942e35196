//! Revisions of templates, kept as `ControllerRevision`. Source: `pkg/controller/history`.

use std::collections::BTreeMap;

use coracle_api_types::Object;
use coracle_plan_core::hash::{Fnv32a, safe_encode};
use coracle_plan_core::owner::controller_ref;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Map, Value, json};

/// Label of pods that names their revision.
pub const REVISION_HASH: &str = "controller-revision-hash";
/// Label of stateful sets' revisions.
pub const HISTORY_HASH: &str = "controller.kubernetes.io/hash";

/// With keys in order, as Go writes maps.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<&String, &Value> = fields.iter().collect();
            Value::Object(ordered.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// The patch that restores the template.
#[must_use]
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), json!("replace"));
        fields.entry("metadata").or_insert_with(|| json!({}));
    }
    sorted(&json!({"spec": {"template": template}}))
}

/// The template that a revision restores.
#[must_use]
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.shift_remove("$patch");
    serde_json::from_value(template).ok()
}

/// Whether the revision restores this.
#[must_use]
pub fn restores(revision: &ControllerRevision, data: &Value) -> bool {
    revision.data.as_ref().is_some_and(|own| sorted(&own.0) == *data)
}

/// Hash of what a revision restores.
#[must_use]
pub fn hash(data: &Value, collisions: Option<i32>) -> String {
    let mut hash = Fnv32a::default();
    hash.write(data.to_string().as_bytes());
    if let Some(count) = collisions {
        hash.write(count.to_string().as_bytes());
    }
    safe_encode(&hash.finish().to_string())
}

/// A new revision, named after its owner and its hash.
pub fn revision<K: Object>(
    owner: &K,
    labels: Option<&BTreeMap<String, String>>,
    data: Value,
    number: i64,
    hash: (&str, &str),
) -> ControllerRevision {
    let mut labels = labels.cloned().unwrap_or_default();
    labels.insert(hash.0.to_owned(), hash.1.to_owned());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", owner.name(), hash.1)),
            namespace: Some(owner.namespace().to_owned()),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone(),
            owner_references: Some(vec![controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}
