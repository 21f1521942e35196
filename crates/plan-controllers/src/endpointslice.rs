//! Endpoint slices of services, and of `Endpoints` that others made.
//! Source: `k8s.io/endpointslice`, `pkg/controller/endpointslicemirroring`.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_plan_core::owner::controller_ref;
use coracle_plan_core::{Action, Plan, pod};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::service::{self, HEADLESS};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
pub const MIRRORING: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Endpoints of one slice.
const ENDPOINTS_MAX: usize = 100;
/// Addresses of one subset that are mirrored.
const MIRRORED_MAX: usize = 1000;

/// What is known about one service.
pub struct View<'a> {
    pub service: &'a Service,
    /// Slices of the service, of any manager.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
}

/// Name, protocol, number and application protocol.
type Port = (String, String, i32, Option<String>);
/// Address type and ports.
type Shape = (&'static str, Vec<Port>);
type Wanted = BTreeMap<Shape, Vec<Endpoint>>;

/// The plan for a service that selects pods.
#[must_use]
pub fn plan(view: &View<'_>) -> Plan {
    let service = view.service;
    if service.is_deleting() || !service::has_endpoints(service) {
        return Plan::nothing();
    }
    let mut wanted = Wanted::new();
    let types = address_types(service);
    let eligible = |pod: &&Arc<Pod>| service::selects(service, pod) && service::is_eligible(pod, true);
    for pod in view.pods.iter().filter(eligible) {
        let node = (view.node)(pod::node_name(pod));
        if node.is_none() && !service::publishes_not_ready(service) {
            continue;
        }
        for address_type in &types {
            let ip = service::addresses(pod).into_iter().find(|ip| service::is_ipv6(ip) == (*address_type == "IPv6"));
            let Some(ip) = ip else { continue };
            let endpoint = endpoint_of(service, pod, node.as_deref(), ip);
            wanted.entry((address_type, ports_of(service, pod))).or_default().push(endpoint);
        }
    }
    let labels = labels_of(service.metadata.labels.as_ref(), service.name(), CONTROLLER, Some(service));
    let template = Template {
        name: service.name(),
        namespace: service.namespace(),
        labels,
        annotations: BTreeMap::new(),
        owner: controller_ref(service),
    };
    let ours: Vec<&EndpointSlice> = managed(view.slices, CONTROLLER);
    let mut plan = Plan::nothing();
    for address_type in types {
        if !wanted.keys().any(|(own, _)| *own == address_type) {
            wanted.insert((address_type, Vec::new()), Vec::new());
        }
    }
    reconcile(&template, wanted, &ours, &mut plan);
    plan
}

/// The plan for `Endpoints` that no service selects pods for.
#[must_use]
pub fn plan_mirror(endpoints: Option<&Endpoints>, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) -> Plan {
    let ours: Vec<&EndpointSlice> = managed(slices, MIRRORING);
    let mut plan = Plan::nothing();
    let mirrored = endpoints.filter(|endpoints| should_mirror(endpoints)).filter(|_| {
        let selector = service.and_then(|service| service.spec.as_ref()).map(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| selector.is_none_or(BTreeMap::is_empty))
    });
    let Some(endpoints) = mirrored else {
        ours.into_iter().for_each(|slice| plan.push(Action::delete(slice)));
        return plan;
    };
    let mut wanted = Wanted::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<Port> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| {
                let protocol = port.protocol.clone().unwrap_or("TCP".to_owned());
                (port.name.clone().unwrap_or_default(), protocol, port.port, port.app_protocol.clone())
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(MIRRORED_MAX) {
            let address_type = if service::is_ipv6(&address.ip) { "IPv6" } else { "IPv4" };
            wanted.entry((address_type, ports.clone())).or_default().push(mirrored_endpoint(address, ready));
        }
    }
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let template = Template {
        name: endpoints.name(),
        namespace: endpoints.namespace(),
        labels: labels_of(endpoints.metadata.labels.as_ref(), endpoints.name(), MIRRORING, None),
        annotations,
        owner: controller_ref(endpoints),
    };
    reconcile(&template, wanted, &ours, &mut plan);
    plan
}

fn should_mirror(endpoints: &Endpoints) -> bool {
    !endpoints.is_deleting()
        && endpoints.label(SKIP_MIRROR) != Some("true")
        && endpoints.annotation(LEADER).is_none()
        && !crate::endpoints::is_managed(endpoints)
}

fn managed<'a>(slices: &'a [Arc<EndpointSlice>], manager: &str) -> Vec<&'a EndpointSlice> {
    let ours = |slice: &&Arc<EndpointSlice>| slice.label(MANAGED_BY) == Some(manager) && !slice.is_deleting();
    slices.iter().filter(ours).map(|slice| &**slice).collect()
}

