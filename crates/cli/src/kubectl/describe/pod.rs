//! Pods and templates of pods.

use coracle_api_meta::{Quantity, Value, object::ObjectExt as _};

use super::text::{Text, is_true, list, moment, number, or, plain, plain_at};

pub fn describe(text: &mut Text, pod: &Value) {
    text.field(0, "Name", pod.name());
    text.field(0, "Namespace", pod.namespace());
    text.optional(0, "Priority", &plain_at(pod, &["spec", "priority"]));
    text.optional(0, "Priority Class Name", pod.str_at(&["spec", "priorityClassName"]));
    text.optional(0, "Runtime Class Name", pod.str_at(&["spec", "runtimeClassName"]));
    text.optional(0, "Service Account", pod.str_at(&["spec", "serviceAccountName"]));
    match pod.str_at(&["spec", "nodeName"]) {
        "" => text.field(0, "Node", "<none>"),
        node => text.field(0, "Node", format!("{node}/{}", pod.str_at(&["status", "hostIP"]))),
    }
    text.time(0, "Start Time", pod.str_at(&["status", "startTime"]));
    text.labels("Labels", pod.labels());
    text.annotations("Annotations", pod.annotations());
    status(text, pod);
    seccomp(text, 0, pod.at(&["spec", "securityContext", "seccompProfile"]));
    text.field(0, "IP", pod.str_at(&["status", "podIP"]));
    let addresses = list(pod, &["status", "podIPs"]);
    text.raw(0, if addresses.is_empty() { "IPs:\t<none>" } else { "IPs:" });
    addresses.iter().for_each(|address| text.field(1, "IP", address.str_at(&["ip"])));
    text.controlled_by(pod);
    text.optional(0, "NominatedNodeName", pod.str_at(&["status", "nominatedNodeName"]));
    if let Some(resources) = pod.at(&["spec", "resources"]) {
        text.raw(0, "Resources:");
        amounts(text, 1, resources);
    }
    for (title, specs, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        let specs = list(pod, &["spec", specs]);
        if specs.is_empty() && title != "Containers" {
            continue;
        }
        text.raw(0, &format!("{title}:"));
        let statuses = list(pod, &["status", statuses]);
        for spec in specs {
            let status = statuses.iter().find(|status| status.str_at(&["name"]) == spec.str_at(&["name"]));
            container(text, spec, status.copied(), Some(pod), "");
        }
    }
    conditions(text, pod);
    volumes(text, &list(pod, &["spec", "volumes"]), "");
    text.field(0, "QoS Class", pod.str_at(&["status", "qosClass"]));
    text.labels("Node-Selectors", pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object));
    tolerations(text, "Tolerations", &list(pod, &["spec", "tolerations"]));
    spreading(text, &list(pod, &["spec", "topologySpreadConstraints"]), "");
}

/// What a workload makes its pods from.
pub fn template(text: &mut Text, template: &Value) {
    text.raw(0, "Pod Template:");
    let annotations = template.at(&["metadata", "annotations"]).and_then(Value::as_object);
    text.labels("  Labels", template.at(&["metadata", "labels"]).and_then(Value::as_object));
    if annotations.is_some_and(|annotations| !annotations.is_empty()) {
        text.annotations("  Annotations", annotations);
    }
    text.optional(1, "Service Account", template.str_at(&["spec", "serviceAccountName"]));
    for (title, field) in [("Init Containers", "initContainers"), ("Containers", "containers")] {
        let specs = list(template, &["spec", field]);
        if specs.is_empty() && title != "Containers" {
            continue;
        }
        text.raw(1, &format!("{title}:"));
        specs.into_iter().for_each(|spec| container(text, spec, None, None, " "));
    }
    volumes(text, &list(template, &["spec", "volumes"]), "  ");
    spreading(text, &list(template, &["spec", "topologySpreadConstraints"]), "  ");
    text.optional(1, "Priority Class Name", template.str_at(&["spec", "priorityClassName"]));
    text.labels("  Node-Selectors", template.at(&["spec", "nodeSelector"]).and_then(Value::as_object));
    tolerations(text, "  Tolerations", &list(template, &["spec", "tolerations"]));
}

