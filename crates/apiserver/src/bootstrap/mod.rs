//! The objects that every cluster has. Made when the server starts, where they are missing; what an administrator changed stays,
//! except that missing rules come back. Source: `pkg/controlplane`, `rbac/bootstrappolicy`, KEP-1040 for flow control.

mod flow;
mod policy;
mod service;

pub(crate) use service::first_address;

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;

use crate::config::StartError;
use crate::http::Ctx;
use crate::registry::options::{FieldValidation, WriteOptions};
use crate::registry::resources::item_name_of;
use crate::registry::{Target, create, storage, update};
use crate::server::Server;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(crate) async fn run(server: &Arc<Server>) -> Result<(), StartError> {
    let ctx = Ctx::internal(Arc::clone(server));
    let failed = |status: Status| StartError::Bootstrap(status.message);
    for name in NAMESPACES {
        ensure(&ctx, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .await
            .map_err(failed)?;
    }
    // All at once: the store commits them together.
    let roles = policy::objects().into_iter().map(|object| policy::ensure(&ctx, object));
    futures::future::try_join_all(roles).await.map_err(failed)?;
    let others = fixed(server).into_iter().chain(flow::objects()).map(|object| ensure(&ctx, object));
    futures::future::try_join_all(others).await.map_err(failed)?;
    let services = api_services(server).into_iter().map(|service| ensure_available(&ctx, service));
    futures::future::try_join_all(services).await.map_err(failed)?;
    service::ensure_range_ready(&ctx).await.map_err(failed)?;
    service::ensure(&ctx).await.map_err(failed)?;
    Ok(())
}

fn fixed(server: &Server) -> Vec<Value> {
    let class = |name: &str, value: i64, what: &str| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "description": format!("Used for system critical pods that must {what}.")})
    };
    let mut objects = vec![
        class(
            "system-cluster-critical",
            2_000_000_000,
            "run in the cluster, but can be moved to another node if necessary",
        ),
        class("system-node-critical", 2_000_001_000, "not be moved from their current node"),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"client-ca-file": server.config.client_ca_pem},
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [server.config.service_cidr.trunc().to_string()]}}),
    ];
    objects.extend(api_services(server));
    objects
}

fn api_services(server: &Server) -> Vec<Value> {
    let resources = server.resources();
    let mut seen = std::collections::BTreeSet::new();
    let built_in = resources.all().iter().filter(|row| row.custom.is_none());
    let versions = built_in.filter(|row| seen.insert((row.group.as_str(), row.version.as_str())));
    versions.map(|row| api_service(&row.group, &row.version)).collect()
}

/// Says that a group of our own is there. Source: `kube-aggregator/pkg/controllers/status/local`.
async fn ensure_available(ctx: &Ctx, service: Value) -> Result<(), Status> {
    let target = target_of(&ctx.server, &service)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        let conditions = next.at(&["status", "conditions"]).and_then(Value::as_array);
        if conditions.is_none_or(Vec::is_empty) {
            next["status"] = service["status"].clone();
        }
        Ok(next)
    };
    update::apply(ctx, &target, "status", &options("coracle"), &mut change).await.map(|_| ())
}

fn api_service(group: &str, version: &str) -> Value {
    let group_priority = if group.is_empty() { 18000 } else { 17000 };
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": group_priority, "versionPriority": 15},
        "status": {"conditions": [{"type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available", "lastTransitionTime": crate::time::now_text()}]},
    })
}

pub(crate) fn options(manager: &str) -> WriteOptions {
    WriteOptions { dry_run: false, validation: FieldValidation::Ignore, field_manager: manager.to_owned(), force: true }
}

pub(crate) fn target_of(server: &Server, object: &Value) -> Result<Target, Status> {
    let gvk = object.gvk().ok_or_else(|| Status::internal("a built-in object has no kind"))?;
    let resource = server.resources().find_kind(&gvk).ok_or_else(Status::no_such_path)?;
    Ok(Target { resource, namespace: object.namespace().to_owned(), name: object.name().to_owned() })
}

/// Creates the object unless there is one of its name.
pub(crate) async fn ensure(ctx: &Ctx, object: Value) -> Result<(), Status> {
    let target = target_of(&ctx.server, &object)?;
    let item = item_name_of(&object);
    if ctx.server.store.local_get(&storage::key(&target.resource, &item)).is_some() {
        return Ok(());
    }
    match create::create_object(ctx, &target, object, &options("coracle")).await {
        Ok(_) => Ok(()),
        Err(status) if status.is("AlreadyExists") => Ok(()),
        Err(status) => Err(status),
    }
}
