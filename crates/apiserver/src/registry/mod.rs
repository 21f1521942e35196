//! One path for every resource: rows of [`resources`] say what there is, rules say what is particular, this module does it.

pub(crate) mod admit;
pub(crate) mod computed;
pub(crate) mod conversion;
pub(crate) mod create;
pub(crate) mod custom_table;
pub(crate) mod definition;
pub(crate) mod delete;
pub(crate) mod encode;
pub(crate) mod fields;
pub(crate) mod forms;
pub(crate) mod list;
pub(crate) mod objects;
pub(crate) mod options;
pub(crate) mod patch;
pub(crate) mod read;
pub(crate) mod resources;
pub(crate) mod selection;
pub(crate) mod storage;
pub(crate) mod stream;
pub(crate) mod update;
pub(crate) mod watch;

use std::sync::Arc;

use coracle_api_meta::Status;
use coracle_client::Body;
use http::Request;

use crate::config::Config;
use crate::http::{Ctx, Reply, body};
use crate::{reviews, subresources};
use resources::Resource;

/// What the registry keeps between requests.
pub(crate) struct State {
    pub(crate) services: subresources::allocate::Allocator,
    /// Held while a quota is checked and its object is written.
    pub(crate) quota: tokio::sync::Mutex<()>,
}

impl State {
    pub(crate) fn new(config: &Config) -> Self {
        Self { services: subresources::allocate::Allocator::new(config), quota: tokio::sync::Mutex::default() }
    }
}

/// Where a request goes: the row and the names of the path.
pub(crate) struct Target {
    pub resource: Arc<Resource>,
    pub namespace: String,
    pub name: String,
}

/// Finds the row of the path and checks that the path fits its scope.
fn target(ctx: &Ctx) -> Result<Target, Status> {
    let info = &ctx.info;
    let resources = ctx.server.resources();
    let resource = resources.find(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_path)?;
    let mut namespace = info.namespace.clone();
    if info.resource == "namespaces" && info.group.is_empty() {
        namespace.clear();
    }
    if !resource.namespaced && !namespace.is_empty() {
        return Err(Status::no_such_path());
    }
    let in_path = path_has_name(ctx);
    if resource.namespaced && namespace.is_empty() && (in_path || info.verb == "create") {
        return Err(Status::no_such_path());
    }
    let name = if in_path { info.name.clone() } else { String::new() };
    Ok(Target { resource, namespace, name })
}

/// A name may also come from a field selector, for authorization only.
fn path_has_name(ctx: &Ctx) -> bool {
    !matches!(ctx.info.verb.as_str(), "list" | "watch" | "deletecollection" | "create")
        || !ctx.info.subresource.is_empty()
}

/// Answers requests about resources.
pub(crate) async fn handle(ctx: &Arc<Ctx>, request: Request<Body>) -> Result<Reply, Status> {
    let target = target(ctx)?;
    let info = &ctx.info;
    if !info.subresource.is_empty() {
        return subresources::handle(ctx, &target, request).await;
    }
    let verb = info.verb.as_str();
    if let Some(warning) = target.resource.custom.as_ref().and_then(|custom| custom.deprecated.as_ref()) {
        ctx.warn(warning.as_str());
    }
    if let Some(custom) = &target.resource.custom
        && custom.definition.terminating
        && verb == "create"
    {
        let mut status = Status::method_not_allowed(&target.resource.gvr(), verb);
        status.message = format!("{verb} not allowed while custom resource definition is terminating");
        return Err(status);
    }
    // What has a name is not created by a POST to it, and a collection is not changed as a whole.
    let misplaced = match verb {
        "create" => !info.name.is_empty(),
        "update" | "patch" => info.name.is_empty(),
        _ => false,
    };
    if misplaced || !target.resource.has_verb(verb) {
        return Err(Status::method_not_allowed(&target.resource.gvr(), verb));
    }
    if target.resource.group == computed::GROUP && !target.resource.stored {
        return computed::handle(ctx, &target).await;
    }
    if !target.resource.stored {
        return reviews::handle(ctx, &target, request).await;
    }
    match verb {
        "get" => read::get(ctx, &target).await,
        "list" => list::list(ctx, &target).await,
        "watch" => watch::watch(ctx, &target).await,
        "create" => create::create(ctx, &target, body::read_whole(request.into_body()).await?).await,
        "update" => update::update(ctx, &target, "", body::read_whole(request.into_body()).await?).await,
        "patch" => patch::patch(ctx, &target, "", body::read_whole(request.into_body()).await?).await,
        "delete" => delete::delete(ctx, &target, body::read_whole(request.into_body()).await?).await,
        "deletecollection" => delete::collection(ctx, &target, body::read_whole(request.into_body()).await?).await,
        _ => Err(Status::method_not_allowed(&target.resource.gvr(), verb)),
    }
}