fn status(text: &mut Text, pod: &Value) {
    let phase = pod.str_at(&["status", "phase"]);
    let deleted = pod.meta_str("deletionTimestamp");
    if !deleted.is_empty() && !matches!(phase, "Failed" | "Succeeded") {
        text.field(0, "Status", format!("Terminating (lasts {})", text.age(deleted)));
        let seconds = number(pod, &["metadata", "deletionGracePeriodSeconds"]);
        text.field(0, "Termination Grace Period", format!("{seconds}s"));
    } else {
        text.field(0, "Status", phase);
    }
    text.optional(0, "Reason", pod.str_at(&["status", "reason"]));
    text.optional(0, "Message", pod.str_at(&["status", "message"]));
}

fn seccomp(text: &mut Text, level: usize, profile: Option<&Value>) {
    let Some(profile) = profile else { return };
    text.field(level, "SeccompProfile", profile.str_at(&["type"]));
    let local = if level == 0 { 0 } else { level + 1 };
    text.optional(local, "LocalhostProfile", profile.str_at(&["localhostProfile"]));
}

fn container(text: &mut Text, spec: &Value, status: Option<&Value>, pod: Option<&Value>, indent: &str) {
    text.raw(1, &format!("{indent}{}:", spec.str_at(&["name"])));
    if let Some(status) = status {
        text.field(2, "Container ID", status.str_at(&["containerID"]));
    }
    text.field(2, "Image", spec.str_at(&["image"]));
    if let Some(status) = status {
        text.field(2, "Image ID", status.str_at(&["imageID"]));
    }
    ports(text, spec);
    seccomp(text, 2, spec.at(&["securityContext", "seccompProfile"]));
    for (key, field) in [("Command", "command"), ("Args", "args")] {
        let words = list(spec, &[field]);
        if !words.is_empty() {
            text.raw(2, &format!("{key}:"));
            words
                .iter()
                .filter_map(|word| word.as_str())
                .flat_map(|word| word.split('\n'))
                .for_each(|line| text.raw(3, line));
        }
    }
    if let Some(status) = status {
        state(text, "State", status.get("state"));
        if status.at(&["lastState", "terminated"]).is_some() {
            state(text, "Last State", status.get("lastState"));
        }
        text.field(2, "Ready", if is_true(status.get("ready")) { "True" } else { "False" });
        text.field(2, "Restart Count", number(status, &["restartCount"]).to_string());
    }
    amounts(text, 2, spec.get("resources").unwrap_or(&Value::Null));
    for (key, field) in [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")] {
        if let Some(own) = spec.get(field) {
            text.field(2, key, probe(own));
        }
    }
    environment(text, spec, pod);
    mounts(text, spec);
}

fn ports(text: &mut Text, spec: &Value) {
    let named = |port: &Value| match port.str_at(&["name"]) {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    let one =
        |port: &Value, field: &str| format!("{}/{}{}", number(port, &[field]), port.str_at(&["protocol"]), named(port));
    for (key, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let all: Vec<String> = list(spec, &["ports"]).into_iter().map(|port| one(port, field)).collect();
        let plural = if all.len() > 1 { "s" } else { "" };
        text.field(2, &format!("{key}{plural}"), or(&all.join(", "), "<none>"));
    }
}

fn state(text: &mut Text, key: &str, state: Option<&Value>) {
    let of = |name: &str| state.and_then(|state| state.get(name)).filter(|detail| detail.is_object());
    if let Some(running) = of("running") {
        text.field(2, key, "Running");
        text.field(3, "Started", moment(running.str_at(&["startedAt"])));
    } else if let Some(ended) = of("terminated") {
        text.field(2, key, "Terminated");
        text.optional(3, "Reason", ended.str_at(&["reason"]));
        text.optional(3, "Message", ended.str_at(&["message"]));
        text.field(3, "Exit Code", number(ended, &["exitCode"]).to_string());
        if number(ended, &["signal"]) > 0 {
            text.field(3, "Signal", number(ended, &["signal"]).to_string());
        }
        text.field(3, "Started", moment(ended.str_at(&["startedAt"])));
        text.field(3, "Finished", moment(ended.str_at(&["finishedAt"])));
    } else {
        text.field(2, key, "Waiting");
        text.optional(3, "Reason", of("waiting").map(|waiting| waiting.str_at(&["reason"])).unwrap_or_default());
    }
}

fn amounts(text: &mut Text, level: usize, resources: &Value) {
    for (key, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let Some(amounts) = resources.get(field).and_then(Value::as_object).filter(|own| !own.is_empty()) else {
            continue;
        };
        text.raw(level, &format!("{key}:"));
        let mut names: Vec<&String> = amounts.keys().collect();
        names.sort();
        for name in names {
            text.field(level + 1, name, plain(amounts.get(name)));
        }
    }
}

fn probe(probe: &Value) -> String {
    let seconds = |field: &str| number(probe, &[field]);
    let numbers = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        seconds("initialDelaySeconds"),
        seconds("timeoutSeconds"),
        seconds("periodSeconds"),
        seconds("successThreshold"),
        seconds("failureThreshold")
    );
    let action = if let Some(exec) = probe.get("exec") {
        let words: Vec<&str> = list(exec, &["command"]).into_iter().filter_map(Value::as_str).collect();
        format!("exec [{}]", words.join(" "))
    } else if let Some(get) = probe.get("httpGet") {
        let scheme = get.str_at(&["scheme"]).to_lowercase();
        let (host, port) = (get.str_at(&["host"]), plain_at(get, &["port"]));
        format!("http-get {scheme}://{host}:{port}{}", get.str_at(&["path"]))
    } else if let Some(tcp) = probe.get("tcpSocket") {
        format!("tcp-socket {}:{}", tcp.str_at(&["host"]), plain_at(tcp, &["port"]))
    } else if let Some(grpc) = probe.get("grpc") {
        format!("grpc <pod>:{} {}", plain_at(grpc, &["port"]), grpc.str_at(&["service"]))
    } else {
        "unknown".to_owned()
    };
    format!("{action} {numbers}")
}

