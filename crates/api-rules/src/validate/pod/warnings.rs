//! Warnings about pods. Source: `pkg/api/pod/warnings.go`, the parts that are not about fields long gone.

use coracle_api_meta::{ObjectExt, Value, names};

use crate::at::At;

const HOST_TEXT: &str = "which can result in surprising behavior; a DNS label is recommended";

pub fn pod(pod: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let texts = names::is_dns1123_label(pod.name());
    if !texts.is_empty() {
        warnings.push(format!("metadata.name: this is used in the Pod's hostname, {HOST_TEXT}: [{}]", texts.join(" ")));
    }
    spec(&At::root(pod).get("spec"), &mut warnings);
    warnings
}

pub fn workload(workload: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        let texts = names::is_dns1123_label(workload.name());
        if !texts.is_empty() {
            let text = texts.join(" ");
            warnings.push(format!("metadata.name: this is used in Pod names and hostnames, {HOST_TEXT}: [{text}]"));
        }
    }
    let template = |object: &Value| object.at(&["spec", "template"]).cloned().unwrap_or_default();
    if old.is_none_or(|old| !crate::same::same(&template(workload), &template(old))) {
        spec(&At::root(workload).get("spec").get("template").get("spec"), &mut warnings);
    }
    warnings
}

fn spec(spec: &At<'_>, warnings: &mut Vec<String>) {
    for (key, place) in spec.get("nodeSelector").entries() {
        if let Some(better) = renamed(key) {
            warnings.push(format!("{}: deprecated since {}; use \"{}\" instead", place.path(), better.0, better.1));
        }
    }
    for container in super::all_containers(spec) {
        duplicates(&container, warnings);
        for (name, place) in container.dig("resources.requests").entries() {
            fraction(name, &place, warnings);
        }
    }
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.int() < 0 {
        let text = "must be >= 0; negative values are invalid and will be treated as 1";
        warnings.push(format!("{}: {text}", grace.path()));
    }
    for volume in spec.get("volumes").items().iter().filter(|volume| volume.has("gitRepo")) {
        warnings
            .push(format!("{}: deprecated in v1.11, and disabled by default in v1.33+", volume.get("gitRepo").path()));
    }
}

fn renamed(label: &str) -> Option<(&'static str, &'static str)> {
    Some(match label {
        "beta.kubernetes.io/arch" => ("v1.14", "kubernetes.io/arch"),
        "beta.kubernetes.io/os" => ("v1.14", "kubernetes.io/os"),
        "failure-domain.beta.kubernetes.io/region" => ("v1.17", "topology.kubernetes.io/region"),
        "failure-domain.beta.kubernetes.io/zone" => ("v1.17", "topology.kubernetes.io/zone"),
        "beta.kubernetes.io/instance-type" => ("v1.17", "node.kubernetes.io/instance-type"),
        _ => return None,
    })
}

fn duplicates(container: &At<'_>, warnings: &mut Vec<String>) {
    let variables = container.get("env").items();
    for (index, variable) in variables.iter().enumerate() {
        let name = variable.text("name");
        let earlier = variables.iter().take(index).position(|other| other.text("name") == name);
        let referred = variable.text("value").contains(&format!("$({name})"));
        if earlier.is_some() && !referred {
            let text = format!("hides previous definition of {name:?}, which may be dropped when using apply");
            warnings.push(format!("{}: {text}", variable.path()));
        }
    }
    let ports = container.get("ports").items();
    for (index, port) in ports.iter().enumerate() {
        let same = |other: &&At<'_>| {
            ["containerPort", "hostPort"].iter().all(|field| other.number(field) == port.number(field))
                && ["protocol", "hostIP"].iter().all(|field| other.text(field) == port.text(field))
        };
        if let Some(earlier) = ports.iter().take(index).find(same) {
            let name = earlier.text("name");
            let shown =
                if name.is_empty() { earlier.path().to_string() } else { format!("{} {name:?}", earlier.path()) };
            warnings.push(format!("{}: duplicate port definition with {shown}", port.path()));
        }
    }
}

fn fraction(name: &str, place: &At<'_>, warnings: &mut Vec<String>) {
    if !matches!(name, "memory" | "ephemeral-storage") {
        return;
    }
    let amount = crate::same::quantity(place.value());
    if let Some(amount) = amount.filter(|amount| amount.milli_value() % 1000 != 0) {
        warnings.push(format!(
            "{}: fractional byte value {:?} is invalid, must be an integer",
            place.path(),
            amount.to_string()
        ));
    }
}
