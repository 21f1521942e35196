//! Services, nodes, namespaces and what pods are given.

use std::collections::BTreeMap;

use base64::Engine as _;
use coracle_api_meta::{Quantity, Value, object::ObjectExt as _};

use super::Related;
use super::pod::volume_source;
use super::text::{Text, formatted_labels, is_true, list, moment, number, or, plain, plain_at};

/// Endpoints shown of a port.
const ENDPOINTS_MAX: usize = 3;

pub fn service(text: &mut Text, object: &Value, related: &Related) {
    text.head(object);
    let spec = |field: &str| plain_at(object, &["spec", field]);
    let joined =
        |field: &str| list(object, &["spec", field]).iter().map(|own| plain(Some(own))).collect::<Vec<_>>().join(",");
    text.field(0, "Selector", formatted_labels(object.at(&["spec", "selector"])));
    text.field(0, "Type", spec("type"));
    text.optional(0, "IP Family Policy", &spec("ipFamilyPolicy"));
    text.field(0, "IP Families", or(&joined("ipFamilies"), "<none>"));
    text.field(0, "IP", spec("clusterIP"));
    text.field(0, "IPs", or(&joined("clusterIPs"), "<none>"));
    text.optional(0, "External IPs", &joined("externalIPs"));
    text.optional(0, "Desired LoadBalancer IP", &spec("loadBalancerIP"));
    text.optional(0, "External Name", &spec("externalName"));
    let ingress: Vec<String> = list(object, &["status", "loadBalancer", "ingress"]).into_iter().map(ingress).collect();
    text.optional(0, "LoadBalancer Ingress", &ingress.join(", "));
    for port in list(object, &["spec", "ports"]) {
        let (name, protocol) = (port.str_at(&["name"]), port.str_at(&["protocol"]));
        text.field(0, "Port", format!("{}\t{}/{protocol}", or(name, "<unset>"), number(port, &["port"])));
        text.field(0, "TargetPort", format!("{}/{protocol}", plain_at(port, &["targetPort"])));
        text.optional(0, "AppProtocol", port.str_at(&["appProtocol"]));
        if number(port, &["nodePort"]) != 0 {
            text.field(0, "NodePort", format!("{}\t{}/{protocol}", or(name, "<unset>"), number(port, &["nodePort"])));
        }
        text.field(0, "Endpoints", endpoints(&related.slices, name));
    }
    text.field(0, "Session Affinity", spec("sessionAffinity"));
    text.optional(0, "External Traffic Policy", &spec("externalTrafficPolicy"));
    text.optional(0, "Internal Traffic Policy", &spec("internalTrafficPolicy"));
    text.optional(0, "HealthCheck NodePort", &spec("healthCheckNodePort"));
    text.optional(0, "LoadBalancer Source Ranges", &joined("loadBalancerSourceRanges"));
    text.optional(0, "Traffic Distribution", &spec("trafficDistribution"));
}

fn ingress(own: &Value) -> String {
    match (own.str_at(&["ip"]), own.str_at(&["hostname"]), own.str_at(&["ipMode"])) {
        ("", name, _) => name.to_owned(),
        (ip, _, "") => ip.to_owned(),
        (ip, _, mode) => format!("{ip} ({mode})"),
    }
}

pub fn endpoints(slices: &[Value], name: &str) -> String {
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for slice in slices {
        let ports = list(slice, &["ports"]);
        let numbers: Vec<String> = if ports.is_empty() {
            vec![String::new()]
        } else {
            let own = ports.into_iter().filter(|port| port.str_at(&["name"]) == name);
            own.map(|port| format!(":{}", number(port, &["port"]))).collect()
        };
        for number in numbers {
            for endpoint in list(slice, &["endpoints"]) {
                let address = list(endpoint, &["addresses"]).first().map(|own| plain(Some(own))).unwrap_or_default();
                if endpoint.at(&["conditions", "ready"]) != Some(&Value::Bool(false)) {
                    let bare = number.is_empty() || !address.contains(':');
                    all.push(if bare { format!("{address}{number}") } else { format!("[{address}]{number}") });
                }
            }
        }
    }
    let more = all.len().saturating_sub(ENDPOINTS_MAX);
    all.truncate(ENDPOINTS_MAX);
    if more == 0 { all.join(",") } else { format!("{} + {more} more...", all.join(",")) }
}

