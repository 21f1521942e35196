//! `proxy` of nodes, pods and services. Source: `k8s.io/apimachinery/pkg/util/proxy/upgradeaware.go`,
//! `pkg/registry/core/{node,pod,service}/strategy.go`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_client::Body;
use coracle_store::Store;
use http::{HeaderValue, Method, Request, StatusCode, header};

use super::rewrite::{self, Rewriting};
use super::{connect, kubelet, tunnel};
use crate::config::ByteStream;
use crate::http::{Ctx, Reply, reply};
use crate::outgoing::{self, Destination, Trust};
use crate::registry::resources::item_name;
use crate::registry::{Target, storage};

const SLICES: &str = "discovery.k8s.io/endpointslices";
/// What a backend says about other origins is not true of this server. Source: `corsRemovingTransport`.
const CORS: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

/// `[scheme:]name[:port]`.
struct Place<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

/// Source: `SplitSchemeNamePort`.
fn place<'a>(plural: &str, text: &'a str) -> Result<Place<'a>, Status> {
    let parts: Vec<&str> = text.split(':').collect();
    let place = match parts.as_slice() {
        [name] => Place { scheme: "", name, port: "" },
        [name, port] => Place { scheme: "", name, port },
        [scheme, name, port] => Place { scheme, name, port },
        _ => Place { scheme: "", name: "", port: "" },
    };
    if place.name.is_empty() || !matches!(place.scheme, "" | "http" | "https") {
        let what = plural.trim_end_matches('s');
        return Err(Status::bad_request(format!("invalid {what} request {text:?}")));
    }
    Ok(place)
}

/// The other side.
enum Backend {
    Kubelet(crate::config::NodeTarget),
    Address { secure: bool, address: SocketAddr },
}

pub(super) async fn handle(ctx: &Arc<Ctx>, target: &Target, request: Request<Body>) -> Result<Reply, Status> {
    connect::admit(ctx, target).await?;
    let place = place(&target.resource.plural, &target.name)?;
    let backend = backend(ctx, target, &place)?;
    let own_path = request.uri().path().to_owned();
    if let Some(redirect) = redirect(ctx, &own_path) {
        return Ok(redirect);
    }
    let rest = format!("/{}", raw_rest(&own_path));
    let path = if ctx.raw_query.is_empty() { rest.clone() } else { format!("{rest}?{}", ctx.raw_query) };
    let (stream, authority) = open(ctx, &backend).await?;
    let host = host(&request).unwrap_or_else(|| authority.clone());
    let rewriting = Rewriting::new(&own_path, &rest, &authority, &host);
    let mut request = request;
    rewriting.announce(request.headers_mut());
    let mut answer = tunnel::forward(&ctx.server, stream, &host, &path, request).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    for name in CORS {
        answer.headers_mut().remove(name);
    }
    rewrite::answer(&rewriting, answer).await
}

/// The name that the client called this server by: backends see it.
fn host(request: &Request<Body>) -> Option<String> {
    let sent = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    sent.or_else(|| request.uri().authority().map(ToString::to_string))
}

fn backend(ctx: &Ctx, target: &Target, place: &Place<'_>) -> Result<Backend, Status> {
    let secure = place.scheme == "https";
    match target.resource.plural.as_str() {
        "nodes" => {
            let node = kubelet::node_target(ctx, place.name)?;
            if place.port.is_empty() || place.port == node.kubelet_port.to_string() {
                return Ok(Backend::Kubelet(node));
            }
            let address = node.addresses.first().filter(|address| is_global(**address));
            let address = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
            Ok(Backend::Address { secure, address: SocketAddr::new(*address, number(place.port)?) })
        }
        "pods" => Ok(Backend::Address { secure, address: pod(ctx, target, place)? }),
        _ => {
            let store = &*ctx.server.store;
            let address = service(store, &target.namespace, place, &|own| of_pod(store, &target.namespace, own))?;
            Ok(Backend::Address { secure, address })
        }
    }
}

async fn open(ctx: &Ctx, backend: &Backend) -> Result<(Box<dyn ByteStream>, String), Status> {
    let config = &ctx.server.config;
    match backend {
        Backend::Kubelet(node) => {
            let stream = config.nodes.connect(node).await.map_err(|error| unreachable(&error))?;
            let address = node.addresses.first().map_or_else(|| node.name.clone(), ToString::to_string);
            Ok((stream, format!("{address}:{}", node.kubelet_port)))
        }
        Backend::Address { secure: false, address } => {
            let dialed = config.pods.dial(*address).await;
            let stream = dialed.map_err(|error| unreachable(&outgoing::dial_failed(*address, &error)))?;
            Ok((stream, address.to_string()))
        }
        Backend::Address { secure: true, address } => {
            let to = Destination {
                place: outgoing::Place::Pod(*address),
                server_name: address.ip().to_string(),
                trust: Trust::Anyone,
                as_front_proxy: false,
            };
            let connecting = ctx.server.outgoing.connect(&to);
            let stream = connecting.await.map_err(|why| unreachable(&why))?;
            Ok((stream, address.to_string()))
        }
    }
}

