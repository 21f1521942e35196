//! Endpoints and endpoint slices.

use std::sync::Arc;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::Change;
use coracle_driver::{Planned, Queue, Request, feed, feed_with};
use coracle_plan_controllers::{endpoints, endpointslice, service};
use coracle_plan_core::{Plan, pod};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Context;
use crate::informers::Informers;

const WORKERS: usize = 5;

pub fn start(context: &Context) {
    start_endpoints(context);
    start_slices(context);
    start_mirroring(context);
}

/// Services that select the pod as it was or is, when something changed that endpoints show.
fn services_of(informers: &Informers, change: &Change<Pod>) -> Vec<ObjectKey> {
    let (old, new) = (change.old.as_deref(), change.new.as_deref());
    if let (Some(old), Some(new)) = (old, new)
        && !matters(old, new)
    {
        return Vec::new();
    }
    let selects = |own: &k8s_openapi::api::core::v1::Service| {
        old.is_some_and(|pod| service::selects(own, pod)) || new.is_some_and(|pod| service::selects(own, pod))
    };
    let services = informers.services.list_namespace(&change.key.namespace).into_iter();
    services.filter(|own| selects(own)).map(|own| ObjectKey::new(own.namespace(), own.name())).collect()
}

fn matters(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels != new.metadata.labels
        || old.is_deleting() != new.is_deleting()
        || pod::is_ready(old) != pod::is_ready(new)
        || pod::phase(old) != pod::phase(new)
        || service::addresses(old) != service::addresses(new)
        || pod::node_name(old) != pod::node_name(new)
        || old.uid() != new.uid()
}

fn start_endpoints(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.services, &queue);
    feed(&context.tasks, &context.stop, &informers.endpoints, &queue);
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let informers = informers.clone();
        move |change| services_of(&informers, change)
    });
    let plan = move |request: &Request<ObjectKey>| {
        let service = informers.services.get_key(&request.key);
        let current = informers.endpoints.get_key(&request.key);
        let wanted = service.as_deref().is_some_and(service::has_endpoints);
        let pods = if wanted { informers.pods.list_namespace(&request.key.namespace) } else { Vec::new() };
        endpoints::plan(&endpoints::View { service: service.as_deref(), endpoints: current.as_deref(), pods: &pods })
    };
    let name = "endpoint-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn slices_of(informers: &Informers, key: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
    let mut slices = informers.slices.list_namespace(&key.namespace);
    slices.retain(|slice| slice.label(endpointslice::SERVICE_NAME) == Some(key.name.as_str()));
    slices
}

fn service_of_slice(change: &Change<EndpointSlice>) -> Vec<ObjectKey> {
    let names = change
        .old
        .iter()
        .chain(&change.new)
        .filter_map(|slice| Some(ObjectKey::new(slice.namespace(), slice.label(endpointslice::SERVICE_NAME)?)));
    names.collect()
}

/// Nodes come and go, and change their zone.
fn services_of_node(informers: &Informers, change: &Change<Node>) -> Vec<ObjectKey> {
    let zone = |node: &Option<Arc<Node>>| {
        node.as_ref().map(|node| node.label("topology.kubernetes.io/zone").map(str::to_owned))
    };
    if zone(&change.old) == zone(&change.new) {
        return Vec::new();
    }
    informers.services.list().iter().map(|own| ObjectKey::new(own.namespace(), own.name())).collect()
}

fn start_slices(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.services, &queue);
    feed_with(&context.tasks, &context.stop, &informers.slices, &queue, service_of_slice);
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let informers = informers.clone();
        move |change| services_of(&informers, change)
    });
    feed_with(&context.tasks, &context.stop, &informers.nodes, &queue, {
        let informers = informers.clone();
        move |change| services_of_node(&informers, change)
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(service) = informers.services.get_key(&request.key) else { return Plan::nothing() };
        let pods = informers.pods.list_namespace(&request.key.namespace);
        let view = endpointslice::View {
            service: &service,
            slices: &slices_of(&informers, &request.key),
            pods: &pods,
            node: &|name| informers.nodes.get("", name),
        };
        endpointslice::plan(&view)
    };
    let name = "endpoint-slice-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_mirroring(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.endpoints, &queue);
    feed(&context.tasks, &context.stop, &informers.services, &queue);
    feed_with(&context.tasks, &context.stop, &informers.slices, &queue, service_of_slice);
    let plan = move |request: &Request<ObjectKey>| {
        let current = informers.endpoints.get_key(&request.key);
        let service = informers.services.get_key(&request.key);
        let slices = slices_of(&informers, &request.key);
        endpointslice::plan_mirror(current.as_deref(), service.as_deref(), &slices)
    };
    let name = "endpoint-slice-mirroring-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}
