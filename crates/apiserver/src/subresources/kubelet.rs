//! `log`, `exec`, `attach` and `portforward`: passed on to the kubelet of the pod's node.
//! Source: `pkg/registry/core/pod/rest`, `pkg/registry/core/pod/strategy.go` (`streamLocation`, `LogLocation`).

use std::sync::Arc;

use coracle_api_access::Attributes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Gvk, Gvr, Status, Value};
use coracle_client::Body;
use http::Request;

use super::{connect, tunnel};
use crate::config::NodeTarget;
use crate::http::query::encode;
use crate::http::{Ctx, Reply, authz};
use crate::registry::resources::item_name;
use crate::registry::{Target, storage};

/// Parameters that the kubelet reads, and their names in the kubelet's API where they differ.
const LOG: [&str; 8] =
    ["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "limitBytes", "tailLines", "stream"];
const STREAMS: [(&str, &str); 4] = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
const KUBELET_PORT: u16 = 10250;

/// How to reach the kubelet of a node.
pub(super) fn node_target(ctx: &Ctx, name: &str) -> Result<NodeTarget, Status> {
    let entry = ctx.server.store.local_get(&coracle_store::Key::new("nodes", name));
    let entry = entry.ok_or_else(|| Status::not_found(&Gvr::new("", "v1", "nodes"), name))?;
    let node = storage::parse(&entry.value)?;
    let list = node.at(&["status", "addresses"]).and_then(Value::as_array);
    let mut addresses: Vec<(bool, std::net::IpAddr)> = list
        .into_iter()
        .flatten()
        .filter_map(|address| {
            Some((address.str_at(&["type"]) != "InternalIP", address.str_at(&["address"]).parse().ok()?))
        })
        .collect();
    addresses.sort_by_key(|(other, _)| *other);
    let port = node.at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Value::as_u64);
    Ok(NodeTarget {
        name: name.to_owned(),
        addresses: addresses.into_iter().map(|(_, address)| address).collect(),
        kubelet_port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(KUBELET_PORT),
    })
}

fn containers(pod: &Value) -> Vec<&str> {
    let list = |field: &str| pod.at(&["spec", field]).and_then(Value::as_array).into_iter().flatten();
    let all = list("containers").chain(list("initContainers")).chain(list("ephemeralContainers"));
    all.map(|container| container.str_at(&["name"])).collect()
}