fn unreachable(error: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {error}"))
}

fn number(text: &str) -> Result<u16, Status> {
    text.parse().map_err(|_| Status::bad_request(format!("invalid port {text:?}")))
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
    Ok(outgoing::Place::Pod(service(store, namespace, &place, &|_| true)?))
}

fn load(store: &dyn Store, collection: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    let entry = store.local_get(&coracle_store::Key::new(collection, item_name(namespace, name)));
    entry.map(|entry| storage::parse(&entry.value)).transpose()
}

/// Source: Go's `net.IP.IsGlobalUnicast`.
fn is_global(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local)
}

fn pod(ctx: &Ctx, target: &Target, place: &Place<'_>) -> Result<SocketAddr, Status> {
    let pod = load(&*ctx.server.store, "pods", &target.namespace, place.name)?;
    let pod = pod.ok_or_else(|| Status::not_found(&target.resource.gvr(), place.name))?;
    let address: Option<IpAddr> = pod.str_at(&["status", "podIP"]).parse().ok();
    let address = address.filter(|address| is_global(*address));
    let address = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let list = pod.at(&["spec", "containers"]).and_then(Value::as_array).into_iter().flatten();
    let mut ports = list.filter_map(|own| own.get("ports")?.as_array()?.first()?.get("containerPort")?.as_u64());
    let port = match place.port {
        "" => ports.next().and_then(|port| u16::try_from(port).ok()).unwrap_or(if place.scheme == "https" {
            443
        } else {
            80
        }),
        text => number(text)?,
    };
    Ok(SocketAddr::new(address, port))
}

/// Whether an endpoint is the pod that it says it is: clients are not led anywhere else.
fn of_pod(store: &dyn Store, namespace: &str, endpoint: &Value) -> bool {
    let reference = endpoint.get("targetRef").unwrap_or(&Value::Null);
    let within = reference.str_at(&["namespace"]);
    if reference.str_at(&["kind"]) != "Pod" || !(within.is_empty() || within == namespace) {
        return false;
    }
    let Ok(Some(pod)) = load(store, "pods", namespace, reference.str_at(&["name"])) else { return false };
    let own = pod.at(&["status", "podIPs"]).and_then(Value::as_array).into_iter().flatten();
    let own: Vec<&str> = own.map(|own| own.str_at(&["ip"])).chain([pod.str_at(&["status", "podIP"])]).collect();
    let mut addresses = endpoint.get("addresses").and_then(Value::as_array).into_iter().flatten();
    addresses.any(|address| address.as_str().is_some_and(|address| own.contains(&address)))
}

/// One ready endpoint of a service's port, chosen at random among those that are allowed.
fn service(
    store: &dyn Store,
    namespace: &str,
    place: &Place<'_>,
    allowed: &dyn Fn(&Value) -> bool,
) -> Result<SocketAddr, Status> {
    let gvr = coracle_api_meta::Gvr::new("", "v1", "services");
    let service = load(store, "services", namespace, place.name)?;
    let service = service.ok_or_else(|| Status::not_found(&gvr, place.name))?;
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let name = match place.port.parse::<u64>() {
        Ok(number) => {
            let own = ports.iter().find(|port| port.get("port").and_then(Value::as_u64) == Some(number));
            own.ok_or_else(|| {
                Status::unavailable(format!("no service port {number} found for service {:?}", place.name))
            })?
            .str_at(&["name"])
        }
        Err(_) => place.port,
    };
    let found = endpoints(store, namespace, place.name, name, allowed)?;
    if found.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service {:?}", place.name)));
    }
    Ok(found[rand::random_range(0..found.len())])
}

/// Ready endpoints of a named port.
fn endpoints(
    store: &dyn Store,
    namespace: &str,
    service: &str,
    port_name: &str,
    allowed: &dyn Fn(&Value) -> bool,
) -> Result<Vec<SocketAddr>, Status> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for entry in store.local_range(SLICES, &format!("{namespace}/")) {
        let slice = storage::parse(&entry.value)?;
        let of = slice.labels().and_then(|labels| labels.get("kubernetes.io/service-name")).and_then(Value::as_str);
        if of != Some(service) {
            continue;
        }
        let list = slice.get("ports").and_then(Value::as_array).into_iter().flatten();
        let port = list.filter(|port| port.str_at(&["name"]) == port_name).find_map(|port| port.get("port")?.as_u64());
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
            if endpoint.at(&["conditions", "ready"]) == Some(&Value::Bool(false)) || !allowed(endpoint) {
                continue;
            }
            let addresses = endpoint.get("addresses").and_then(Value::as_array).into_iter().flatten();
            let addresses = addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
            found.extend(addresses.map(|address| SocketAddr::new(address, port)));
        }
    }
    Ok(found)
}
