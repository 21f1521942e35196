//! Whether the node takes a pod that is bound to it.
//!
//! The scheduler asks the same before it binds; pods that were bound by hand, by another scheduler or by a file are only
//! asked here. Reasons and messages are upstream's. Source: kubelet `lifecycle/predicate.go`, `sysctl/allowlist.go`,
//! `eviction_manager.go` (`Admit`).

use std::collections::BTreeMap;

use coracle_api_meta::Quantity;
use coracle_api_types::Object;
use coracle_plan_core::node::{affinity_allows, taints, tolerates};
use k8s_openapi::api::core::v1::{ContainerPort, Node, Pod, PodSpec, Taint};

use crate::is_sidecar;
use crate::qos::{QosClass, qos_class};
use crate::resources::{ResourceList, pod_requests};

/// Pods of at least this priority run whatever the node is short of. Source: `SystemCriticalPriority`.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;
const MEMORY_PRESSURE_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// Sysctls that belong to a pod alone, and the namespace they live in. Source: kubelet `safe_sysctls.go`.
const SAFE_SYSCTLS: [(&str, SysctlNamespace); 12] = [
    ("kernel.shm_rmid_forced", SysctlNamespace::Ipc),
    ("net.ipv4.ip_local_port_range", SysctlNamespace::Net),
    ("net.ipv4.tcp_syncookies", SysctlNamespace::Net),
    ("net.ipv4.ping_group_range", SysctlNamespace::Net),
    ("net.ipv4.ip_unprivileged_port_start", SysctlNamespace::Net),
    ("net.ipv4.ip_local_reserved_ports", SysctlNamespace::Net),
    ("net.ipv4.tcp_keepalive_time", SysctlNamespace::Net),
    ("net.ipv4.tcp_fin_timeout", SysctlNamespace::Net),
    ("net.ipv4.tcp_keepalive_intvl", SysctlNamespace::Net),
    ("net.ipv4.tcp_keepalive_probes", SysctlNamespace::Net),
    ("net.ipv4.tcp_rmem", SysctlNamespace::Net),
    ("net.ipv4.tcp_wmem", SysctlNamespace::Net),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SysctlNamespace {
    Ipc,
    Net,
}

/// Why a pod is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

/// What the node has and who is on it already.
#[derive(Debug, Clone, Copy)]
pub struct Room<'a> {
    pub node: &'a Node,
    /// The other pods that hold resources, with what they were granted.
    pub others: &'a [&'a Pod],
    /// Conditions that are true: `MemoryPressure`, `DiskPressure`, `PIDPressure`.
    pub pressure: &'a [&'a str],
}

/// Decides in upstream's order; the first reason counts.
///
/// # Errors
/// The pod's way to fail.
pub fn admit(pod: &Pod, room: &Room<'_>) -> Result<(), Rejection> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    check_pressure(pod, spec, room.pressure)?;
    check_sysctls(spec)?;
    check_os(pod, spec)?;
    check_resources(pod, room)?;
    if !affinity_allows(spec, room.node) {
        return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    if spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && name != room.node.name()) {
        return Err(predicate("NodeName", "node(s) didn't match the requested node name"));
    }
    check_ports(spec, room)?;
    if wants_apparmor(spec) {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return Err(rejection("AppArmor", message));
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let evicts = |taint: &&Taint| taint.effect == "NoExecute" && !tolerates(tolerations, taint);
    if !is_static(pod) && taints(room.node).iter().any(|taint| evicts(&taint)) {
        return Err(predicate("TaintToleration", "node(s) had untolerated taint(s)"));
    }
    Ok(())
}

fn rejection(reason: impl Into<String>, message: impl Into<String>) -> Rejection {
    Rejection { reason: reason.into(), message: message.into() }
}

fn predicate(name: &str, description: &str) -> Rejection {
    rejection(name, format!("Predicate {name} failed: {description}"))
}

/// Whether the pod comes from a file rather than from the API.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    pod.annotation("kubernetes.io/config.source").is_some_and(|source| source != "api")
}

/// Whether the node needs the pod more than its own comfort. Source: kubelet `IsCriticalPod`.
#[must_use]
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    is_static(pod)
        || pod.annotation("kubernetes.io/config.mirror").is_some()
        || priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL_PRIORITY)
}

