//! Rules, limits and whatever else is described in a way of its own.

use std::collections::BTreeMap;

use coracle_api_meta::{LabelSelector, Value, object::ObjectExt as _};

use super::Related;
use super::core::limit_rows;
use super::text::{Text, is_true, list, number, or, plain, plain_at};

pub fn limit_range(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    text.raw(0, "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
    text.raw(0, "----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
    list(object, &["spec", "limits"]).into_iter().for_each(|item| limit_rows(text, item, ""));
}

pub fn endpoints(text: &mut Text, object: &Value) {
    text.head(object);
    text.raw(0, "Subsets:");
    for subset in list(object, &["subsets"]) {
        for (title, field) in [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")] {
            let all: Vec<&str> = list(subset, &[field]).iter().map(|own| own.str_at(&["ip"])).collect();
            text.field(1, title, or(&all.join(","), "<none>"));
        }
        let ports = list(subset, &["ports"]);
        if !ports.is_empty() {
            text.raw(1, "Ports:");
            text.raw(2, "Name\tPort\tProtocol");
            text.raw(2, "----\t----\t--------");
        }
        for port in ports {
            let (name, protocol) = (or(port.str_at(&["name"]), "<unset>"), port.str_at(&["protocol"]));
            text.raw(2, &format!("{name}\t{}\t{protocol}", number(port, &["port"])));
        }
        text.raw(0, "");
    }
}

pub fn priority_class(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.field(0, "Value", number(object, &["value"]).to_string());
    text.field(0, "GlobalDefault", is_true(object.get("globalDefault")).to_string());
    text.field(0, "PreemptionPolicy", object.str_at(&["preemptionPolicy"]));
    text.field(0, "Description", object.str_at(&["description"]));
    text.field(0, "Annotations", annotations(object));
}

/// All on one line, which kubectl does for a few kinds only.
fn annotations(object: &Value) -> String {
    let pairs: BTreeMap<&String, String> =
        object.annotations().into_iter().flatten().map(|(key, value)| (key, plain(Some(value)))).collect();
    let all: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    or(&all.join(","), "<none>").to_owned()
}

pub fn storage_class(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    let default = "storageclass.kubernetes.io/is-default-class";
    let is_default = object.str_at(&["metadata", "annotations", default]) == "true";
    text.field(0, "IsDefaultClass", if is_default { "Yes" } else { "No" });
    text.field(0, "Annotations", annotations(object));
    text.field(0, "Provisioner", object.str_at(&["provisioner"]));
    let parameters = super::text::formatted_labels(object.get("parameters"));
    text.field(0, "Parameters", parameters);
    let expands = object.get("allowVolumeExpansion");
    let expands = if is_true(expands) {
        "True"
    } else if expands.is_some() {
        "False"
    } else {
        "<unset>"
    };
    text.field(0, "AllowVolumeExpansion", expands);
    let options = list(object, &["mountOptions"]);
    if options.is_empty() {
        text.field(0, "MountOptions", "<none>");
    } else {
        text.raw(0, "MountOptions:");
        options.iter().for_each(|own| text.raw(1, &plain(Some(own))));
    }
    text.optional(0, "ReclaimPolicy", object.str_at(&["reclaimPolicy"]));
    text.optional(0, "VolumeBindingMode", object.str_at(&["volumeBindingMode"]));
}

pub fn disruption_budget(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    text.optional(0, "Min available", &plain_at(object, &["spec", "minAvailable"]));
    text.optional(0, "Max unavailable", &plain_at(object, &["spec", "maxUnavailable"]));
    let selector = object.at(&["spec", "selector"]).map(LabelSelector::from_value);
    let selector = selector.and_then(Result::ok).map_or("<unset>".to_owned(), |own| own.to_string());
    text.field(0, "Selector", selector);
    text.raw(0, "Status:");
    for (title, field) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        text.field(2, title, number(object, &["status", field]).to_string());
    }
}

pub fn ingress(text: &mut Text, object: &Value, related: &Related) {
    let backend = |own: &Value| backend(own, related);
    text.field(0, "Name", object.name());
    text.labels("Labels", object.labels());
    text.field(0, "Namespace", object.namespace());
    let one = |own: &&Value| or(own.str_at(&["ip"]), own.str_at(&["hostname"])).to_owned();
    let addresses: Vec<String> = list(object, &["status", "loadBalancer", "ingress"]).iter().map(one).collect();
    text.field(0, "Address", addresses.join(","));
    text.field(0, "Ingress Class", or(object.str_at(&["spec", "ingressClassName"]), "<none>"));
    let default = object.at(&["spec", "defaultBackend"]).map_or("<default>".to_owned(), backend);
    text.field(0, "Default backend", &default);
    let secrets = list(object, &["spec", "tls"]);
    if !secrets.is_empty() {
        text.raw(0, "TLS:");
    }
    for own in secrets {
        let hosts: Vec<String> = list(own, &["hosts"]).iter().map(|host| plain(Some(host))).collect();
        match own.str_at(&["secretName"]) {
            "" => text.raw(1, &format!("SNI routes {}", hosts.join(","))),
            secret => text.raw(1, &format!("{secret} terminates {}", hosts.join(","))),
        }
    }
    text.raw(0, "Rules:");
    text.raw(0, "  Host\tPath\tBackends");
    text.raw(1, "----\t----\t--------");
    let rules = list(object, &["spec", "rules"]);
    let mut any = false;
    for rule in rules.iter().filter(|rule| rule.get("http").is_some()) {
        any = true;
        text.raw(1, &format!("{}\t", or(rule.str_at(&["host"]), "*")));
        for path in list(rule, &["http", "paths"]) {
            let backend = path.get("backend").map(backend).unwrap_or_default();
            text.raw(2, &format!("\t{} \t{backend}", path.str_at(&["path"])));
        }
    }
    if !any {
        text.raw(1, &format!("*\t*\t{default}"));
    }
    text.annotations("Annotations", object.annotations());
}

fn backend(backend: &Value, related: &Related) -> String {
    if let Some(service) = backend.get("service") {
        let (name, number) = (service.str_at(&["name"]), number(service, &["port", "number"]));
        let port = if number == 0 { service.str_at(&["port", "name"]).to_owned() } else { number.to_string() };
        return format!("{name}:{port} ({})", behind(name, &port, related));
    }
    let resource = backend.get("resource").unwrap_or(&Value::Null);
    let (group, kind, name) = (resource.str_at(&["apiGroup"]), resource.kind(), resource.str_at(&["name"]));
    format!("APIGroup: {group}, Kind: {kind}, Name: {name}")
}

/// The endpoints of a service's port.
fn behind(name: &str, port: &str, related: &Related) -> String {
    let Some(service) = related.services.iter().find(|service| service.name() == name) else {
        return format!("<error: services {name:?} not found>");
    };
    let ports = list(service, &["spec", "ports"]);
    let is_it = |own: &&&Value| own.str_at(&["name"]) == port || plain_at(own, &["port"]) == port;
    let port = ports.iter().find(is_it).map(|own| own.str_at(&["name"])).unwrap_or_default();
    let of = |slice: &&Value| slice.str_at(&["metadata", "labels", "kubernetes.io/service-name"]) == name;
    let slices: Vec<Value> = related.slices.iter().filter(of).cloned().collect();
    super::core::endpoints(&slices, port)
}

pub fn role(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.raw(0, "PolicyRule:");
    text.raw(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    text.raw(1, "---------\t-----------------\t--------------\t-----");
    // One row for each resource, names and URLs; verbs of several rules are put together.
    let mut rows: BTreeMap<[String; 4], Vec<String>> = BTreeMap::new();
    for rule in list(object, &["rules"]) {
        let words = |field: &str| -> Vec<String> { list(rule, &[field]).iter().map(|own| plain(Some(own))).collect() };
        let names = words("resourceNames");
        let mut keys = Vec::new();
        for group in words("apiGroups") {
            for resource in words("resources") {
                keys.push((group.clone(), resource.clone(), String::new()));
            }
        }
        keys.extend(words("nonResourceURLs").into_iter().map(|url| (String::new(), String::new(), url)));
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for (group, resource, url) in keys {
            for name in &names {
                let verbs = rows.entry([group.clone(), resource.clone(), name.clone(), url.clone()]).or_default();
                verbs.extend(words("verbs").into_iter().filter(|verb| !verbs.contains(verb)).collect::<Vec<_>>());
            }
        }
    }
    // kubectl orders rules by how Go prints them.
    let mut rows: Vec<(String, String)> = rows
        .into_iter()
        .map(|([group, resource, name, url], verbs)| {
            let verbs = verbs.join(" ");
            let order = format!("[{verbs}],[{group}],[{resource}],[{name}],[{url}]");
            (order, format!("{}\t[{url}]\t[{name}]\t[{verbs}]", combined(&resource, &group)))
        })
        .collect();
    rows.sort();
    rows.iter().for_each(|(_, row)| text.raw(1, row));
}

/// `deployments.apps/scale`
fn combined(resource: &str, group: &str) -> String {
    match (group, resource.split_once('/')) {
        ("", _) => resource.to_owned(),
        (group, Some((resource, sub))) => format!("{resource}.{group}/{sub}"),
        (group, None) => format!("{resource}.{group}"),
    }
}

pub fn role_binding(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    text.raw(0, "Role:");
    text.field(1, "Kind", object.str_at(&["roleRef", "kind"]));
    text.field(1, "Name", object.str_at(&["roleRef", "name"]));
    text.raw(0, "Subjects:");
    text.raw(1, "Kind\tName\tNamespace");
    text.raw(1, "----\t----\t---------");
    for own in list(object, &["subjects"]) {
        text.raw(1, &format!("{}\t{}\t{}", own.kind(), own.str_at(&["name"]), own.str_at(&["namespace"])));
    }
}
