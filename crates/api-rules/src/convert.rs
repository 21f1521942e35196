//! Kinds that are served in more than one version or group, over one stored form: horizontal pod autoscalers (stored as
//! `v2`) and events (stored as core `v1`). For all others the versions have the same fields.

use coracle_api_meta::{Gvk, ObjectExt, Value};
use serde_json::{Map, json};

use crate::edit::{make, object, put, remove};

/// The form that a kind is stored in.
#[must_use]
pub fn storage_version(gvk: &Gvk) -> Gvk {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("autoscaling", "HorizontalPodAutoscaler") => Gvk::new("autoscaling", "v2", "HorizontalPodAutoscaler"),
        ("events.k8s.io", "Event") => Gvk::new("", "v1", "Event"),
        _ => gvk.clone(),
    }
}

/// Rewrites the object as `to`, a version of the same kind.
pub fn convert(from: &mut Value, to: &Gvk) {
    let have = from.gvk().unwrap_or_default();
    if have == *to {
        return;
    }
    match (have.kind.as_str(), have.version.as_str(), to.version.as_str()) {
        ("HorizontalPodAutoscaler", "v1", "v2") => autoscaler_to_v2(from),
        ("HorizontalPodAutoscaler", "v2", "v1") => autoscaler_to_v1(from),
        ("Event", ..) if have.group != to.group => event(from, to.group.is_empty()),
        _ => {}
    }
    put(from, "apiVersion", to.api_version());
}

/// Metrics, behaviour and conditions travel as annotations of `v1`.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

fn take_annotation(object: &mut Value, name: &str) -> Option<Value> {
    let meta = make(object, "metadata")?;
    let annotations = meta.get_mut("annotations")?.as_object_mut()?;
    let found = annotations.shift_remove(name)?;
    if annotations.is_empty() {
        remove(meta, "annotations");
    }
    serde_json::from_str(found.as_str()?).ok()
}

fn set_annotation(object: &mut Value, name: &str, value: &Value) {
    if let Some(meta) = make(object, "metadata")
        && let Some(annotations) = make(meta, "annotations")
    {
        put(annotations, name, value.to_string());
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric.str_at(&["type"]) == "Resource" && metric.str_at(&["resource", "name"]) == "cpu"
}

fn autoscaler_to_v2(object_: &mut Value) {
    let metrics = take_annotation(object_, METRICS);
    let behavior = take_annotation(object_, BEHAVIOR);
    let conditions = take_annotation(object_, CONDITIONS);
    let current = take_annotation(object_, CURRENT);
    if let Some(spec) = object(object_, "spec") {
        let utilization = spec.get("targetCPUUtilizationPercentage").and_then(Value::as_i64);
        remove(spec, "targetCPUUtilizationPercentage");
        let mut all: Vec<Value> = Vec::new();
        if let Some(percent) = utilization {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        all.extend(metrics.and_then(|list| list.as_array().cloned()).unwrap_or_default());
        if !all.is_empty() {
            put(spec, "metrics", all);
        }
        if let Some(behavior) = behavior {
            put(spec, "behavior", behavior);
        }
    }
    if let Some(status) = object(object_, "status") {
        let utilization = status.get("currentCPUUtilizationPercentage").and_then(Value::as_i64);
        remove(status, "currentCPUUtilizationPercentage");
        let mut all: Vec<Value> = Vec::new();
        if let Some(percent) = utilization {
            all.push(
                json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}),
            );
        }
        all.extend(current.and_then(|list| list.as_array().cloned()).unwrap_or_default());
        put(status, "currentMetrics", if all.is_empty() { Value::Null } else { all.into() });
        if let Some(conditions) = conditions {
            put(status, "conditions", conditions);
        }
    }
}

fn autoscaler_to_v1(object_: &mut Value) {
    let mut annotations: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = object(object_, "spec") {
        let metrics = spec.get("metrics").and_then(Value::as_array).cloned().unwrap_or_default();
        remove(spec, "metrics");
        let mut others: Vec<Value> = Vec::new();
        for metric in metrics {
            match metric.at(&["resource", "target", "averageUtilization"]).filter(|_| is_cpu(&metric)).cloned() {
                Some(percent) if spec.get("targetCPUUtilizationPercentage").is_none() => {
                    put(spec, "targetCPUUtilizationPercentage", percent);
                }
                _ => others.push(metric),
            }
        }
        if !others.is_empty() {
            annotations.push((METRICS, others.into()));
        }
        if let Some(behavior) = spec.get("behavior").filter(|behavior| behavior.is_object()).cloned() {
            annotations.push((BEHAVIOR, behavior));
        }
        remove(spec, "behavior");
    }
    if let Some(status) = object(object_, "status") {
        let metrics = status.get("currentMetrics").and_then(Value::as_array).cloned().unwrap_or_default();
        remove(status, "currentMetrics");
        let cpu = metrics.iter().find(|metric| is_cpu(metric));
        if let Some(percent) = cpu.and_then(|metric| metric.at(&["resource", "current", "averageUtilization"])) {
            put(status, "currentCPUUtilizationPercentage", percent.clone());
        }
        let others: Vec<Value> = metrics.iter().filter(|metric| !is_cpu(metric)).cloned().collect();
        if !others.is_empty() {
            annotations.push((CURRENT, others.into()));
        }
        if let Some(conditions) = status.get("conditions").filter(|list| list.is_array()).cloned() {
            annotations.push((CONDITIONS, conditions));
        }
        remove(status, "conditions");
    }
    for (name, value) in annotations {
        set_annotation(object_, name, &value);
    }
}

/// Fields of an event: core name, name in `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn event(event: &mut Value, to_core: bool) {
    let Some(fields) = event.as_object_mut() else { return };
    let old = std::mem::take(fields);
    let mut new = Map::new();
    for (key, value) in old {
        let renamed = EVENT_FIELDS.iter().find_map(|(core, other)| {
            if to_core { (*other == key).then_some(*core) } else { (*core == key).then_some(*other) }
        });
        new.insert(renamed.map_or(key, str::to_owned), value);
    }
    *fields = new;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_back() {
        let core =
            json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 2});
        let mut event = core.clone();
        convert(&mut event, &Gvk::new("events.k8s.io", "v1", "Event"));
        assert_eq!(event["regarding"]["name"], "a");
        assert_eq!(event["note"], "m");
        convert(&mut event, &Gvk::new("", "v1", "Event"));
        assert_eq!(event, core);
    }

    #[test]
    fn autoscalers_and_back() {
        let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}, "status": {"desiredReplicas": 0}});
        let mut object = v1.clone();
        convert(&mut object, &Gvk::new("autoscaling", "v2", "HorizontalPodAutoscaler"));
        assert_eq!(object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        convert(&mut object, &Gvk::new("autoscaling", "v1", "HorizontalPodAutoscaler"));
        assert_eq!(object["spec"], v1["spec"]);
    }
}
