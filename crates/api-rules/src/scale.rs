//! `autoscaling/v1 Scale` of the kinds that have replicas.

use coracle_api_meta::{FieldError, Gvk, LabelSelector, Map, ObjectExt, Value};
use serde_json::json;

use crate::at::{At, Errors};
use crate::edit::{make, put};
use crate::meta;

/// True for kinds with subresource `scale`.
#[must_use]
pub fn has_scale(gvk: &Gvk) -> bool {
    matches!(
        (gvk.group.as_str(), gvk.kind.as_str()),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("", "ReplicationController")
    )
}

/// The Scale of an object.
#[must_use]
pub fn get(object: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.meta().and_then(|meta| meta.get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let mut spec = Map::new();
    let replicas = object.at(&["spec", "replicas"]).and_then(Value::as_i64).unwrap_or_default();
    if replicas != 0 {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    let mut status =
        json!({"replicas": object.at(&["status", "replicas"]).and_then(Value::as_i64).unwrap_or_default()});
    let selector = selector(object);
    if !selector.is_empty() {
        put(&mut status, "selector", selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

fn selector(object: &Value) -> String {
    let Some(selector) = object.at(&["spec", "selector"]) else { return String::new() };
    if object.kind() == "ReplicationController" {
        let pairs = selector.as_object().into_iter().flatten();
        let pairs = pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        return LabelSelector::from_pairs(pairs).to_string();
    }
    LabelSelector::from_value(selector).map(|selector| selector.to_string()).unwrap_or_default()
}

/// Writes the replicas of a Scale into the object. Metadata, the resource version included, is left to the registry.
pub fn put_into(object: &mut Value, scale: &Value) {
    let replicas = scale.at(&["spec", "replicas"]).and_then(Value::as_i64).unwrap_or_default();
    if let Some(spec) = make(object, "spec") {
        put(spec, "replicas", replicas);
    }
}

/// Rules of a sent Scale.
#[must_use]
pub fn validate(scale: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(scale);
    meta::check(&root.get("metadata"), true, meta::NameRule::Subdomain, &mut errors);
    let replicas = root.dig("spec.replicas");
    if replicas.int() < 0 {
        replicas.invalid(&mut errors, "must be greater than or equal to 0");
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written() {
        let mut set = json!({"kind": "Deployment", "metadata": {"name": "a", "namespace": "b", "uid": "1", "resourceVersion": "7",
            "labels": {"x": "y"}}, "spec": {"replicas": 2, "selector": {"matchLabels": {"b": "2", "a": "1"}}},
            "status": {"replicas": 1}});
        expect_test::expect![[r#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"a","namespace":"b","uid":"1","resourceVersion":"7"},"spec":{"replicas":2},"status":{"replicas":1,"selector":"a=1,b=2"}}"#]]
            .assert_eq(&get(&set).to_string());
        put_into(&mut set, &json!({"spec": {"replicas": 5}}));
        assert_eq!(set["spec"]["replicas"], 5);
        let bad = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"replicas": -1}});
        assert_eq!(
            validate(&bad)[0].to_string(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
