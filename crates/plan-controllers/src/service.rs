//! Facts about services and the pods behind them, for endpoints and endpoint slices.
//! Source: `k8s.io/endpointslice/util`.

use coracle_api_types::Object;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether a controller keeps endpoints for the service: it selects pods and is not a mere name.
#[must_use]
pub fn has_endpoints(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|labels| !labels.is_empty())
}

/// Whether the service has no address of its own.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    address.is_empty() || address == "None"
}

#[must_use]
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

#[must_use]
pub fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

#[must_use]
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.and_then(|labels| labels.get(key)) == Some(value);
    selector.is_some_and(|selector| !selector.is_empty() && selector.iter().all(has))
}

/// Whether the pod can be an endpoint at all.
#[must_use]
pub fn is_eligible(pod: &Pod, include_terminating: bool) -> bool {
    let phase = coracle_plan_core::pod::phase(pod);
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let over = match policy {
        Some("Never") => matches!(phase, "Failed" | "Succeeded"),
        Some("OnFailure") => phase == "Succeeded",
        _ => matches!(phase, "Failed" | "Succeeded"),
    };
    !over && (include_terminating || !pod.is_deleting()) && !addresses(pod).is_empty()
}

/// Addresses of the pod, of all families.
#[must_use]
pub fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let listed: Vec<&str> = status.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    if listed.is_empty() { status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect() } else { listed }
}

#[must_use]
pub fn is_ipv6(address: &str) -> bool {
    address.contains(':')
}

/// The pod's port behind a service port. `None` when the pod has no port of that name.
#[must_use]
pub fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|own| own.restart_policy.as_deref() == Some("Always"));
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let named = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
            named
                .filter(|own| own.name.as_deref() == Some(name))
                .find(|own| own.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|own| own.container_port)
        }
    }
}

/// The name the endpoint has under the service: its hostname, when its subdomain is the service.
#[must_use]
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let name = spec.hostname.clone().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == Some(service.name())).then_some(name)
}