/// The container that the request names, or the only one there is.
fn container<'a>(ctx: &'a Ctx, pod: &'a Value) -> Result<&'a str, Status> {
    let asked = ctx.query.get("container");
    let all = containers(pod);
    let name = pod.name();
    if !asked.is_empty() {
        return if all.contains(&asked) {
            Ok(asked)
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    let own = pod.at(&["spec", "containers"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if let [one] = own {
        return Ok(one.str_at(&["name"]));
    }
    let default = pod.annotations().and_then(|all| all.get("kubectl.kubernetes.io/default-container"));
    if let Some(default) = default.and_then(Value::as_str).filter(|default| all.contains(default)) {
        return Ok(default);
    }
    let names = |field: &str| {
        let list = pod.at(&["spec", field]).and_then(Value::as_array).into_iter().flatten();
        list.map(|own| own.str_at(&["name"])).collect::<Vec<_>>().join(" ")
    };
    let init = names("initContainers");
    let mut text =
        format!("a container name must be specified for pod {name}, choose one of: [{}]", names("containers"));
    if !init.is_empty() {
        text.push_str(&format!(" or one of the init containers: [{init}]"));
    }
    Err(Status::bad_request(text))
}

fn path(ctx: &Ctx, target: &Target, pod: &Value) -> Result<String, Status> {
    let (namespace, name) = (&target.namespace, &target.name);
    let mut parameters: Vec<(String, String)> = Vec::new();
    let kind = ctx.info.subresource.as_str();
    let base = match kind {
        "log" => {
            for key in LOG {
                parameters.extend(ctx.query.all(key).map(|value| (key.to_owned(), value.to_owned())));
            }
            format!("/containerLogs/{namespace}/{name}/{}", encode(container(ctx, pod)?))
        }
        "portforward" => {
            parameters.extend(ctx.query.all("ports").map(|port| ("port".to_owned(), port.to_owned())));
            format!("/portForward/{namespace}/{name}")
        }
        _ => {
            for (sent, own) in STREAMS {
                if ctx.query.flag(sent) {
                    parameters.push((own.to_owned(), "1".to_owned()));
                }
            }
            parameters.extend(ctx.query.all("command").map(|word| ("command".to_owned(), word.to_owned())));
            format!("/{kind}/{namespace}/{name}/{}", encode(container(ctx, pod)?))
        }
    };
    let query: Vec<String> =
        parameters.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    Ok(if query.is_empty() { base } else { format!("{base}?{}", query.join("&")) })
}

/// Source: `ValidatePodLogOptions`.
fn check_log_options(ctx: &Ctx, name: &str) -> Result<(), Status> {
    let mut errors = Vec::new();
    for (field, min, detail) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        match ctx.query.get(field) {
            "" => {}
            text => match text.parse::<i64>() {
                Ok(number) if number < min => {
                    errors.push(FieldError::invalid(&FieldPath::new(field), number, detail));
                }
                Ok(_) => {}
                Err(_) => {
                    return Err(Status::bad_request(format!("invalid value of {field}: {text:?} is not a number")));
                }
            },
        }
    }
    if ctx.query.has("sinceSeconds") && ctx.query.has("sinceTime") {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&FieldPath::new(""), detail));
    }
    match ctx.query.get("stream") {
        "" | "All" => {}
        "Stdout" | "Stderr" if ctx.query.has("tailLines") => {
            let detail = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(FieldError::forbidden(&FieldPath::new(""), detail));
        }
        "Stdout" | "Stderr" => {}
        other => {
            let known = ["All", "Stderr", "Stdout"];
            errors.push(FieldError::not_supported(&FieldPath::new("stream"), other, &known));
        }
    }
    let kind = Gvk::new("", "v1", "PodLogOptions");
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&kind, name, &errors)) }
}

/// A stream opened by GET does what POST does, so it needs the same right.
/// Source: feature `AuthorizePodWebsocketUpgradeCreatePermission`.
fn may_create(ctx: &Ctx) -> Result<(), Status> {
    let attributes = Attributes { verb: "create", ..authz::attributes(ctx) };
    match ctx.server.authorizer.allows(&*ctx.server.store, &attributes) {
        Some(_) => Ok(()),
        None => Err(authz::forbidden(&attributes)),
    }
}

pub(super) async fn handle(ctx: &Arc<Ctx>, target: &Target, request: Request<Body>) -> Result<Reply, Status> {
    let resource = &target.resource;
    let item = item_name(&target.namespace, &target.name);
    let entry = storage::load(&ctx.server, resource, &item).await?;
    let entry = entry.ok_or_else(|| Status::not_found(&resource.gvr(), &target.name))?;
    let pod = storage::object(resource, &entry)?;
    if ctx.info.subresource == "log" {
        check_log_options(ctx, &target.name)?;
    } else {
        may_create(ctx)?;
        connect::admit(ctx, target).await?;
    }
    let path = path(ctx, target, &pod)?;
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        if ctx.info.subresource == "log" {
            return Ok(crate::http::reply::text(http::StatusCode::OK, ""));
        }
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    let node = node_target(ctx, node)?;
    let stream = ctx.server.config.nodes.connect(&node).await.map_err(|error| {
        let address = node.addresses.first().map_or_else(|| node.name.clone(), ToString::to_string);
        Status::internal(format!("dial tcp {address}:{}: {error}", node.kubelet_port))
    })?;
    tunnel::forward(&ctx.server, stream, &node.name, &path, request).await
}