pub fn namespace(text: &mut Text, object: &Value, related: &Related) {
    text.head(object);
    text.field(0, "Status", object.str_at(&["status", "phase"]));
    let conditions = list(object, &["status", "conditions"]);
    if !conditions.is_empty() {
        text.raw(0, "Conditions:");
        text.raw(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        text.raw(1, "----\t------\t------------------\t------\t-------");
    }
    for own in conditions {
        let since = moment(own.str_at(&["lastTransitionTime"]));
        let (kind, status) = (own.str_at(&["type"]), own.str_at(&["status"]));
        text.raw(1, &format!("{kind}\t{status}\t{since}\t{}\t{}", own.str_at(&["reason"]), own.str_at(&["message"])));
    }
    text.raw(0, "");
    if related.quotas.is_empty() {
        text.raw(0, "No resource quota.");
    } else {
        text.raw(0, "Resource Quotas");
    }
    for quota in &related.quotas {
        text.field(1, "Name", quota.name());
        text.raw(1, "Resource\tUsed\tHard");
        text.raw(1, "--------\t---\t---");
        for (name, used, hard) in amounts(quota) {
            text.raw(1, &format!("{name}\t{used}\t{hard}"));
        }
    }
    text.raw(0, "");
    limits(text, related);
}

fn limits(text: &mut Text, related: &Related) {
    if related.limits.is_empty() {
        return text.raw(0, "No LimitRange resource.");
    }
    text.raw(0, "Resource Limits");
    text.raw(0, " Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
    text.raw(0, " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
    for item in related.limits.iter().flat_map(|range| list(range, &["spec", "limits"])) {
        limit_rows(text, item, " ");
    }
}

/// One row for each resource of a limit.
pub fn limit_rows(text: &mut Text, item: &Value, indent: &str) {
    let fields = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    let mut names: Vec<&String> =
        fields.iter().filter_map(|field| item.get(field)?.as_object()).flat_map(|own| own.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let cells: Vec<String> =
            fields.iter().map(|field| or(&plain_at(item, &[field, name]), "-").to_owned()).collect();
        text.raw(0, &format!("{indent}{}\t{name}\t{}", item.str_at(&["type"]), cells.join("\t")));
    }
}

fn amounts(quota: &Value) -> Vec<(String, String, String)> {
    let hard = quota.at(&["status", "hard"]).and_then(Value::as_object);
    let one = |(name, hard): (&String, &Value)| {
        let used = plain_at(quota, &["status", "used", name]);
        (name.clone(), or(&used, "0").to_owned(), plain(Some(hard)))
    };
    let mut all: Vec<_> = hard.into_iter().flatten().map(one).collect();
    all.sort();
    all
}

pub fn quota(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    let mut scopes: Vec<String> = list(object, &["spec", "scopes"]).iter().map(|own| plain(Some(own))).collect();
    scopes.sort();
    text.optional(0, "Scopes", &scopes.join(", "));
    text.raw(0, "Resource\tUsed\tHard");
    text.raw(0, "--------\t----\t----");
    for (name, used, hard) in amounts(object) {
        text.raw(0, &format!("{name}\t{used}\t{hard}"));
    }
}

pub fn config_map(text: &mut Text, object: &Value) {
    text.head(object);
    text.raw(0, "\nData\n====");
    for (key, value) in sorted(object.get("data")) {
        text.raw(0, &format!("{key}:\n----\n{value}\n"));
    }
    text.raw(0, "\nBinaryData\n====");
    for (key, value) in sorted(object.get("binaryData")) {
        text.raw(0, &format!("{key}: {} bytes", decoded(&value).len()));
    }
    text.raw(0, "");
}

pub fn secret(text: &mut Text, object: &Value) {
    text.head(object);
    let kind = object.str_at(&["type"]);
    text.raw(0, "");
    text.field(0, "Type", kind);
    text.raw(0, "\nData\n====");
    for (key, value) in sorted(object.get("data")) {
        let bytes = decoded(&value);
        if key == "token" && kind == "kubernetes.io/service-account-token" {
            text.field(0, &key, String::from_utf8_lossy(&bytes));
        } else {
            text.field(0, &key, format!("{} bytes", bytes.len()));
        }
    }
}

fn sorted(map: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = map.and_then(Value::as_object).into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), plain(Some(value)))).collect()
}