/// The pods that leave so that one that the node needs has room: those of the least class first, and of those the ones
/// that free the most. `None`: it lacks something else, or all of them would not be enough.
/// Source: kubelet `preemption/preemption.go`.
#[must_use]
pub fn make_room(pod: &Pod, room: &Room<'_>) -> Option<Vec<String>> {
    if !is_critical(pod) {
        return None;
    }
    let mut others: Vec<&Pod> = room.others.to_vec();
    let mut leaving = Vec::new();
    loop {
        let rejection = match admit(pod, &Room { others: &others, ..*room }) {
            Ok(()) => return Some(leaving),
            Err(rejection) => rejection,
        };
        let short = rejection.reason.strip_prefix("OutOf")?.to_owned();
        let freed =
            |other: &Pod| amounts(&pod_requests(other)).get(&short).copied().unwrap_or(i64::from(short == "pods"));
        let may_leave = others.iter().enumerate().filter(|(_, other)| yields_to(pod, other) && freed(other) > 0);
        let (index, _) = may_leave.min_by_key(|(_, other)| (class_rank(other), std::cmp::Reverse(freed(other))))?;
        leaving.push(others.remove(index).uid().to_owned());
    }
}

/// Source: kubelet `types.Preemptable`.
fn yields_to(pod: &Pod, other: &Pod) -> bool {
    let priority = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    !is_critical(other) || (!is_static(other) && is_static(pod)) || priority(pod) > priority(other)
}

fn class_rank(pod: &Pod) -> u8 {
    match qos_class(pod) {
        QosClass::BestEffort => 0,
        QosClass::Burstable => 1,
        QosClass::Guaranteed => 2,
    }
}

