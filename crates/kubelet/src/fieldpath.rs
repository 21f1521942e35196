//! The downward API: fields and resources of a pod as text.

use coracle_api_meta::Quantity;
use coracle_api_types::Object;
use coracle_plan_pods::resources::{ResourceList, quantity};
use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use crate::{Error, Result};

/// Facts that a pod's object may not carry yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodFacts {
    pub(crate) pod_ips: Vec<String>,
    pub(crate) host_ips: Vec<String>,
    /// What a container may use that has no limit: all that the node gives to pods.
    pub(crate) allocatable: ResourceList,
}

/// Value of a field, as environment and volumes show it.
pub(crate) fn field(pod: &Pod, selector: &ObjectFieldSelector, facts: &PodFacts) -> Result<String> {
    let path = selector.field_path.as_str();
    let spec = pod.spec.as_ref();
    let text = |value: Option<&str>| Ok(value.unwrap_or_default().to_owned());
    match path {
        "metadata.name" => return text(Some(pod.name())),
        "metadata.namespace" => return text(Some(pod.namespace())),
        "metadata.uid" => return text(Some(pod.uid())),
        "metadata.labels" => return Ok(map_lines(pod.metadata.labels.as_ref())),
        "metadata.annotations" => return Ok(map_lines(pod.metadata.annotations.as_ref())),
        "spec.nodeName" => return text(spec.and_then(|spec| spec.node_name.as_deref())),
        "spec.serviceAccountName" => return text(spec.and_then(|spec| spec.service_account_name.as_deref())),
        "status.hostIP" => return text(facts.host_ips.first().map(String::as_str)),
        "status.hostIPs" => return Ok(facts.host_ips.join(",")),
        "status.podIP" => return text(facts.pod_ips.first().map(String::as_str)),
        "status.podIPs" => return Ok(facts.pod_ips.join(",")),
        _ => {}
    }
    if let Some(key) = subscript(path, "metadata.labels") {
        return text(pod.label(key));
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return text(pod.annotation(key));
    }
    Err(Error::message(format!("unsupported fieldPath: {path}")))
}

fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

/// `key="value"` lines in order, values quoted as Go quotes them.
fn map_lines(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other if other.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(other))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Value of a request or limit in units of the divisor, rounded up.
pub(crate) fn resource(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &PodFacts,
) -> Result<String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        None => container,
        Some(name) => find_container(pod, name).ok_or_else(|| Error::message(format!("container {name} not found")))?,
    };
    let (list, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| Error::message(format!("unsupported container resource : {}", selector.resource)))?;
    let resources = container.resources.as_ref();
    let limit = resources.and_then(|resources| resources.limits.as_ref()).and_then(|limits| limits.get(name));
    let request = resources.and_then(|resources| resources.requests.as_ref()).and_then(|list| list.get(name));
    let asked = match list {
        "limits" => limit,
        "requests" => request,
        _ => return Err(Error::message(format!("unsupported container resource : {}", selector.resource))),
    };
    let quantity = match asked.and_then(|quantity| Quantity::parse(&quantity.0).ok()) {
        Some(quantity) if !(list == "limits" && quantity.is_zero()) => quantity,
        _ if list == "limits" => default_limit(name, facts),
        _ => Quantity::ZERO,
    };
    let divisor = selector.divisor.as_ref().and_then(|divisor| Quantity::parse(&divisor.0).ok());
    Ok(divide_up(name, &quantity, divisor).to_string())
}

fn default_limit(name: &str, facts: &PodFacts) -> Quantity {
    quantity(Some(&facts.allocatable), name).unwrap_or(Quantity::ZERO)
}

fn divide_up(name: &str, quantity: &Quantity, divisor: Option<Quantity>) -> i64 {
    let divisor = divisor.filter(|divisor| !divisor.is_zero() && !divisor.is_negative());
    let (amount, by) = if name == "cpu" {
        (quantity.milli_value(), divisor.map_or(1000, |divisor| divisor.milli_value()))
    } else {
        (quantity.value(), divisor.map_or(1, |divisor| divisor.value()))
    };
    let by = by.max(1);
    amount / by + i64::from(amount % by > 0)
}

pub(crate) fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.as_deref().unwrap_or_default();
    spec.containers.iter().chain(init).find(|container| container.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_quoted_and_amounts_rounded_up() {
        let map = [("a".to_owned(), "x\"y\n".to_owned()), ("b".to_owned(), String::new())].into();
        assert_eq!(map_lines(Some(&map)), "a=\"x\\\"y\\n\"\nb=\"\"");
        let cpu = Quantity::parse("1250m").expect("quantity");
        assert_eq!(divide_up("cpu", &cpu, None), 2);
        assert_eq!(divide_up("cpu", &cpu, Quantity::parse("1m").ok()), 1250);
        assert_eq!(divide_up("memory", &Quantity::parse("64Mi").expect("quantity"), Quantity::parse("1Mi").ok()), 64);
    }
}
