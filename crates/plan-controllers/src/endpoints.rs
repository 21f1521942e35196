//! The old `Endpoints` objects of services. Source: `pkg/controller/endpoint`.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_plan_core::{Action, Plan, pod};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::service::{self, HEADLESS};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses of one object.
const ADDRESSES_MAX: usize = 1000;

/// What is known about one service.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub service: Option<&'a Service>,
    pub endpoints: Option<&'a Endpoints>,
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
}

#[must_use]
pub fn plan(view: &View<'_>) -> Plan {
    let Some(service) = view.service else {
        // What was kept for a service goes with it; what others made stays.
        let ours = view.endpoints.filter(|endpoints| is_managed(endpoints));
        return Plan::from(ours.map(Action::delete).into_iter().collect::<Vec<_>>());
    };
    if !service::has_endpoints(service) {
        return Plan::nothing();
    }
    let mut subsets = subsets(service, view.pods);
    let truncated = truncate(&mut subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if service::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let Some(current) = view.endpoints else {
        let mut endpoints = Endpoints {
            metadata: ObjectMeta {
                name: Some(service.name().to_owned()),
                namespace: Some(service.namespace().to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            subsets,
        };
        mark(&mut endpoints, truncated);
        return Plan::from(vec![Action::ensure(&endpoints)]);
    };
    let mut endpoints = current.clone();
    endpoints.subsets = subsets;
    endpoints.metadata.labels = Some(labels);
    mark(&mut endpoints, truncated);
    if endpoints == *current { Plan::nothing() } else { Plan::from(vec![Action::update(&endpoints)]) }
}

/// Whether the object is kept by this controller.
#[must_use]
pub fn is_managed(endpoints: &Endpoints) -> bool {
    endpoints.label(MANAGED_BY) == Some(MANAGER)
}

fn mark(endpoints: &mut Endpoints, truncated: bool) {
    if truncated {
        let annotations = endpoints.metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut endpoints.metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
}

/// Port name, protocol, number and application protocol.
type Port = (String, String, i32, Option<String>);

#[derive(Default)]
struct Addresses {
    ready: BTreeMap<String, EndpointAddress>,
    not_ready: BTreeMap<String, EndpointAddress>,
}

/// Pods with the same ports share a subset.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = service::publishes_not_ready(service);
    let mut by_ports: BTreeMap<Vec<Port>, Addresses> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| service::selects(service, pod) && service::is_eligible(pod, publish)) {
        let Some(address) = address(service, pod) else { continue };
        let ports: Vec<Port> = service::ports(service).iter().filter_map(|port| port_of(pod, port)).collect();
        if ports.is_empty() && !(service::ports(service).is_empty() && service::is_headless(service)) {
            continue;
        }
        let group = by_ports.entry(ports).or_default();
        let list = if publish || pod::is_ready(pod) { &mut group.ready } else { &mut group.not_ready };
        list.insert(address.ip.clone(), address);
    }
    by_ports
        .into_iter()
        .map(|(ports, addresses)| {
            let list = |map: BTreeMap<String, EndpointAddress>| {
                Some(map.into_values().collect::<Vec<_>>()).filter(|list| !list.is_empty())
            };
            let port = |(name, protocol, port, app_protocol): Port| EndpointPort {
                name: Some(name).filter(|name| !name.is_empty()),
                protocol: Some(protocol),
                port,
                app_protocol,
            };
            EndpointSubset {
                addresses: list(addresses.ready),
                not_ready_addresses: list(addresses.not_ready),
                ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
            }
        })
        .collect()
}

fn port_of(pod: &Pod, port: &ServicePort) -> Option<Port> {
    let number = service::find_port(pod, port)?;
    let protocol = port.protocol.clone().unwrap_or("TCP".to_owned());
    Some((port.name.clone().unwrap_or_default(), protocol, number, port.app_protocol.clone()))
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let wants_ipv6 = families.first().is_some_and(|family| family == "IPv6");
    let addresses = service::addresses(pod);
    let ip = addresses.into_iter().find(|ip| service::is_ipv6(ip) == wants_ipv6)?;
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: service::hostname(service, pod),
        node_name: Some(pod::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            name: Some(pod.name().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        }),
    })
}

/// Says whether addresses were left out; ready ones stay before others.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let mut room = ADDRESSES_MAX;
    let mut cut = false;
    let mut keep = |list: &mut Option<Vec<EndpointAddress>>| {
        let Some(addresses) = list else { return };
        cut |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
        *list = list.take().filter(|addresses| !addresses.is_empty());
    };
    subsets.iter_mut().for_each(|subset| keep(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| keep(&mut subset.not_ready_addresses));
    cut
}
