//! Pods, as `kubectl describe pod` shows them.

use coracle_api_meta::{Value, object::ObjectExt as _};

use super::Text;

pub fn describe(text: &mut Text, pod: &Value) {
    text.line(0, "Name:", pod.name());
    text.line(0, "Namespace:", pod.namespace());
    text.line(0, "Priority:", &pod.at(&["spec", "priority"]).map_or_else(|| "0".to_owned(), ToString::to_string));
    text.line(0, "Service Account:", or_none(pod.str_at(&["spec", "serviceAccountName"])));
    let node = match (pod.str_at(&["spec", "nodeName"]), pod.str_at(&["status", "hostIP"])) {
        ("", _) => "<none>".to_owned(),
        (node, "") => node.to_owned(),
        (node, address) => format!("{node}/{address}"),
    };
    text.line(0, "Node:", &node);
    if !pod.str_at(&["status", "startTime"]).is_empty() {
        text.line(0, "Start Time:", pod.str_at(&["status", "startTime"]));
    }
    text.pairs("Labels:", pod.labels(), "=");
    text.pairs("Annotations:", pod.annotations(), ": ");
    let status =
        if pod.meta_str("deletionTimestamp").is_empty() { pod.str_at(&["status", "phase"]) } else { "Terminating" };
    text.line(0, "Status:", status);
    for (key, field) in [("Reason:", "reason"), ("Message:", "message")] {
        if !pod.str_at(&["status", field]).is_empty() {
            text.line(0, key, pod.str_at(&["status", field]));
        }
    }
    text.line(0, "IP:", pod.str_at(&["status", "podIP"]));
    for owner in list(pod, &["metadata", "ownerReferences"]) {
        if owner.get("controller") == Some(&Value::Bool(true)) {
            text.line(0, "Controlled By:", &format!("{}/{}", owner.kind(), owner.str_at(&["name"])));
        }
    }
    containers(text, pod, "Init Containers:", "initContainers", "initContainerStatuses");
    containers(text, pod, "Containers:", "containers", "containerStatuses");
    conditions(text, pod);
    volumes(text, pod);
    text.line(0, "QoS Class:", pod.str_at(&["status", "qosClass"]));
    text.pairs("Node-Selectors:", pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object), "=");
    tolerations(text, pod);
}

fn list<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    value.at(path).and_then(Value::as_array).into_iter().flatten()
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn containers(text: &mut Text, pod: &Value, heading: &str, specs: &str, statuses: &str) {
    let mut any = false;
    for spec in list(pod, &["spec", specs]) {
        if !std::mem::replace(&mut any, true) {
            text.line(0, heading, "");
        }
        let name = spec.str_at(&["name"]);
        text.line(2, &format!("{name}:"), "");
        let status = list(pod, &["status", statuses]).find(|status| status.str_at(&["name"]) == name);
        container(text, spec, status.unwrap_or(&Value::Null));
    }
}