fn check_pressure(pod: &Pod, spec: &PodSpec, pressure: &[&str]) -> Result<(), Rejection> {
    if pressure.is_empty() || is_critical(pod) {
        return Ok(());
    }
    if pressure == ["MemoryPressure"] {
        let taint =
            Taint { key: MEMORY_PRESSURE_TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
        let tolerated = tolerates(spec.tolerations.as_deref().unwrap_or_default(), &taint);
        if tolerated || qos_class(pod) != QosClass::BestEffort {
            return Ok(());
        }
    }
    Err(rejection("Evicted", format!("The node had condition: [{}]. ", pressure.join(" "))))
}

fn check_sysctls(spec: &PodSpec) -> Result<(), Rejection> {
    let listed = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    for sysctl in listed {
        let name = sysctl_name(&sysctl.name);
        let namespace = SAFE_SYSCTLS.iter().find(|(safe, _)| *safe == name).map(|(_, namespace)| *namespace);
        let why = match namespace {
            None => format!("{name:?} not allowlisted"),
            Some(SysctlNamespace::Ipc) if spec.host_ipc == Some(true) => {
                format!("{name:?} not allowed with host IPC enabled")
            }
            Some(SysctlNamespace::Net) if spec.host_network == Some(true) => {
                format!("{name:?} not allowed with host Net enabled")
            }
            Some(_) => continue,
        };
        return Err(rejection("SysctlForbidden", format!("forbidden sysctl: {why}")));
    }
    Ok(())
}

/// A name whose first separator is a slash is written with slashes throughout; dots then belong to its parts.
#[must_use]
pub fn sysctl_name(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    let swapped = name.chars().map(|character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    swapped.collect()
}

fn check_os(pod: &Pod, spec: &PodSpec) -> Result<(), Rejection> {
    if pod.label("kubernetes.io/os").is_some_and(|os| os != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(rejection("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    Ok(())
}

/// Profiles are not enforced here, and a pod that asks for one must not run without.
fn wants_apparmor(spec: &PodSpec) -> bool {
    let of_pod = spec.security_context.iter().filter_map(|context| context.app_armor_profile.as_ref());
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let contexts = spec.containers.iter().chain(init).filter_map(|container| container.security_context.as_ref());
    let of_containers = contexts.filter_map(|context| context.app_armor_profile.as_ref());
    of_pod.chain(of_containers).any(|profile| profile.type_ != "Unconfined")
}

/// Thousandths of a CPU, whole units of everything else.
type Amounts = BTreeMap<String, i64>;

fn amounts(list: &ResourceList) -> Amounts {
    let parsed = list.iter().filter_map(|(name, amount)| {
        let quantity = Quantity::parse(&amount.0).ok()?;
        Some((name.clone(), if name == "cpu" { quantity.milli_value() } else { quantity.value() }))
    });
    parsed.collect()
}

fn check_resources(pod: &Pod, room: &Room<'_>) -> Result<(), Rejection> {
    let status = room.node.status.as_ref();
    let capacity = status.and_then(|status| status.allocatable.as_ref()).map(amounts).unwrap_or_default();
    let has = |name: &str| capacity.get(name).copied().unwrap_or(0);
    let count = i64::try_from(room.others.len()).unwrap_or(i64::MAX);
    if count + 1 > has("pods") {
        return Err(insufficient("pods", 1, count, has("pods")));
    }
    let mut used = Amounts::new();
    for (name, amount) in room.others.iter().flat_map(|other| amounts(&pod_requests(other))) {
        *used.entry(name).or_default() += amount;
    }
    let wanted = amounts(&pod_requests(pod));
    let first = ["cpu", "memory", "ephemeral-storage"];
    let rest = wanted.keys().map(String::as_str).filter(|name| !first.contains(name));
    for name in first.into_iter().chain(rest) {
        let amount = wanted.get(name).copied().unwrap_or(0);
        // Resources that the node does not know are counted by others, for the whole cluster.
        let foreign = name.contains('/') && !capacity.contains_key(name);
        let used = used.get(name).copied().unwrap_or(0);
        if amount > 0 && !foreign && amount > has(name) - used {
            return Err(insufficient(name, amount, used, has(name)));
        }
    }
    Ok(())
}

fn insufficient(name: &str, requested: i64, used: i64, capacity: i64) -> Rejection {
    let message =
        format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
    rejection(format!("OutOf{name}"), message)
}

fn host_ports(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports.filter(|port| port.host_port.is_some_and(|port| port > 0))
}

fn check_ports(spec: &PodSpec, room: &Room<'_>) -> Result<(), Rejection> {
    let taken: Vec<&ContainerPort> =
        room.others.iter().filter_map(|other| other.spec.as_ref()).flat_map(host_ports).collect();
    if host_ports(spec).any(|wanted| taken.iter().any(|taken| conflict(wanted, taken))) {
        return Err(predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    Ok(())
}

fn conflict(a: &ContainerPort, b: &ContainerPort) -> bool {
    fn address(port: &ContainerPort) -> &str {
        port.host_ip.as_deref().filter(|ip| !matches!(*ip, "" | "0.0.0.0" | "::")).unwrap_or_default()
    }
    fn protocol(port: &ContainerPort) -> &str {
        port.protocol.as_deref().unwrap_or("TCP")
    }
    a.host_port == b.host_port
        && protocol(a) == protocol(b)
        && (address(a).is_empty() || address(b).is_empty() || address(a) == address(b))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, spec: &Value) -> Pod {
        Pod::from_value(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"},
            "spec": spec}))
        .expect("pod")
    }

    fn requests(cpu: &str, memory: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
    }

    fn check(spec: &Value, pressure: &[&str], want: Expect) {
        let node = Node::from_value(&json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "t", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/a": "1"}}}))
        .expect("node");
        let tolerant = |mut spec: Value| {
            if spec["tolerations"].is_null() {
                spec["tolerations"] = json!([{"key": "t", "operator": "Exists"}]);
            }
            spec
        };
        let other = pod("other", &requests("1500m", "100Mi"));
        let ports = pod(
            "ports",
            &json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 1, "hostPort": 80}, {"containerPort": 1, "hostPort": 81, "hostIP": "10.0.0.1"}]}]}),
        );
        let others = [&other, &ports];
        let room = Room { node: &node, others: &others, pressure };
        let text = match admit(&pod("p", &tolerant(spec.clone())), &room) {
            Ok(()) => "taken".to_owned(),
            Err(Rejection { reason, message }) => format!("{reason}: {message}"),
        };
        want.assert_eq(&text);
    }

    #[test]
    fn resources_and_pods_are_counted() {
        check(&requests("500m", "924Mi"), &[], expect!["taken"]);
        check(
            &requests("501m", "1Mi"),
            &[],
            expect!["OutOfcpu: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"],
        );
        check(
            &requests("1m", "1Gi"),
            &[],
            expect![
                "OutOfmemory: Node didn't have enough resource: memory, requested: 1073741824, used: 104857600, capacity: 1073741824"
            ],
        );
        let extended = |name: &str, amount: &str| json!({"containers": [{"name": "c", "resources": {"requests": {name: amount}}}]});
        check(
            &extended("example.com/a", "2"),
            &[],
            expect![
                "OutOfexample.com/a: Node didn't have enough resource: example.com/a, requested: 2, used: 0, capacity: 1"
            ],
        );
        check(&extended("example.com/b", "2"), &[], expect!["taken"]);
        let node = Node::from_value(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "status": {"allocatable": {"pods": "0"}}}))
        .expect("node");
        let full = admit(&pod("p", &json!({"containers": []})), &Room { node: &node, others: &[], pressure: &[] });
        assert_eq!(
            full.map_err(|rejection| rejection.message),
            Err("Node didn't have enough resource: pods, requested: 1, used: 0, capacity: 0".to_owned())
        );
    }

    #[test]
    fn places_ports_and_systems_are_checked() {
        let with = |field: &str, value: Value| json!({"containers": [{"name": "c"}], field: value});
        check(
            &with("nodeSelector", json!({"disk": "hdd"})),
            &[],
            expect!["NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"],
        );
        check(&with("nodeSelector", json!({"disk": "ssd"})), &[], expect!["taken"]);
        check(
            &with("nodeName", json!("n2")),
            &[],
            expect!["NodeName: Predicate NodeName failed: node(s) didn't match the requested node name"],
        );
        check(
            &with("tolerations", json!([])),
            &[],
            expect!["TaintToleration: Predicate TaintToleration failed: node(s) had untolerated taint(s)"],
        );
        check(
            &with("securityContext", json!({"appArmorProfile": {"type": "RuntimeDefault"}})),
            &[],
            expect!["AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host"],
        );
        check(
            &with("os", json!({"name": "windows"})),
            &[],
            expect!["PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS"],
        );
        let port = |port: Value| json!({"containers": [{"name": "c", "ports": [port]}]});
        check(
            &port(json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.2"})),
            &[],
            expect![
                "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
            ],
        );
        check(&port(json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"})), &[], expect!["taken"]);
        check(&port(json!({"containerPort": 1, "hostPort": 81, "hostIP": "10.0.0.2"})), &[], expect!["taken"]);
    }

    #[test]
    fn sysctls_must_be_safe() {
        let with = |name: &str, host: bool| {
            json!({"containers": [{"name": "c"}], "hostNetwork": host, "hostIPC": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}})
        };
        check(&with("kernel.shm_rmid_forced", false), &[], expect!["taken"]);
        check(&with("net/ipv4/tcp_syncookies", false), &[], expect!["taken"]);
        check(
            &with("kernel.msgmax", false),
            &[],
            expect![[r#"SysctlForbidden: forbidden sysctl: "kernel.msgmax" not allowlisted"#]],
        );
        check(
            &with("kernel/shm_rmid_forced", true),
            &[],
            expect![[
                r#"SysctlForbidden: forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled"#
            ]],
        );
    }

    #[test]
    fn what_the_node_needs_takes_the_room_of_others() {
        let node = Node::from_value(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}}))
        .expect("node");
        let named = |name: &str, spec: &Value| {
            let mut pod = pod(name, spec);
            pod.metadata.uid = Some(name.to_owned());
            pod
        };
        let small = named("small", &requests("500m", "1Mi"));
        let large = named("large", &requests("1200m", "1Mi"));
        let idle = named("idle", &json!({"containers": [{"name": "c"}]}));
        let others = [&small, &large, &idle];
        let room = Room { node: &node, others: &others, pressure: &[] };
        let critical = |cpu: &str| {
            let mut spec = requests(cpu, "1Mi");
            spec["priority"] = json!(2_000_001_000);
            named("critical", &spec)
        };
        assert_eq!(make_room(&critical("100m"), &room), Some(vec!["idle".to_owned()]));
        assert_eq!(make_room(&critical("1"), &room), Some(vec!["idle".to_owned(), "large".to_owned()]));
        assert_eq!(make_room(&critical("3"), &room), None);
        assert_eq!(make_room(&named("plain", &requests("1", "1Mi")), &room), None);
    }

    #[test]
    fn a_node_under_pressure_takes_little() {
        let best_effort = json!({"containers": [{"name": "c"}]});
        check(&best_effort, &["MemoryPressure"], expect!["Evicted: The node had condition: [MemoryPressure]. "]);
        check(&requests("1m", "1Mi"), &["MemoryPressure"], expect!["taken"]);
        check(&requests("1m", "1Mi"), &["DiskPressure"], expect!["Evicted: The node had condition: [DiskPressure]. "]);
        let critical = json!({"containers": [{"name": "c"}], "priority": 2_000_001_000});
        check(&critical, &["DiskPressure"], expect!["taken"]);
    }
}
