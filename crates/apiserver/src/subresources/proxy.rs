//! `proxy` of nodes, pods and services. Source: `k8s.io/apimachinery/pkg/util/proxy/upgradeaware.go`,
//! `pkg/registry/core/{node,pod,service}/strategy.go`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_client::Body;
use coracle_store::Store;
use http::{HeaderValue, Method, Request, StatusCode, header};

use super::{connect, kubelet, tunnel};
use crate::http::{Ctx, Reply, reply};
use crate::outgoing;
use crate::registry::resources::item_name;
use crate::registry::{Target, storage};

/// `[scheme:]name[:port]`.
struct Place<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

fn place(text: &str) -> Result<Place<'_>, Status> {
    let parts: Vec<&str> = text.split(':').collect();
    let place = match parts.as_slice() {
        [name] => Place { scheme: "", name, port: "" },
        [name, port] => Place { scheme: "", name, port },
        [scheme, name, port] => Place { scheme, name, port },
        _ => return Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
    };
    match place.scheme {
        "" | "http" => Ok(place),
        "https" => Ok(place),
        _ => Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
    }
}

pub(super) async fn handle(ctx: &Arc<Ctx>, target: &Target, request: Request<Body>) -> Result<Reply, Status> {
    if let Some(redirect) = redirect(ctx, request.uri().path()) {
        return Ok(redirect);
    }
    connect::admit(ctx, target).await?;
    let place = place(&target.name)?;
    let mut path = format!("/{}", raw_rest(request.uri().path()));
    if !ctx.raw_query.is_empty() {
        path = format!("{path}?{}", ctx.raw_query);
    }
    let (namespace, plural) = (&target.namespace, target.resource.plural.as_str());
    if plural == "nodes" {
        let node = kubelet::node_target(ctx, place.name)?;
        let stream = ctx.server.config.nodes.connect(&node).await.map_err(|error| unreachable(&error))?;
        return tunnel::forward(&ctx.server, stream, &node.name, &path, request).await;
    }
    if place.scheme == "https" {
        return Err(Status::unavailable(
            "error trying to reach service: https backends are not supported by this proxy",
        ));
    }
    let address =
        if plural == "pods" { pod(ctx, target, &place)? } else { service(&*ctx.server.store, namespace, &place)? };
    let stream = ctx.server.config.pods.dial(address).await.map_err(|error| unreachable(&error))?;
    let mut reply = tunnel::forward(&ctx.server, stream, &address.to_string(), &path, request).await?;
    fix_location(ctx, &mut reply);
    Ok(reply)
}

fn unreachable(error: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {error}"))
}

/// What follows `/proxy` in the path, still escaped.
fn raw_rest(path: &str) -> &str {
    let mut parts = path.splitn(2, "/proxy/");
    parts.nth(1).unwrap_or_default()
}

/// Browsers need the slash at the end for links to work.
fn redirect(ctx: &Ctx, path: &str) -> Option<Reply> {
    if !path.ends_with("/proxy") || !matches!(ctx.method, Method::GET | Method::HEAD) {
        return None;
    }
    let query = if ctx.raw_query.is_empty() { String::new() } else { format!("?{}", ctx.raw_query) };
    let mut reply = reply::text(StatusCode::MOVED_PERMANENTLY, "");
    let location = HeaderValue::from_str(&format!("{path}/{query}")).ok()?;
    reply.headers_mut().insert(header::LOCATION, location);
    Some(reply)
}

/// Redirects of the backend stay behind the proxy.
fn fix_location(ctx: &Ctx, reply: &mut Reply) {
    let Some(location) = reply.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()) else { return };
    if !location.starts_with('/') {
        return;
    }
    let base = ctx.info.path.find("/proxy").map_or("", |at| &ctx.info.path[..at + "/proxy".len()]);
    if let Ok(value) = HeaderValue::from_str(&format!("{base}{location}")) {
        reply.headers_mut().insert(header::LOCATION, value);
    }
}

