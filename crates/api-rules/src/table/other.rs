//! The core group and the small groups.

use coracle_api_meta::{ObjectExt, Value};
use jiff::Timestamp;

use super::duration::{age, human, since};
use super::rows::{
    AGE, NAME, NAME_AGE, Table, boolean, condition, containers, count, deleted, flag, int, integer, labels, list,
    name_age, selector, shown, some_of, text, text_or, wide,
};
use super::{Column, pod, storage, workloads};

pub(crate) fn core(kind: &str) -> Option<Table> {
    Some(match kind {
        "Pod" => pod::TABLE,
        "Service" => (
            const { &[NAME, text("Type"), text("Cluster-IP"), text("External-IP"), text("Port(s)"), AGE, wide("Selector")] },
            service,
        ),
        "Node" => (
            const {
                &[
                    NAME,
                    text("Status"),
                    text("Roles"),
                    AGE,
                    text("Version"),
                    wide("Internal-IP"),
                    wide("External-IP"),
                    wide("OS-Image"),
                    wide("Kernel-Version"),
                    wide("Container-Runtime"),
                ]
            },
            node,
        ),
        "Event" => (EVENT, event),
        "Namespace" => (const { &[NAME, text("Status"), AGE] }, namespace),
        "Secret" => (const { &[NAME, text("Type"), text("Data"), AGE] }, secret),
        "ConfigMap" => (const { &[NAME, text("Data"), AGE] }, config_map),
        "ServiceAccount" => (NAME_AGE, name_age),
        "Endpoints" => (const { &[NAME, text("Endpoints"), AGE] }, endpoints),
        "PersistentVolume" => storage::VOLUME,
        "PersistentVolumeClaim" => storage::CLAIM,
        "ReplicationController" => (workloads::REPLICAS, workloads::replication_controller),
        "PodTemplate" => (const { &[NAME, text("Containers"), text("Images"), text("Pod Labels")] }, pod_template),
        "ResourceQuota" => (const { &[NAME, text("Request"), text("Limit"), AGE] }, quota),
        "ComponentStatus" => (const { &[NAME, text("Status"), text("Message"), text("Error")] }, component_status),
        _ => return None,
    })
}

pub(crate) fn table(kind: &str) -> Option<Table> {
    Some(match kind {
        "Event" => (EVENT, event_v1),
        "EndpointSlice" => {
            (const { &[NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE] }, endpoint_slice)
        }
        "Ingress" => (const { &[NAME, text("Class"), text("Hosts"), text("Address"), text("Ports"), AGE] }, ingress),
        "IngressClass" => (const { &[NAME, text("Controller"), text("Parameters"), AGE] }, ingress_class),
        "NetworkPolicy" => (const { &[NAME, text("Pod-Selector"), AGE] }, network_policy),
        "ServiceCIDR" => (const { &[NAME, text("CIDRs"), AGE] }, service_cidr),
        "IPAddress" => (const { &[NAME, text("ParentRef"), AGE] }, ip_address),
        "RoleBinding" | "ClusterRoleBinding" => {
            (const { &[NAME, text("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")] }, role_binding)
        }
        "CertificateSigningRequest" => (
            const { &[NAME, AGE, text("SignerName"), text("Requestor"), text("RequestedDuration"), text("Condition")] },
            signing_request,
        ),
        "Lease" => (const { &[NAME, text("Holder"), AGE] }, lease),
        "PriorityClass" => (
            const { &[NAME, integer("Value"), boolean("Global-Default"), AGE, text("PreemptionPolicy")] },
            priority_class,
        ),
        "RuntimeClass" => (const { &[NAME, text("Handler"), AGE] }, runtime_class),
        "DeviceClass" | "ResourceClaimTemplate" => (NAME_AGE, name_age),
        "ResourceClaim" => (const { &[NAME, text("State"), AGE] }, resource_claim),
        "ResourceSlice" => (const { &[NAME, text("Node"), text("Driver"), text("Pool"), AGE] }, resource_slice),
        _ => return None,
    })
}

// Services and their endpoints.