fn address_types(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let mut types: Vec<&'static str> =
        families.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if types.is_empty() {
        types.push("IPv4");
    }
    types
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = service::ports(service)
        .iter()
        .filter_map(|port| {
            let number = service::find_port(pod, port)?;
            let protocol = port.protocol.clone().unwrap_or("TCP".to_owned());
            Some((port.name.clone().unwrap_or_default(), protocol, number, port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

fn endpoint_of(service: &Service, pod: &Pod, node: Option<&Node>, ip: &str) -> Endpoint {
    let serving = pod::is_ready(pod);
    let terminating = pod.is_deleting();
    let ready = service::publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        addresses: vec![ip.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service::hostname(service, pod),
        node_name: Some(pod::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
        zone: node.and_then(|node| node.label("topology.kubernetes.io/zone")).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            name: Some(pod.name().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn mirrored_endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn labels_of(
    own: Option<&BTreeMap<String, String>>,
    name: &str,
    manager: &str,
    service: Option<&Service>,
) -> BTreeMap<String, String> {
    let reserved = ["endpointslice.kubernetes.io/managed-by", SERVICE_NAME, HEADLESS];
    let mut labels = own.cloned().unwrap_or_default();
    labels.retain(|key, _| !reserved.contains(&key.as_str()));
    if service.is_some_and(service::is_headless)
        || own.is_some_and(|own| service.is_none() && own.contains_key(HEADLESS))
    {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    labels
}

/// What all slices of one service have in common.
struct Template<'a> {
    name: &'a str,
    namespace: &'a str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    owner: OwnerReference,
}

fn shape(slice: &EndpointSlice) -> Shape {
    let address_type = if slice.address_type == "IPv6" { "IPv6" } else { "IPv4" };
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| {
            let protocol = port.protocol.clone().unwrap_or("TCP".to_owned());
            let name = port.name.clone().unwrap_or_default();
            (name, protocol, port.port.unwrap_or_default(), port.app_protocol.clone())
        })
        .collect();
    ports.sort();
    (address_type, ports)
}

/// What tells endpoints of one slice apart.
fn identity(endpoint: &Endpoint) -> (String, String) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
    (uid, endpoint.addresses.first().cloned().unwrap_or_default())
}

/// Keeps endpoints in the slices where they are, fills gaps, and makes and deletes slices as needed.
fn reconcile(template: &Template<'_>, mut wanted: Wanted, slices: &[&EndpointSlice], plan: &mut Plan) {
    let mut by_shape: BTreeMap<Shape, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        by_shape.entry(shape(slice)).or_default().push(slice);
    }
    let mut spare: Vec<&EndpointSlice> = Vec::new();
    let unwanted: Vec<Shape> = by_shape.keys().filter(|shape| !wanted.contains_key(*shape)).cloned().collect();
    for shape in unwanted {
        spare.extend(by_shape.remove(&shape).unwrap_or_default());
    }
    // Slices without endpoints are kept only as the one placeholder of a service that has none.
    for (shape, endpoints) in &mut wanted {
        let own = by_shape.remove(shape).unwrap_or_default();
        fill(template, shape, std::mem::take(endpoints), own, &mut spare, plan);
    }
    spare.into_iter().for_each(|slice| plan.push(Action::delete(slice)));
}

fn fill<'a>(
    template: &Template<'_>,
    shape: &Shape,
    endpoints: Vec<Endpoint>,
    own: Vec<&'a EndpointSlice>,
    spare: &mut Vec<&'a EndpointSlice>,
    plan: &mut Plan,
) {
    let placeholder = endpoints.is_empty();
    let mut open: BTreeMap<(String, String), Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut kept: Vec<(&EndpointSlice, Vec<Endpoint>)> = Vec::new();
    for slice in own {
        let stays = slice.endpoints.iter().flatten().filter_map(|endpoint| open.remove(&identity(endpoint))).collect();
        kept.push((slice, stays));
    }
    let mut fresh: std::collections::VecDeque<Endpoint> = open.into_values().collect();
    kept.sort_by_key(|(_, stays)| std::cmp::Reverse(stays.len()));
    let mut placed = false;
    for (slice, mut stays) in kept {
        while stays.len() < ENDPOINTS_MAX
            && let Some(endpoint) = fresh.pop_front()
        {
            stays.push(endpoint);
        }
        if stays.is_empty() && (!placeholder || placed) {
            spare.push(slice);
            continue;
        }
        placed = true;
        let updated = slice_of(template, shape, stays, Some(slice));
        if updated != *slice {
            plan.push(Action::update(&updated));
        }
    }
    if placeholder && !placed {
        plan.push(Action::create(&slice_of(template, shape, Vec::new(), None)));
    }
    while !fresh.is_empty() {
        let count = fresh.len().min(ENDPOINTS_MAX);
        let some = fresh.drain(..count).collect();
        plan.push(Action::create(&slice_of(template, shape, some, None)));
    }
}

fn slice_of(
    template: &Template<'_>,
    (address_type, ports): &Shape,
    endpoints: Vec<Endpoint>,
    before: Option<&EndpointSlice>,
) -> EndpointSlice {
    let port = |(name, protocol, port, app_protocol): &Port| EndpointPort {
        name: Some(name.clone()),
        protocol: Some(protocol.clone()),
        port: Some(*port),
        app_protocol: app_protocol.clone(),
    };
    let ports: Vec<EndpointPort> = ports.iter().map(port).collect();
    let mut slice = before.cloned().unwrap_or_else(|| EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", template.name)),
            namespace: Some(template.namespace.to_owned()),
            owner_references: Some(vec![template.owner.clone()]),
            annotations: Some(template.annotations.clone()).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        },
        address_type: (*address_type).to_owned(),
        ..EndpointSlice::default()
    });
    slice.metadata.labels = Some(template.labels.clone());
    // The order in which ports are listed does not matter.
    let unchanged = before.is_some_and(|before| shape(before).1.len() == ports.len());
    if !unchanged {
        slice.ports = Some(ports);
    }
    // A list that is empty and one that is absent are the same.
    if !endpoints.is_empty() || slice.endpoints.as_ref().is_none_or(|before| !before.is_empty()) {
        slice.endpoints = Some(endpoints);
    }
    if before.is_some_and(|before| before.endpoints.is_none()) && slice.endpoints.as_ref().is_some_and(Vec::is_empty) {
        slice.endpoints = None;
    }
    slice
}
