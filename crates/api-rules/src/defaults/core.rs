//! Defaults of the core group besides pods. Source: `pkg/apis/core/v1/defaults.go`.

use coracle_api_meta::{Map, ObjectExt, Value};
use serde_json::json;

use super::pod::{network_volume, template};
use crate::edit::{blank, each, fill, fill_blank, fill_empty, make, missing, object, put, remove};
use crate::resources::{canonical_list, canonical_requirements};

pub fn service(service: &mut Value) {
    fill_empty(service, "status");
    if let Some(status) = object(service, "status") {
        fill_empty(status, "loadBalancer");
    }
    let Some(spec) = make(service, "spec") else { return };
    session_affinity(spec);
    fill_blank(spec, "type", "ClusterIP");
    each(spec, "ports").for_each(|port| {
        fill_blank(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|target| target.is_null() || *target == json!(0) || *target == json!("")) {
            let number = port.get("port").cloned().unwrap_or(json!(0));
            put(port, "targetPort", number);
        }
    });
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips) {
        fill_blank(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
        let balancer = object(service, "status").and_then(|status| object(status, "loadBalancer"));
        let Some(balancer) = balancer else { return };
        each(balancer, "ingress")
            .filter(|ingress| !blank(ingress, "ip"))
            .for_each(|ingress| fill(ingress, "ipMode", "VIP"));
    }
}

fn session_affinity(spec: &mut Value) {
    fill_blank(spec, "sessionAffinity", "None");
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => remove(spec, "sessionAffinityConfig"),
        Some("ClientIP") => {
            let timeout = spec.at(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
            if timeout.is_none_or(Value::is_null) {
                put(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
            }
        }
        _ => {}
    }
}

/// The name's label is always there.
pub fn namespace(namespace: &mut Value) {
    let name = namespace.name().to_owned();
    if !name.is_empty()
        && let Some(meta) = make(namespace, "metadata")
        && let Some(labels) = make(meta, "labels")
    {
        put(labels, "kubernetes.io/metadata.name", name);
    }
    fill_empty(namespace, "spec");
    if let Some(status) = make(namespace, "status") {
        fill_blank(status, "phase", "Active");
    }
}

pub fn node(node: &mut Value) {
    fill_empty(node, "spec");
    let Some(status) = make(node, "status") else { return };
    canonical_list(status, "capacity");
    canonical_list(status, "allocatable");
    if missing(status, "allocatable")
        && let Some(capacity) = status.get("capacity").filter(|capacity| capacity.is_object()).cloned()
    {
        put(status, "allocatable", capacity);
    }
    if let Some(endpoints) = make(status, "daemonEndpoints")
        && let Some(kubelet) = make(endpoints, "kubeletEndpoint")
    {
        fill(kubelet, "Port", 0);
    }
    let Some(info) = make(status, "nodeInfo") else { return };
    for field in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        fill(info, field, "");
    }
}

/// `stringData` is for writing only: it becomes `data` on the way in.
pub fn secret(secret: &mut Value) {
    use base64::Engine;
    let plain = secret.get("stringData").and_then(Value::as_object).cloned();
    if let Some(plain) = plain {
        if !plain.is_empty()
            && let Some(data) = make(secret, "data")
        {
            for (key, value) in plain {
                let bytes = value.as_str().unwrap_or_default();
                put(data, &key, base64::engine::general_purpose::STANDARD.encode(bytes));
            }
        }
        remove(secret, "stringData");
    }
    fill_blank(secret, "type", "Opaque");
}

pub fn endpoints(endpoints: &mut Value) {
    for subset in each(endpoints, "subsets") {
        each(subset, "ports").for_each(|port| fill_blank(port, "protocol", "TCP"));
    }
}

pub fn replication_controller(rc: &mut Value) {
    if let Some(spec) = make(rc, "spec") {
        fill(spec, "replicas", 1);
        if !missing(spec, "template") {
            template(spec, "template");
        }
    }
    let labels = rc.at(&["spec", "template", "metadata", "labels"]).filter(|labels| labels.is_object()).cloned();
    if let Some(labels) = labels {
        let none = |value: Option<&Value>| value.and_then(Value::as_object).is_none_or(Map::is_empty);
        if none(rc.at(&["spec", "selector"]))
            && let Some(spec) = object(rc, "spec")
        {
            put(spec, "selector", labels.clone());
        }
        if none(rc.at(&["metadata", "labels"])) {
            rc.set_meta("labels", labels);
        }
    }
    if let Some(status) = make(rc, "status") {
        fill(status, "replicas", 0);
    }
}

pub fn pod_template(pod_template: &mut Value) {
    template(pod_template, "template");
}

pub fn persistent_volume(volume: &mut Value) {
    if let Some(status) = make(volume, "status") {
        fill_blank(status, "phase", "Pending");
    }
    let Some(spec) = make(volume, "spec") else { return };
    fill_blank(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill(spec, "volumeMode", "Filesystem");
    canonical_list(spec, "capacity");
    if let Some(host) = object(spec, "hostPath") {
        fill(host, "type", "");
    }
    network_volume(spec);
}

pub fn persistent_volume_claim(claim: &mut Value) {
    if let Some(status) = make(claim, "status") {
        fill_blank(status, "phase", "Pending");
        canonical_list(status, "capacity");
    }
    let Some(spec) = make(claim, "spec") else { return };
    fill(spec, "volumeMode", "Filesystem");
    if let Some(resources) = make(spec, "resources") {
        canonical_requirements(resources);
    }
}

pub fn resource_quota(quota: &mut Value) {
    for part in ["spec", "status"] {
        if let Some(part) = make(quota, part) {
            canonical_list(part, "hard");
            canonical_list(part, "used");
        }
    }
}

pub fn limit_range(range: &mut Value) {
    let Some(spec) = make(range, "spec") else { return };
    for item in each(spec, "limits") {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            canonical_list(item, list);
        }
        if item.get("type").and_then(Value::as_str) == Some("Container") {
            inherit(item, "default", "max");
            inherit(item, "defaultRequest", "default");
            inherit(item, "defaultRequest", "min");
        }
    }
}

/// Entries of `from` that `to` lacks.
fn inherit(item: &mut Value, to: &str, from: &str) {
    let Some(source) = item.get(from).and_then(Value::as_object).filter(|source| !source.is_empty()).cloned() else {
        return;
    };
    let Some(target) = make(item, to) else { return };
    for (name, amount) in source {
        fill(target, &name, amount);
    }
}

pub fn event(event: &mut Value) {
    fill_empty(event, "involvedObject");
    fill_empty(event, "source");
    fill(event, "firstTimestamp", Value::Null);
    fill(event, "lastTimestamp", Value::Null);
    fill(event, "eventTime", Value::Null);
    fill(event, "reportingComponent", "");
    fill(event, "reportingInstance", "");
}
