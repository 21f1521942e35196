//! Services: fields that no longer mean anything after a change of type are dropped, unless the client changed them too.
//! Source: `pkg/registry/core/service/strategy.go`.

use coracle_api_meta::{Map, ObjectExt, Value};

use crate::edit::{copy, each, make, object, put, remove};
use crate::same::same;

fn kind(service: &Value) -> &str {
    service.str_at(&["spec", "type"])
}

fn needs_cluster_ip(service: &Value) -> bool {
    matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_port(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

fn needs_health_check(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

fn external(service: &Value) -> bool {
    let ips = service.at(&["spec", "externalIPs"]).and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    matches!(kind(service), "NodePort" | "LoadBalancer") || (kind(service) == "ClusterIP" && ips)
}

fn unchanged(new: &Value, old: &Value, field: &str) -> bool {
    let part = |service: &Value| service.at(&["spec", field]).cloned().unwrap_or_default();
    same(&part(new), &part(old))
}

fn drop_fields(service: &mut Value, fields: &[&str]) {
    if let Some(spec) = object(service, "spec") {
        fields.iter().for_each(|field| remove(spec, field));
    }
}

/// `clusterIP` and `clusterIPs` are one thing under two names.
pub fn create(service: &mut Value) {
    let Some(spec) = make(service, "spec") else { return };
    let one = spec.str_at(&["clusterIP"]).to_owned();
    if !one.is_empty() && spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        put(spec, "clusterIPs", vec![Value::from(one)]);
    }
}

/// A client that knows only one of both names means the other one too.
fn normalize(new: &mut Value, old: &Value) {
    let (same_one, same_all) = (unchanged(new, old, "clusterIP"), unchanged(new, old, "clusterIPs"));
    let Some(spec) = make(new, "spec") else { return };
    let one = spec.str_at(&["clusterIP"]).to_owned();
    if !same_one && same_all {
        if one.is_empty() {
            remove(spec, "clusterIPs");
        } else {
            put(spec, "clusterIPs", vec![Value::from(one)]);
        }
    }
}

pub fn update(new: &mut Value, old: &Value) {
    normalize(new, old);
    keep_allocations(new, old);
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if unchanged(new, old, "clusterIP") && unchanged(new, old, "clusterIPs") {
            drop_fields(new, &["clusterIP", "clusterIPs"]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if unchanged(new, old, field) {
                drop_fields(new, &[field]);
            }
        }
    }
    if needs_node_port(old)
        && !needs_node_port(new)
        && same_node_ports(new, old)
        && let Some(spec) = object(new, "spec")
    {
        each(spec, "ports").for_each(|port| remove(port, "nodePort"));
    }
    if needs_health_check(old) && !needs_health_check(new) && unchanged(new, old, "healthCheckNodePort") {
        drop_fields(new, &["healthCheckNodePort"]);
    }
    let was_balancer = kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer";
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if was_balancer && unchanged(new, old, field) {
            drop_fields(new, &[field]);
        }
    }
    if external(old) && !external(new) && unchanged(new, old, "externalTrafficPolicy") {
        drop_fields(new, &["externalTrafficPolicy"]);
    }
    if kind(new) != "LoadBalancer"
        && let Some(status) = make(new, "status")
    {
        put(status, "loadBalancer", Value::Object(Map::new()));
    }
}

/// An update that leaves out what the server gave keeps it (`patchAllocatedValues` upstream).
fn keep_allocations(new: &mut Value, old: &Value) {
    let before = old.get("spec").cloned().unwrap_or_default();
    let addresses = needs_cluster_ip(new) && needs_cluster_ip(old);
    let ports = needs_node_port(new) && needs_node_port(old);
    let health = needs_health_check(new) && needs_health_check(old);
    let Some(spec) = make(new, "spec") else { return };
    if addresses {
        if spec.str_at(&["clusterIP"]).is_empty() {
            copy(spec, &before, "clusterIP");
        }
        if spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            copy(spec, &before, "clusterIPs");
        }
    }
    if ports {
        keep_node_ports(spec, &before);
    }
    if health && spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or_default() == 0 {
        copy(spec, &before, "healthCheckNodePort");
    }
}

fn node_port(port: &Value) -> i64 {
    port.get("nodePort").and_then(Value::as_i64).unwrap_or_default()
}

fn ports(spec: &Value) -> Vec<Value> {
    spec.get("ports").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn keep_node_ports(spec: &mut Value, before: &Value) {
    let old = ports(before);
    let sent: Vec<i64> = ports(spec).iter().map(node_port).filter(|port| *port != 0).collect();
    for port in each(spec, "ports").filter(|port| node_port(port) == 0) {
        let name = port.str_at(&["name"]);
        let Some(from) = old.iter().rfind(|from| from.str_at(&["name"]) == name) else { continue };
        if node_port(from) != 0 && !sent.contains(&node_port(from)) {
            copy(port, from, "nodePort");
        }
    }
}

/// No node port that was not there before.
fn same_node_ports(new: &Value, old: &Value) -> bool {
    let all = |service: &Value| -> Vec<i64> {
        let list = service.get("spec").map(ports).unwrap_or_default();
        list.iter().map(node_port).filter(|port| *port != 0).collect()
    };
    let before = all(old);
    all(new).iter().all(|port| before.contains(port))
}