fn decoded(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

pub fn service_account(text: &mut Text, object: &Value, related: &Related) {
    text.head(object);
    let names = |field: &str| -> Vec<String> {
        list(object, &[field]).iter().map(|own| own.str_at(&["name"]).to_owned()).collect()
    };
    // Source: `describeServiceAccount` of kubectl 1.32.
    text.lines("Image pull secrets", names("imagePullSecrets"));
    text.lines("Mountable secrets", names("secrets"));
    text.lines("Tokens", related.tokens.iter().map(|own| own.name().to_owned()).collect());
}

pub fn claim(text: &mut Text, object: &Value, related: &Related) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    text.field(0, "StorageClass", object.str_at(&["spec", "storageClassName"]));
    phase(text, object);
    let volume = object.str_at(&["spec", "volumeName"]);
    text.field(0, "Volume", volume);
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.field(0, "Finalizers", words(object, &["metadata", "finalizers"]));
    let bound = !volume.is_empty();
    text.field(0, "Capacity", if bound { object.str_at(&["status", "capacity", "storage"]) } else { "" });
    text.field(0, "Access Modes", if bound { modes(object, &["status", "accessModes"]) } else { String::new() });
    text.optional(0, "VolumeMode", object.str_at(&["spec", "volumeMode"]));
    let uses = |pod: &&Value| {
        let volumes = list(pod, &["spec", "volumes"]);
        volumes.iter().any(|own| own.str_at(&["persistentVolumeClaim", "claimName"]) == object.name())
    };
    text.lines("Used By", related.pods.iter().filter(uses).map(|pod| pod.name().to_owned()).collect());
}

pub fn volume(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.field(0, "Finalizers", words(object, &["metadata", "finalizers"]));
    text.field(0, "StorageClass", object.str_at(&["spec", "storageClassName"]));
    phase(text, object);
    let claim = object.at(&["spec", "claimRef"]);
    text.field(
        0,
        "Claim",
        claim.map(|own| format!("{}/{}", own.str_at(&["namespace"]), own.str_at(&["name"]))).unwrap_or_default(),
    );
    text.field(0, "Reclaim Policy", object.str_at(&["spec", "persistentVolumeReclaimPolicy"]));
    text.field(0, "Access Modes", modes(object, &["spec", "accessModes"]));
    text.optional(0, "VolumeMode", object.str_at(&["spec", "volumeMode"]));
    text.field(0, "Capacity", plain_at(object, &["spec", "capacity", "storage"]));
    node_affinity(text, object);
    text.field(0, "Message", object.str_at(&["status", "message"]));
    text.raw(0, "Source:");
    volume_source(text, object.get("spec").unwrap_or(&Value::Null));
}

fn node_affinity(text: &mut Text, object: &Value) {
    let terms = object.at(&["spec", "nodeAffinity", "required"]).map(|own| list(own, &["nodeSelectorTerms"]));
    let Some(terms) = terms else { return text.field(0, "Node Affinity", "<none>") };
    text.raw(0, "Node Affinity:");
    text.raw(1, "Required Terms:");
    for (index, term) in terms.into_iter().enumerate() {
        let one = |own: &Value| {
            let values: Vec<String> = list(own, &["values"]).iter().map(|value| plain(Some(value))).collect();
            let operator = own.str_at(&["operator"]).to_lowercase();
            format!("{} {operator} [{}]", own.str_at(&["key"]), values.join(", "))
        };
        text.lines(&format!("    Term {index}"), list(term, &["matchExpressions"]).into_iter().map(one).collect());
    }
}