fn balancer(object: &Value) -> String {
    let ingress = list(object, &["status", "loadBalancer", "ingress"]).iter();
    let mut names: Vec<&str> = ingress.map(|one| text_or(one, &["ip"], one.str_at(&["hostname"]))).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

fn external_ip(service: &Value) -> String {
    let own: Vec<&str> = list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    match service.str_at(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => or(own.join(","), "<none>"),
        "LoadBalancer" => {
            let given = balancer(service);
            let all: Vec<&str> = [given.as_str()].into_iter().filter(|ip| !ip.is_empty()).chain(own).collect();
            or(all.join(","), "<pending>")
        }
        "ExternalName" => service.str_at(&["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports = list(object, &["spec", "ports"]).iter().map(|port| {
        let (number, protocol) = (int(port, &["port"]), port.str_at(&["protocol"]));
        match int(port, &["nodePort"]) {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    let ips = list(object, &["spec", "clusterIPs"]);
    vec![
        object.name().into(),
        object.str_at(&["spec", "type"]).into(),
        ips.first().and_then(Value::as_str).unwrap_or("<none>").into(),
        external_ip(object).into(),
        if ports.is_empty() { "<none>".to_owned() } else { ports }.into(),
        age(object, now).into(),
        labels(object.at(&["spec", "selector"])).into(),
    ]
}

const ENDPOINTS_MAX: usize = 3;

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let subsets = list(object, &["subsets"]);
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = list(subset, &["addresses"]);
        let ports = list(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(addresses.iter().map(|address| address.str_at(&["ip"]).to_owned()));
        }
        for port in ports {
            all.extend(addresses.iter().map(|address| host_port(address.str_at(&["ip"]), int(port, &["port"]))));
        }
    }
    let shown = if subsets.is_empty() { "<none>".to_owned() } else { some_of(&all, ENDPOINTS_MAX) };
    vec![object.name().into(), shown.into(), age(object, now).into()]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, &["ports"])
        .iter()
        .map(|port| {
            let name = port.get("name").and_then(Value::as_str);
            shown(port.get("port")).unwrap_or_else(|| name.unwrap_or("*").to_owned())
        })
        .collect();
    let addresses: Vec<String> = list(object, &["endpoints"])
        .iter()
        .flat_map(|endpoint| list(endpoint, &["addresses"]))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let some = |items: &[String]| {
        let shown = some_of(items, ENDPOINTS_MAX);
        if shown.is_empty() { "<unset>".to_owned() } else { shown }
    };
    vec![
        object.name().into(),
        object.str_at(&["addressType"]).into(),
        some(&ports).into(),
        some(&addresses).into(),
        age(object, now).into(),
    ]
}

// Nodes.

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut status = match condition(object, "Ready") {
        None => "Unknown".to_owned(),
        Some(ready) if ready.str_at(&["status"]) == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if flag(object, &["spec", "unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let all = list(object, &["status", "addresses"]).iter();
        all.filter(|one| one.str_at(&["type"]) == kind).map(|one| one.str_at(&["address"])).next().unwrap_or("<none>")
    };
    let info = |field: &'static str| text_or(object, &["status", "nodeInfo", field], "<unknown>");
    let mut kernel = info("kernelVersion").to_owned();
    let architecture = object.str_at(&["status", "nodeInfo", "architecture"]);
    if !architecture.is_empty() {
        kernel = format!("{kernel} ({architecture})");
    }
    vec![
        object.name().into(),
        status.into(),
        roles(object).into(),
        age(object, now).into(),
        object.str_at(&["status", "nodeInfo", "kubeletVersion"]).into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        kernel.into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn roles(node: &Value) -> String {
    let labels = node.labels().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

// Events.

const EVENT: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    wide("Subobject"),
    wide("Source"),
    text("Message"),
    wide("First Seen"),
    wide("Count"),
    Column { priority: 1, ..NAME },
];

fn event_v1(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut object = object.clone();
    crate::convert::convert(&mut object, &coracle_api_meta::Gvk::new("", "v1", "Event"));
    event(&object, now)
}

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let first = since(text_or(object, &["firstTimestamp"], object.str_at(&["eventTime"])), now);
    let series = object.get("series").filter(|series| series.is_object());
    let last = match (series, object.str_at(&["lastTimestamp"])) {
        (Some(series), _) => since(series.str_at(&["lastObservedTime"]), now),
        (None, "") => first.clone(),
        (None, stamp) => since(stamp, now),
    };
    let times = match series {
        Some(series) => int(series, &["count"]),
        None => int(object, &["count"]).max(1),
    };
    let about = object.get("involvedObject").unwrap_or(&Value::Null);
    let kind = about.str_at(&["kind"]).to_lowercase();
    let name = about.str_at(&["name"]);
    let component = text_or(object, &["source", "component"], object.str_at(&["reportingComponent"]));
    let host = text_or(object, &["source", "host"], object.str_at(&["reportingInstance"]));
    vec![
        last.into(),
        object.str_at(&["type"]).into(),
        object.str_at(&["reason"]).into(),
        if name.is_empty() { kind } else { format!("{kind}/{name}") }.into(),
        about.str_at(&["fieldPath"]).into(),
        if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }.into(),
        object.str_at(&["message"]).trim().into(),
        first.into(),
        times.into(),
        object.name().into(),
    ]
}

// The rest of the core group.

fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.str_at(&["status", "phase"]).into(), age(object, now).into()]
}

fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        object.str_at(&["type"]).into(),
        count(object, &["data"]).into(),
        age(object, now).into(),
    ]
}

fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let entries = count(object, &["data"]) + count(object, &["binaryData"]);
    vec![object.name().into(), entries.into(), age(object, now).into()]
}

fn pod_template(object: &Value, _: Timestamp) -> Vec<Value> {
    let (names, images) = containers(object.get("template"));
    let labels = labels(object.at(&["template", "metadata", "labels"]));
    vec![object.name().into(), names.into(), images.into(), labels.into()]
}

fn quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = object.at(&["status", "hard"]).and_then(Value::as_object).into_iter().flatten();
    let mut hard: Vec<(&String, &Value)> = hard.collect();
    hard.sort_by_key(|(name, _)| *name);
    for (name, limit) in hard {
        let used = shown(object.at(&["status", "used", name])).unwrap_or_else(|| "0".to_owned());
        let cell = format!("{name}: {used}/{}", shown(Some(limit)).unwrap_or_default());
        if name.starts_with("limits.") { limits.push(cell) } else { requests.push(cell) }
    }
    vec![object.name().into(), requests.join(", ").into(), limits.join(", ").into(), age(object, now).into()]
}

fn component_status(object: &Value, _: Timestamp) -> Vec<Value> {
    let healthy = list(object, &["conditions"]).iter().find(|one| one.str_at(&["type"]) == "Healthy");
    let status = match healthy {
        None => "Unknown",
        Some(healthy) if healthy.str_at(&["status"]) == "True" => "Healthy",
        Some(_) => "Unhealthy",
    };
    let part = |field: &str| healthy.map(|healthy| healthy.str_at(&[field])).unwrap_or_default();
    vec![object.name().into(), status.into(), part("message").into(), part("error").into()]
}

// Networking.

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let rules = list(object, &["spec", "rules"]);
    let hosts: Vec<&str> = rules.iter().map(|rule| rule.str_at(&["host"])).filter(|host| !host.is_empty()).collect();
    let shown = match hosts.len() {
        0 => "*".to_owned(),
        1..=ENDPOINTS_MAX => hosts.join(","),
        _ => {
            let first: Vec<&str> = hosts.into_iter().take(ENDPOINTS_MAX).collect();
            format!("{} + {} more...", first.join(","), rules.len() - ENDPOINTS_MAX)
        }
    };
    let tls = !list(object, &["spec", "tls"]).is_empty();
    vec![
        object.name().into(),
        text_or(object, &["spec", "ingressClassName"], "<none>").into(),
        shown.into(),
        balancer(object).into(),
        if tls { "80, 443" } else { "80" }.into(),
        age(object, now).into(),
    ]
}

fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let annotation =
        object.annotations().and_then(|all| all.get("ingressclass.kubernetes.io/is-default-class")?.as_str());
    let suffix = if annotation == Some("true") { " (default)" } else { "" };
    let parameters = object.at(&["spec", "parameters"]).filter(|found| found.is_object()).map(|found| {
        let group = found.get("apiGroup").and_then(Value::as_str).map(|group| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", found.str_at(&["kind"]), found.str_at(&["name"]))
    });
    vec![
        format!("{}{suffix}", object.name()).into(),
        object.str_at(&["spec", "controller"]).into(),
        parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
        age(object, now).into(),
    ]
}

fn network_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), selector(object.at(&["spec", "podSelector"])).into(), age(object, now).into()]
}

fn service_cidr(object: &Value, now: Timestamp) -> Vec<Value> {
    let cidrs: Vec<&str> = list(object, &["spec", "cidrs"]).iter().filter_map(Value::as_str).collect();
    vec![object.name().into(), cidrs.join(",").into(), age(object, now).into()]
}

fn ip_address(object: &Value, now: Timestamp) -> Vec<Value> {
    let parent = object.at(&["spec", "parentRef"]).filter(|parent| parent.is_object()).map(|parent| {
        let mut shown = parent.str_at(&["resource"]).to_lowercase();
        let (group, namespace) = (parent.str_at(&["group"]), parent.str_at(&["namespace"]));
        if !group.is_empty() {
            shown = format!("{shown}.{}", group.to_lowercase());
        }
        if !namespace.is_empty() {
            shown = format!("{shown}/{namespace}");
        }
        format!("{shown}/{}", parent.str_at(&["name"]))
    });
    vec![object.name().into(), parent.unwrap_or_else(|| "<none>".to_owned()).into(), age(object, now).into()]
}

// Access.

fn role_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let of = |kind: &str| -> Value {
        let subjects = list(object, &["subjects"]).iter().filter(|subject| subject.str_at(&["kind"]) == kind);
        let names = subjects.map(|subject| match (kind, subject.str_at(&["namespace"])) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => {
                format!("{namespace}/{}", subject.str_at(&["name"]))
            }
            _ => subject.str_at(&["name"]).to_owned(),
        });
        names.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        object.name().into(),
        format!("{}/{}", object.str_at(&["roleRef", "kind"]), object.str_at(&["roleRef", "name"])).into(),
        age(object, now).into(),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

fn signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let has = |kind: &str| condition(object, kind).is_some();
    let mut status = match () {
        () if has("Denied") => "Denied".to_owned(),
        () if has("Approved") => "Approved".to_owned(),
        () => "Pending".to_owned(),
    };
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !object.str_at(&["status", "certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    let seconds = object.at(&["spec", "expirationSeconds"]).and_then(Value::as_i64);
    vec![
        object.name().into(),
        age(object, now).into(),
        text_or(object, &["spec", "signerName"], "<none>").into(),
        object.str_at(&["spec", "username"]).into(),
        seconds.map_or_else(|| "<none>".to_owned(), human).into(),
        status.into(),
    ]
}

fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.str_at(&["spec", "holderIdentity"]).into(), age(object, now).into()]
}

fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        int(object, &["value"]).into(),
        flag(object, &["globalDefault"]).into(),
        age(object, now).into(),
        object.str_at(&["preemptionPolicy"]).into(),
    ]
}

fn runtime_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.str_at(&["handler"]).into(), age(object, now).into()]
}

fn resource_claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut states = Vec::new();
    if deleted(object) {
        states.push("deleted");
    }
    if object.at(&["status", "allocation"]).is_some_and(Value::is_object) {
        states.push("allocated");
        if !list(object, &["status", "reservedFor"]).is_empty() {
            states.push("reserved");
        }
    } else if !deleted(object) {
        states.push("pending");
    }
    vec![object.name().into(), states.join(",").into(), age(object, now).into()]
}

fn resource_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        object.str_at(&["spec", "nodeName"]).into(),
        object.str_at(&["spec", "driver"]).into(),
        object.str_at(&["spec", "pool", "name"]).into(),
        age(object, now).into(),
    ]
}
