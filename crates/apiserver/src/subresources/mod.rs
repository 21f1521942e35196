//! Subresources, and what writes of some kinds do beside the write.

pub(crate) mod allocate;
mod approval;
mod binding;
mod connect;
pub(crate) mod crd;
pub(crate) mod crd_clean_up;
mod eviction;
mod kubelet;
mod proxy;
mod rewrite;
mod scale;
mod token;
pub(crate) mod tunnel;

use std::sync::Arc;

use coracle_api_meta::{Status, Value};
use coracle_client::Body;
use http::Request;
use serde_json::json;

use crate::http::{Ctx, Reply, body};
use crate::registry::{Target, patch, read, update};

/// Subresources that hold the object itself and are read and written as it is.
const OF_OBJECT: [&str; 5] = ["status", "ephemeralcontainers", "resize", "approval", "finalize"];

pub(crate) async fn handle(ctx: &Arc<Ctx>, target: &Target, request: Request<Body>) -> Result<Reply, Status> {
    let resource = &target.resource;
    let name = ctx.info.subresource.as_str();
    let verb = ctx.info.verb.as_str();
    let row = resource.subresource(name).ok_or_else(Status::no_such_path)?;
    // OPTIONS has no verb, and is for what is behind the proxy to answer.
    let options = name == "proxy" && ctx.method == http::Method::OPTIONS;
    if !options && !row.verbs.iter().any(|own| own == verb) {
        return Err(Status::method_not_allowed(&resource.gvr(), verb));
    }
    match name {
        _ if OF_OBJECT.contains(&name) => of_object(ctx, target, name, request).await,
        "scale" => scale::handle(ctx, target, request).await,
        "binding" => binding::pod(ctx, target, body::read_whole(request.into_body()).await?).await,
        "eviction" => eviction::handle(ctx, target, body::read_whole(request.into_body()).await?).await,
        "token" => token::handle(ctx, target, body::read_whole(request.into_body()).await?).await,
        "log" | "exec" | "attach" | "portforward" => kubelet::handle(ctx, target, request).await,
        "proxy" => proxy::handle(ctx, target, request).await,
        _ => Err(Status::no_such_path()),
    }
}

async fn of_object(ctx: &Ctx, target: &Target, name: &str, request: Request<Body>) -> Result<Reply, Status> {
    if ctx.info.verb == "get" {
        return read::get(ctx, target).await;
    }
    let body = body::read_whole(request.into_body()).await?;
    if name == "approval" {
        approval::check(ctx, target)?;
    }
    if ctx.info.verb == "patch" {
        return patch::patch(ctx, target, name, body).await;
    }
    update::update(ctx, target, name, body).await
}

pub(crate) use approval::may;
pub(crate) use binding::collection as bind;
pub(crate) use proxy::service_place;

/// Puts `condition` in the place of the one of its type; `lastTransitionTime` is `now` if the status changes.
fn set_condition(object: &mut Value, mut condition: Value, now: &str) {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(list) = object["status"]["conditions"].as_array_mut() else { return };
    let old = list.iter_mut().find(|own| own["type"] == condition["type"]);
    condition["lastTransitionTime"] = match &old {
        Some(old) if old["status"] == condition["status"] => old["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    match old {
        Some(old) => *old = condition,
        None => list.push(condition),
    }
}