fn environment(text: &mut Text, spec: &Value, pod: Option<&Value>) {
    let from = list(spec, &["envFrom"]);
    if !from.is_empty() {
        text.raw(2, "Environment Variables from:");
    }
    for source in from {
        let (kind, own) = match source.get("configMapRef") {
            Some(own) => ("ConfigMap", own),
            None => ("Secret", source.get("secretRef").unwrap_or(&Value::Null)),
        };
        let kind = match source.str_at(&["prefix"]) {
            "" => kind.to_owned(),
            prefix => format!("{kind} with prefix '{prefix}'"),
        };
        text.raw(3, &format!("{}\t{kind}\tOptional: {}", own.str_at(&["name"]), is_true(own.get("optional"))));
    }
    let variables = list(spec, &["env"]);
    text.raw(2, if variables.is_empty() { "Environment:\t<none>" } else { "Environment:" });
    variables.into_iter().for_each(|variable| one_variable(text, spec, variable, pod));
}

fn one_variable(text: &mut Text, spec: &Value, variable: &Value, pod: Option<&Value>) {
    let name = variable.str_at(&["name"]);
    let Some(from) = variable.get("valueFrom").filter(|from| from.is_object()) else {
        let mut lines = variable.str_at(&["value"]).split('\n');
        text.field(3, name, lines.next().unwrap_or_default());
        return lines.for_each(|line| text.raw(3, &format!("\t{line}")));
    };
    if let Some(own) = from.get("fieldRef") {
        let path = own.str_at(&["fieldPath"]);
        let value = pod.map(|pod| field_of(pod, path)).unwrap_or_default();
        text.field(3, name, format!("{value} ({}:{path})", own.str_at(&["apiVersion"])));
    } else if let Some(own) = from.get("resourceFieldRef") {
        let resource = own.str_at(&["resource"]);
        text.field(3, name, format!("{} ({resource})", resource_of(spec, own)));
    } else {
        for (field, word) in [("secretKeyRef", "in secret"), ("configMapKeyRef", "of config map")] {
            if let Some(own) = from.get(field) {
                let (key, object, optional) =
                    (own.str_at(&["key"]), own.str_at(&["name"]), is_true(own.get("optional")));
                text.field(3, name, format!("<set to the key '{key}' {word} '{object}'>\tOptional: {optional}"));
            }
        }
    }
}

/// Fields of the metadata are shown, others are known to the node only.
fn field_of(pod: &Value, path: &str) -> String {
    let Some(field) = path.strip_prefix("metadata.") else { return String::new() };
    match field.split_once("['") {
        Some((map, key)) => pod.str_at(&["metadata", map, key.trim_end_matches("']")]).to_owned(),
        None => pod.str_at(&["metadata", field]).to_owned(),
    }
}

