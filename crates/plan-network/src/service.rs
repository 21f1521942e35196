//! What the rules need of a Service.

use std::net::IpAddr;

use coracle_nft::{Family, Proto};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use crate::ServiceName;

/// Source: `LabelServiceProxyName`: another proxy serves it.
const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Source: `DefaultClientIPServiceAffinitySeconds`.
const AFFINITY_SECONDS_DEFAULT: u32 = 10_800;

/// A Service, in one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceView {
    pub(crate) name: ServiceName,
    pub(crate) cluster_ip: IpAddr,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty for everybody.
    pub(crate) source_ranges: Vec<IpNet>,
    pub(crate) affinity_seconds: Option<u32>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    pub(crate) health_check_node_port: Option<u16>,
    pub(crate) ports: Vec<PortView>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortView {
    pub(crate) name: String,
    pub(crate) protocol: Proto,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
}

impl ServiceView {
    /// `None` when there is nothing to serve: headless, by name only, of the other family, or another proxy's.
    pub(crate) fn new(service: &Service, family: Family) -> Option<ServiceView> {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        let skipped = labels.is_some_and(|labels| labels.contains_key(LABEL_PROXY_NAME));
        if skipped || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let cluster_ip = addresses(cluster_ips(spec), family).first().copied()?;
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        Some(ServiceView {
            name: ServiceName {
                namespace: service.metadata.namespace.clone().unwrap_or_default(),
                name: service.metadata.name.clone().unwrap_or_default(),
            },
            cluster_ip,
            external_ips: addresses(spec.external_ips.iter().flatten(), family),
            load_balancer_ips: load_balancer_ips(service, family),
            source_ranges: source_ranges(spec, family),
            affinity_seconds: affinity(spec),
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            health_check_node_port: spec.health_check_node_port.and_then(port_number),
            ports: spec.ports.iter().flatten().filter_map(port_view).collect(),
        })
    }
}

fn cluster_ips(spec: &ServiceSpec) -> impl Iterator<Item = &String> {
    let several = spec.cluster_ips.as_deref().unwrap_or_default();
    several.iter().chain(spec.cluster_ip.iter())
}

/// Those that are of the family; `None` and other words that are no addresses are not.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>, family: Family) -> Vec<IpAddr> {
    let parsed = texts.filter_map(|text| text.parse::<IpAddr>().ok());
    parsed.filter(|address| Family::of(*address) == family).collect()
}

fn load_balancer_ips(service: &Service, family: Family) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    // In mode Proxy the load balancer itself must see the traffic (KEP-1860).
    let direct = ingress.iter().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    addresses(direct.filter_map(|ingress| ingress.ip.as_ref()), family)
}

fn source_ranges(spec: &ServiceSpec, family: Family) -> Vec<IpNet> {
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let parsed = ranges.iter().filter_map(|range| range.trim().parse::<IpNet>().ok());
    parsed.filter(|net| Family::of(net.addr()) == family).collect()
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.filter(|seconds| *seconds > 0).unwrap_or(AFFINITY_SECONDS_DEFAULT))
}

fn port_view(port: &ServicePort) -> Option<PortView> {
    Some(PortView {
        name: port.name.clone().unwrap_or_default(),
        protocol: Proto::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
        port: port_number(port.port)?,
        node_port: port.node_port.and_then(port_number),
    })
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number > 0)
}