/// Where the port of a Service is: one of its ready endpoints, or what an `ExternalName` says.
pub(crate) fn service_place(
    store: &dyn Store,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<outgoing::Place, Status> {
    let place = Place { scheme: "https", name, port: &port.to_string() };
    let external =
        load(store, "services", namespace, name)?.filter(|own| own.str_at(&["spec", "type"]) == "ExternalName");
    if let Some(external) = external {
        return Ok(outgoing::Place::Host { host: external.str_at(&["spec", "externalName"]).to_owned(), port });
    }
    let address = service(store, namespace, &place)?;
    Ok(outgoing::Place::Host { host: address.ip().to_string(), port: address.port() })
}

fn load(store: &dyn Store, collection: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    let entry = store.local_get(&coracle_store::Key::new(collection, item_name(namespace, name)));
    entry.map(|entry| storage::parse(&entry.value)).transpose()
}

fn pod(ctx: &Ctx, target: &Target, place: &Place<'_>) -> Result<SocketAddr, Status> {
    let pod = load(&*ctx.server.store, "pods", &target.namespace, place.name)?;
    let pod = pod.ok_or_else(|| Status::not_found(&target.resource.gvr(), place.name))?;
    let ip: IpAddr = pod
        .str_at(&["status", "podIP"])
        .parse()
        .map_err(|_| Status::internal(format!("address not allowed: pod {:?} has no address", place.name)))?;
    let ports = |named: &str| {
        let list = pod.at(&["spec", "containers"]).and_then(Value::as_array).into_iter().flatten();
        let mut all = list.flat_map(|own| own.get("ports").and_then(Value::as_array).into_iter().flatten());
        let found = all.find(|port| named.is_empty() || port.str_at(&["name"]) == named);
        found.and_then(|port| port.get("containerPort")?.as_u64())
    };
    let number = place.port.parse::<u64>().ok().or_else(|| ports(place.port)).unwrap_or(80);
    let port = u16::try_from(number).map_err(|_| Status::bad_request(format!("invalid port {:?}", place.port)))?;
    Ok(SocketAddr::new(ip, port))
}

/// One ready endpoint of a service's port, chosen at random.
fn service(store: &dyn Store, namespace: &str, place: &Place<'_>) -> Result<SocketAddr, Status> {
    let gvr = coracle_api_meta::Gvr::new("", "v1", "services");
    let service = load(store, "services", namespace, place.name)?;
    let service = service.ok_or_else(|| Status::not_found(&gvr, place.name))?;
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let wanted = ports.iter().find(|port| match place.port {
        "" => true,
        text => port.str_at(&["name"]) == text || port.get("port").map(ToString::to_string).as_deref() == Some(text),
    });
    let none = || Status::unavailable(format!("no endpoints available for service {:?}", place.name));
    let wanted = wanted.ok_or_else(|| {
        Status::unavailable(format!("no service port {:?} found for service {:?}", place.port, place.name))
    })?;
    let name = wanted.str_at(&["name"]);
    let mut found: Vec<SocketAddr> = Vec::new();
    for entry in store.local_range("discovery.k8s.io/endpointslices", &format!("{namespace}/")) {
        let slice = storage::parse(&entry.value)?;
        let of = slice.labels().and_then(|labels| labels.get("kubernetes.io/service-name")).and_then(Value::as_str);
        if of != Some(place.name) {
            continue;
        }
        let list = slice.get("ports").and_then(Value::as_array).into_iter().flatten();
        let port = list.filter(|port| port.str_at(&["name"]) == name).find_map(|port| port.get("port")?.as_u64());
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
            if endpoint.at(&["conditions", "ready"]) == Some(&Value::Bool(false)) {
                continue;
            }
            let addresses = endpoint.get("addresses").and_then(Value::as_array).into_iter().flatten();
            let addresses = addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
            found.extend(addresses.map(|address| SocketAddr::new(address, port)));
        }
    }
    if found.is_empty() {
        return Err(none());
    }
    Ok(found[rand::random_range(0..found.len())])
}