fn resource_of(spec: &Value, reference: &Value) -> String {
    let resource = reference.str_at(&["resource"]);
    let Some((kind, name)) = resource.split_once('.') else { return String::new() };
    let quantity = |text: &str| Quantity::parse(text).ok();
    let amount = quantity(spec.str_at(&["resources", kind, name]));
    let divisor = quantity(&plain_at(reference, &["divisor"])).filter(|own| !own.is_zero());
    let Some(amount) = amount else {
        return if matches!(resource, "limits.cpu" | "limits.memory") { "node allocatable" } else { "0" }.to_owned();
    };
    let divisor = divisor.map_or(1000, |own| own.milli_value()).max(1);
    let parts = amount.milli_value();
    (parts / divisor + i64::from(parts % divisor > 0)).to_string()
}

fn mounts(text: &mut Text, spec: &Value) {
    let mut mounts = list(spec, &["volumeMounts"]);
    mounts.sort_by_key(|mount| mount.str_at(&["mountPath"]).to_owned());
    text.raw(2, if mounts.is_empty() { "Mounts:\t<none>" } else { "Mounts:" });
    for mount in mounts {
        let mode = if is_true(mount.get("readOnly")) { "ro" } else { "rw" };
        let path = match mount.str_at(&["subPath"]) {
            "" => String::new(),
            path => format!(",path={path:?}"),
        };
        text.raw(3, &format!("{} from {} ({mode}{path})", mount.str_at(&["mountPath"]), mount.str_at(&["name"])));
    }
    let devices = list(spec, &["volumeDevices"]);
    if !devices.is_empty() {
        text.raw(2, "Devices:");
        devices
            .iter()
            .for_each(|own| text.raw(3, &format!("{} from {}", own.str_at(&["devicePath"]), own.str_at(&["name"]))));
    }
}

fn conditions(text: &mut Text, pod: &Value) {
    let conditions = list(pod, &["status", "conditions"]);
    let gates = list(pod, &["spec", "readinessGates"]);
    if !gates.is_empty() {
        text.raw(0, "Readiness Gates:");
        text.raw(0, "  Type\tStatus");
    }
    for gate in gates {
        let kind = gate.str_at(&["conditionType"]);
        let found = conditions.iter().find(|condition| condition.str_at(&["type"]) == kind);
        text.raw(1, &format!("{kind} \t{} ", found.map_or("<none>", |found| found.str_at(&["status"]))));
    }
    if !conditions.is_empty() {
        text.raw(0, "Conditions:");
        text.raw(0, "  Type\tStatus");
    }
    for condition in conditions {
        text.raw(1, &format!("{} \t{} ", condition.str_at(&["type"]), condition.str_at(&["status"])));
    }
}

pub fn volumes(text: &mut Text, volumes: &[&Value], indent: &str) {
    if volumes.is_empty() {
        return text.raw(0, &format!("{indent}Volumes:\t<none>"));
    }
    text.raw(0, &format!("{indent}Volumes:"));
    for volume in volumes {
        let space = if indent.is_empty() { "" } else { " " };
        text.raw(1, &format!("{space}{}:", volume.str_at(&["name"])));
        volume_source(text, volume);
    }
}