fn phase(text: &mut Text, object: &Value) {
    match object.meta_str("deletionTimestamp") {
        "" => text.field(0, "Status", object.str_at(&["status", "phase"])),
        deleted => text.field(0, "Status", format!("Terminating (lasts {})", text.age(deleted))),
    }
}

/// As Go prints a list of words.
fn words(object: &Value, path: &[&str]) -> String {
    let all: Vec<String> = list(object, path).iter().map(|own| plain(Some(own))).collect();
    format!("[{}]", all.join(" "))
}

fn modes(object: &Value, path: &[&str]) -> String {
    let all = list(object, path);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |name: &str| all.iter().any(|own| own.as_str() == Some(name));
    short.iter().filter(|(name, _)| has(name)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub fn node(text: &mut Text, object: &Value, related: &Related) {
    text.field(0, "Name", object.name());
    let role = |key: &String| key.strip_prefix("node-role.kubernetes.io/").map(str::to_owned);
    let mut roles: Vec<String> =
        object.labels().into_iter().flat_map(|labels| labels.keys().filter_map(role)).collect();
    roles.sort();
    text.field(0, "Roles", or(&roles.join(","), "<none>"));
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.field(0, "CreationTimestamp", moment(object.meta_str("creationTimestamp")));
    text.lines("Taints", taints(object));
    text.field(0, "Unschedulable", is_true(object.at(&["spec", "unschedulable"])).to_string());
    lease(text, related);
    node_conditions(text, object);
    text.raw(0, "Addresses:");
    list(object, &["status", "addresses"])
        .iter()
        .for_each(|own| text.field(1, own.str_at(&["type"]), own.str_at(&["address"])));
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        text.raw(0, &format!("{title}:"));
        sorted(object.at(&["status", field])).iter().for_each(|(name, amount)| text.field(1, name, amount));
    }
    text.raw(0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
        // kubectl 1.32 still shows a version that no node reports any more.
        ("Kube-Proxy Version", "kubeProxyVersion"),
    ] {
        text.field(1, title, object.str_at(&["status", "nodeInfo", field]));
    }
    text.optional(0, "PodCIDR", object.str_at(&["spec", "podCIDR"]));
    let cidrs: Vec<String> = list(object, &["spec", "podCIDRs"]).iter().map(|own| plain(Some(own))).collect();
    text.optional(0, "PodCIDRs", &cidrs.join(","));
    text.optional(0, "ProviderID", object.str_at(&["spec", "providerID"]));
    usage(text, object, related);
}

fn taints(object: &Value) -> Vec<String> {
    let mut taints = list(object, &["spec", "taints"]);
    taints.sort_by_key(|own| format!("{},{}", own.str_at(&["effect"]), own.str_at(&["key"])));
    let one = |own: &&Value| match (own.str_at(&["key"]), own.str_at(&["value"]), own.str_at(&["effect"])) {
        (key, "", effect) => format!("{key}:{effect}"),
        (key, value, effect) => format!("{key}={value}:{effect}"),
    };
    taints.iter().map(one).collect()
}

fn lease(text: &mut Text, related: &Related) {
    let Some(lease) = &related.lease else { return };
    text.raw(0, "Lease:");
    let spec = |field: &str| lease.str_at(&["spec", field]);
    text.field(1, "HolderIdentity", or(spec("holderIdentity"), "<unset>"));
    for (title, field) in [("AcquireTime", "acquireTime"), ("RenewTime", "renewTime")] {
        let time = if spec(field).is_empty() { "<unset>".to_owned() } else { moment(spec(field)) };
        text.field(1, title, time);
    }
}

fn node_conditions(text: &mut Text, object: &Value) {
    text.raw(0, "Conditions:");
    text.raw(0, "  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
    text.raw(1, "----\t------\t-----------------\t------------------\t------\t-------");
    for own in list(object, &["status", "conditions"]) {
        let field = |name: &str| own.str_at(&[name]);
        let (heartbeat, since) = (moment(field("lastHeartbeatTime")), moment(field("lastTransitionTime")));
        let (kind, status) = (field("type"), field("status"));
        text.raw(1, &format!("{kind} \t{status} \t{heartbeat} \t{since} \t{} \t{}", field("reason"), field("message")));
    }
}

/// Requests or limits of a pod. Source: `k8s.io/component-helpers/resource`.
fn of_pod(pod: &Value, kind: &str, resource: &str) -> Quantity {
    let of = |container: &Value| {
        Quantity::parse(&plain_at(container, &["resources", kind, resource])).unwrap_or(Quantity::ZERO)
    };
    let mut sum = Quantity::ZERO;
    for container in list(pod, &["spec", "containers"]) {
        sum = sum.plus(&of(container));
    }
    let mut sidecars = Quantity::ZERO;
    let mut peak = Quantity::ZERO;
    for container in list(pod, &["spec", "initContainers"]) {
        if container.str_at(&["restartPolicy"]) == "Always" {
            sidecars = sidecars.plus(&of(container));
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.plus(&of(container)));
        }
    }
    let overhead = Quantity::parse(&plain_at(pod, &["spec", "overhead", resource])).unwrap_or(Quantity::ZERO);
    let total = sum.plus(&sidecars).max(peak);
    if total.is_zero() && kind == "limits" { total } else { total.plus(&overhead) }
}

fn usage(text: &mut Text, object: &Value, related: &Related) {
    let running = |pod: &&Value| !matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed");
    let pods: Vec<&Value> = related.pods.iter().filter(running).collect();
    let allocatable = |resource: &str| {
        Quantity::parse(&plain_at(object, &["status", "allocatable", resource])).unwrap_or(Quantity::ZERO)
    };
    let share = |amount: &Quantity, resource: &str| {
        let whole = allocatable(resource).milli_value();
        let percent = if whole == 0 { 0 } else { i128::from(amount.milli_value()) * 100 / i128::from(whole) };
        format!("{amount} ({percent}%)")
    };
    text.field(0, "Non-terminated Pods", format!("({} in total)", pods.len()));
    text.raw(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    text.raw(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let kinds = [("requests", "cpu"), ("limits", "cpu"), ("requests", "memory"), ("limits", "memory")];
    for pod in &pods {
        let cells: Vec<String> =
            kinds.iter().map(|(kind, resource)| share(&of_pod(pod, kind, resource), resource)).collect();
        let age = text.age(pod.meta_str("creationTimestamp"));
        text.raw(1, &format!("{}\t{}\t\t{}\t{age}", pod.namespace(), pod.name(), cells.join("\t")));
    }
    text.raw(0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)");
    text.raw(1, "Resource\tRequests\tLimits");
    text.raw(1, "--------\t--------\t------");
    let total = |kind: &str, resource: &str| {
        pods.iter().fold(Quantity::ZERO, |sum, pod| sum.plus(&of_pod(pod, kind, resource)))
    };
    let known = sorted(object.at(&["status", "allocatable"]));
    let plain_resources = ["cpu", "memory", "ephemeral-storage"];
    let huge = known.keys().filter(|name| name.starts_with("hugepages-")).map(String::as_str);
    for resource in plain_resources.into_iter().chain(huge) {
        let (requests, limits) = (total("requests", resource), total("limits", resource));
        text.raw(1, &format!("{resource}\t{}\t{}", share(&requests, resource), share(&limits, resource)));
    }
    let other = |name: &&String| {
        !plain_resources.contains(&name.as_str()) && !name.starts_with("hugepages-") && *name != "pods"
    };
    for resource in known.keys().filter(other) {
        text.raw(1, &format!("{resource}\t{}\t{}", total("requests", resource), total("limits", resource)));
    }
}
