//! Admission of connections: what is asked about is how to connect, not to what.
//! Source: `PodExecOptions` and its like, `k8s.io/apiserver/pkg/endpoints/handlers/rest.go` (`ConnectResource`).

use coracle_api_meta::{Map, Status, Value};
use serde_json::json;

use crate::http::Ctx;
use crate::registry::admit::{Attempt, Operation};
use crate::registry::{Target, admit};

const STREAMS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// Refused when admission refuses the connection that the request wants.
pub(super) async fn admit(ctx: &Ctx, target: &Target) -> Result<(), Status> {
    let attempt = Attempt {
        ctx,
        target,
        operation: Operation::Connect,
        subresource: &ctx.info.subresource,
        name: &target.name,
        old: None,
        dry_run: false,
    };
    admit::validate(&attempt, &options(ctx, target)).await
}

/// The query as the object that it stands for.
fn options(ctx: &Ctx, target: &Target) -> Value {
    let mut fields = Map::new();
    let kind = match ctx.info.subresource.as_str() {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        "portforward" => "PodPortForwardOptions",
        _ => match target.resource.plural.as_str() {
            "nodes" => "NodeProxyOptions",
            "services" => "ServiceProxyOptions",
            _ => "PodProxyOptions",
        },
    };
    fields.insert("kind".to_owned(), kind.into());
    fields.insert("apiVersion".to_owned(), "v1".into());
    match kind {
        "PodPortForwardOptions" => {
            let ports = ctx.query.all("ports").flat_map(|list| list.split(','));
            let ports: Vec<u16> = ports.filter_map(|port| port.trim().parse().ok()).collect();
            if !ports.is_empty() {
                fields.insert("ports".to_owned(), json!(ports));
            }
        }
        "PodExecOptions" | "PodAttachOptions" => {
            for stream in STREAMS.into_iter().filter(|stream| ctx.query.flag(stream)) {
                fields.insert(stream.to_owned(), true.into());
            }
            let container = ctx.query.get("container");
            if !container.is_empty() {
                fields.insert("container".to_owned(), container.into());
            }
            if kind == "PodExecOptions" {
                let command: Vec<&str> = ctx.query.all("command").collect();
                fields.insert("command".to_owned(), json!(command));
            }
        }
        _ => {
            let path = ctx.info.path.split_once("/proxy").map_or("", |(_, path)| path);
            fields.insert("path".to_owned(), path.into());
        }
    }
    Value::Object(fields)
}