/// The source of a volume or of a persistent volume.
pub fn volume_source(text: &mut Text, volume: &Value) {
    let flag = |own: &Value, field: &str| is_true(own.get(field)).to_string();
    if let Some(own) = volume.get("emptyDir") {
        text.field(2, "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)");
        text.field(2, "Medium", own.str_at(&["medium"]));
        text.field(2, "SizeLimit", or(&plain_at(own, &["sizeLimit"]), "<unset>"));
    } else if let Some(own) = volume.get("hostPath") {
        text.field(2, "Type", "HostPath (bare host directory volume)");
        text.field(2, "Path", own.str_at(&["path"]));
        text.field(2, "HostPathType", if own.get("type").is_some() { own.str_at(&["type"]) } else { "<none>" });
    } else if let Some(own) = volume.get("secret") {
        text.field(2, "Type", "Secret (a volume populated by a Secret)");
        text.field(2, "SecretName", own.str_at(&["secretName"]));
        text.field(2, "Optional", flag(own, "optional"));
    } else if let Some(own) = volume.get("configMap") {
        text.field(2, "Type", "ConfigMap (a volume populated by a ConfigMap)");
        text.field(2, "Name", own.str_at(&["name"]));
        text.field(2, "Optional", flag(own, "optional"));
    } else if let Some(own) = volume.get("persistentVolumeClaim") {
        text.field(2, "Type", "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)");
        text.field(2, "ClaimName", own.str_at(&["claimName"]));
        text.field(2, "ReadOnly", flag(own, "readOnly"));
    } else if let Some(own) = volume.get("downwardAPI") {
        text.field(2, "Type", "DownwardAPI (a volume populated by information about the pod)");
        text.raw(2, "Items:");
        for item in list(own, &["items"]) {
            let from = [item.str_at(&["fieldRef", "fieldPath"]), item.str_at(&["resourceFieldRef", "resource"])];
            let from = from.into_iter().find(|from| !from.is_empty()).unwrap_or_default();
            text.raw(3, &format!("{from} -> {}", item.str_at(&["path"])));
        }
    } else if let Some(own) = volume.get("projected") {
        text.field(2, "Type", "Projected (a volume that contains injected data from multiple sources)");
        list(own, &["sources"]).into_iter().for_each(|source| projected(text, source));
    } else if let Some(own) = volume.get("local") {
        text.field(2, "Type", "LocalVolume (a persistent volume backed by local storage on a node)");
        text.field(2, "Path", own.str_at(&["path"]));
    } else if let Some(own) = volume.get("image") {
        text.field(2, "Type", "Image (a container image or OCI artifact)");
        text.field(2, "Reference", own.str_at(&["reference"]));
        text.field(2, "PullPolicy", own.str_at(&["pullPolicy"]));
    } else if volume.get("ephemeral").is_some() {
        text.field(
            2,
            "Type",
            "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        );
    } else {
        text.raw(1, "<unknown>");
    }
}

fn projected(text: &mut Text, source: &Value) {
    if let Some(own) = source.get("secret") {
        text.field(2, "SecretName", own.str_at(&["name"]));
        text.field(2, "Optional", is_true(own.get("optional")).to_string());
    } else if source.get("downwardAPI").is_some() {
        text.field(2, "DownwardAPI", "true");
    } else if let Some(own) = source.get("configMap") {
        text.field(2, "ConfigMapName", own.str_at(&["name"]));
        let optional = own.get("optional").map_or("<nil>".to_owned(), |own| plain(Some(own)));
        text.field(2, "ConfigMapOptional", optional);
    } else if let Some(own) = source.get("serviceAccountToken") {
        text.field(2, "TokenExpirationSeconds", number(own, &["expirationSeconds"]).to_string());
    }
}

pub fn tolerations(text: &mut Text, title: &str, tolerations: &[&Value]) {
    let mut sorted = tolerations.to_vec();
    sorted.sort_by_key(|own| own.str_at(&["key"]).to_owned());
    let one = |own: &&Value| {
        let mut line = own.str_at(&["key"]).to_owned();
        if !own.str_at(&["value"]).is_empty() {
            line.push_str(&format!("={}", own.str_at(&["value"])));
        }
        if !own.str_at(&["effect"]).is_empty() {
            line.push_str(&format!(":{}", own.str_at(&["effect"])));
        }
        // kubectl shows the operator where there is no value.
        if own.str_at(&["operator"]) == "Exists" && own.str_at(&["value"]).is_empty() {
            let space = if own.str_at(&["key"]).is_empty() && own.str_at(&["effect"]).is_empty() { "" } else { " " };
            line.push_str(&format!("{space}op=Exists"));
        }
        if let Some(seconds) = own.get("tolerationSeconds") {
            line.push_str(&format!(" for {seconds}s"));
        }
        line
    };
    text.lines(title, sorted.iter().map(one).collect());
}

fn spreading(text: &mut Text, constraints: &[&Value], indent: &str) {
    if constraints.is_empty() {
        return;
    }
    let one = |own: &&Value| {
        let skew = number(own, &["maxSkew"]);
        let when = own.str_at(&["whenUnsatisfiable"]);
        let mut line = format!("{}:{when} when max skew {skew} is exceeded", own.str_at(&["topologyKey"]));
        if let Some(selector) = own.get("labelSelector") {
            let selector = coracle_api_meta::LabelSelector::from_value(selector);
            line.push_str(&format!(" for selector {}", selector.map(|own| own.to_string()).unwrap_or_default()));
        }
        line
    };
    text.lines(&format!("{indent}Topology Spread Constraints"), constraints.iter().map(one).collect());
}
