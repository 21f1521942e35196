//! What field selectors may name, and what they see.

use std::borrow::Cow;

use coracle_api_meta::{Gvk, ObjectExt, Value};

pub(crate) const POD: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.host",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];
pub(crate) const NODE: &[&str] = &["metadata.name", "spec.unschedulable"];
pub(crate) const REPLICAS: &[&str] = &["metadata.name", "metadata.namespace", "status.replicas"];
pub(crate) const NAMESPACE: &[&str] = &["metadata.name", "status.phase", "name"];
pub(crate) const SECRET: &[&str] = &["metadata.name", "metadata.namespace", "type"];
pub(crate) const SERVICE: &[&str] = &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"];
pub(crate) const EVENT: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
pub(crate) const EVENT_V1: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];
pub(crate) const JOB: &[&str] = &["metadata.name", "metadata.namespace", "status.successful"];
pub(crate) const SIGNING_REQUEST: &[&str] = &["metadata.name", "spec.signerName"];
pub(crate) const RESOURCE_SLICE: &[&str] = &["metadata.name", "spec.nodeName", "spec.driver"];

/// True when lists of the kind can be selected by the field.
#[must_use]
pub fn supported_field(gvk: &Gvk, field: &str) -> bool {
    crate::strategy(gvk).selectable_fields().contains(&field)
}

/// The value a selector compares; empty for what is not there.
pub(crate) fn value<'a>(group: &str, kind: &str, object: &'a Value, field: &str) -> Cow<'a, str> {
    match (group, kind, field) {
        ("", "Pod", "spec.host") => plain(object, "spec.nodeName"),
        ("", "Pod", "spec.hostNetwork") | ("", "Node", "spec.unschedulable") => flag(object, field),
        ("", "Pod", "status.podIP" | "status.podIPs") => {
            let first = object.at(&["status", "podIPs"]).and_then(|ips| ips.get(0)).map(|ip| ip.str_at(&["ip"]));
            Cow::Borrowed(first.unwrap_or_else(|| object.str_at(&["status", "podIP"])))
        }
        ("", "Namespace", "name") => Cow::Borrowed(object.name()),
        ("batch", "Job", "status.successful") => number(object, "status.succeeded"),
        (_, "ReplicationController", "status.replicas") => number(object, field),
        (_, "Event", _) => event(object, field),
        _ => plain(object, field),
    }
}

fn event<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let either = |a: &str, b: &str| {
        let found = plain(object, a);
        if found.is_empty() { plain(object, b) } else { found }
    };
    match field {
        "source" => {
            let component = either("source.component", "deprecatedSource.component");
            if component.is_empty() { either("reportingComponent", "reportingController") } else { component }
        }
        "reportingComponent" | "reportingController" => either("reportingComponent", "reportingController"),
        _ => match field.split_once('.') {
            Some(("involvedObject" | "regarding", part)) => {
                either(&format!("involvedObject.{part}"), &format!("regarding.{part}"))
            }
            _ => plain(object, field),
        },
    }
}

fn find<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').try_fold(object, |value, part| value.get(part))
}

fn plain<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    match find(object, field) {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other @ (Value::Number(_) | Value::Bool(_))) => Cow::Owned(other.to_string()),
        _ => Cow::Borrowed(""),
    }
}

fn flag<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let set = find(object, field).and_then(Value::as_bool).unwrap_or_default();
    Cow::Borrowed(if set { "true" } else { "false" })
}

fn number<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let found = find(object, field).and_then(Value::as_i64).unwrap_or_default();
    Cow::Owned(found.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_see() {
        let pod = json!({"spec": {"nodeName": "n"}, "status": {"podIPs": [{"ip": "1.2.3.4"}]}});
        assert_eq!(value("", "Pod", &pod, "spec.host"), "n");
        assert_eq!(value("", "Pod", &pod, "spec.hostNetwork"), "false");
        assert_eq!(value("", "Pod", &pod, "status.podIP"), "1.2.3.4");
        let event = json!({"involvedObject": {"name": "a"}, "reportingComponent": "kubelet"});
        assert_eq!(value("events.k8s.io", "Event", &event, "regarding.name"), "a");
        assert_eq!(value("", "Event", &event, "source"), "kubelet");
        assert_eq!(value("batch", "Job", &json!({}), "status.successful"), "0");
        assert!(!supported_field(&Gvk::new("", "v1", "ConfigMap"), "data.x"));
        assert!(supported_field(&Gvk::new("", "v1", "Node"), "spec.unschedulable"));
    }
}