fn container(text: &mut Text, spec: &Value, status: &Value) {
    text.line(4, "Container ID:", status.str_at(&["containerID"]));
    text.line(4, "Image:", spec.str_at(&["image"]));
    text.line(4, "Image ID:", status.str_at(&["imageID"]));
    let ports: Vec<String> = list(spec, &["ports"])
        .map(|port| format!("{}/{}", port.get("containerPort").unwrap_or(&Value::Null), port.str_at(&["protocol"])))
        .collect();
    text.line(4, "Ports:", or_none(&ports.join(", ")));
    for (key, field) in [("Command:", "command"), ("Args:", "args")] {
        if spec.get(field).is_some() {
            text.line(4, key, "");
            list(spec, &[field]).filter_map(Value::as_str).for_each(|word| text.line(6, word, ""));
        }
    }
    if status.is_object() {
        state(text, "State:", status.get("state"));
        if status.at(&["lastState", "terminated"]).is_some() {
            state(text, "Last State:", status.get("lastState"));
        }
        text.line(4, "Ready:", if status.get("ready") == Some(&Value::Bool(true)) { "True" } else { "False" });
        text.line(4, "Restart Count:", &status.get("restartCount").map_or_else(String::new, ToString::to_string));
    }
    for (key, field) in [("Limits:", "limits"), ("Requests:", "requests")] {
        if let Some(resources) = spec.at(&["resources", field]).and_then(Value::as_object) {
            text.line(4, key, "");
            for (name, amount) in resources {
                text.line(6, &format!("{name}:"), amount.as_str().unwrap_or_default());
            }
        }
    }
    text.line(4, "Mounts:", if spec.get("volumeMounts").is_some() { "" } else { "<none>" });
    for mount in list(spec, &["volumeMounts"]) {
        let mode = if mount.get("readOnly") == Some(&Value::Bool(true)) { "ro" } else { "rw" };
        text.line(6, &format!("{} from {} ({mode})", mount.str_at(&["mountPath"]), mount.str_at(&["name"])), "");
    }
}

fn state(text: &mut Text, key: &str, state: Option<&Value>) {
    let Some((name, detail)) = state.and_then(Value::as_object).and_then(|state| state.iter().next()) else { return };
    let mut title = name.clone();
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text.line(4, key, &title);
    for (key, field) in [("Reason:", "reason"), ("Message:", "message")] {
        if !detail.str_at(&[field]).is_empty() {
            text.line(6, key, detail.str_at(&[field]));
        }
    }
    if let Some(code) = detail.get("exitCode") {
        text.line(6, "Exit Code:", &code.to_string());
    }
    for (key, field) in [("Started:", "startedAt"), ("Finished:", "finishedAt")] {
        if !detail.str_at(&[field]).is_empty() {
            text.line(6, key, detail.str_at(&[field]));
        }
    }
}

fn conditions(text: &mut Text, pod: &Value) {
    if list(pod, &["status", "conditions"]).next().is_none() {
        return;
    }
    text.line(0, "Conditions:", "");
    text.line(2, &format!("{:<28}", "Type"), "Status");
    for condition in list(pod, &["status", "conditions"]) {
        text.line(2, &format!("{:<28}", condition.str_at(&["type"])), condition.str_at(&["status"]));
    }
}

fn volumes(text: &mut Text, pod: &Value) {
    text.line(0, "Volumes:", if pod.at(&["spec", "volumes"]).is_some() { "" } else { "<none>" });
    for volume in list(pod, &["spec", "volumes"]) {
        text.line(2, &format!("{}:", volume.str_at(&["name"])), "");
        let source = volume.as_object().into_iter().flatten().find(|(key, _)| *key != "name");
        let Some((kind, source)) = source else { continue };
        text.line(4, "Type:", kind);
        for (key, value) in
            source.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object() && !value.is_array())
        {
            text.line(4, &format!("{key}: "), value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str());
        }
    }
}

fn tolerations(text: &mut Text, pod: &Value) {
    let shown: Vec<String> = list(pod, &["spec", "tolerations"])
        .map(|toleration| {
            let mut line = toleration.str_at(&["key"]).to_owned();
            if !toleration.str_at(&["value"]).is_empty() {
                line.push_str(&format!("={}", toleration.str_at(&["value"])));
            }
            if !toleration.str_at(&["effect"]).is_empty() {
                line.push_str(&format!(":{}", toleration.str_at(&["effect"])));
            }
            if toleration.str_at(&["operator"]) == "Exists" {
                line.push_str(" op=Exists");
            }
            if let Some(seconds) = toleration.get("tolerationSeconds") {
                line.push_str(&format!(" for {seconds}s"));
            }
            line
        })
        .collect();
    let mut lines = shown.iter();
    text.line(0, "Tolerations:", lines.next().map_or("<none>", String::as_str));
    lines.for_each(|line| text.line(0, "", line));
}
