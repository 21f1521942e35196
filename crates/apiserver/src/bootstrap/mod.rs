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

use crate::aggregation;
use crate::config::{FRONT_PROXY_NAME, StartError};
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
    extension_authentication(&ctx).await.map_err(failed)?;
    aggregation::at_start(&ctx).await.map_err(failed)?;
    service::ensure_range_ready(&ctx).await.map_err(failed)?;
    service::ensure(&ctx).await.map_err(failed)?;
    Ok(())
}

fn fixed(server: &Server) -> Vec<Value> {
    let class = |name: &str, value: i64, what: &str| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "description": format!("Used for system critical pods that must {what}.")})
    };
    vec![
        class(
            "system-cluster-critical",
            2_000_000_000,
            "run in the cluster, but can be moved to another node if necessary",
        ),
        class("system-node-critical", 2_000_001_000, "not be moved from their current node"),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [server.config.service_cidr.trunc().to_string()]}}),
    ]
}

/// What aggregated servers read to know whom to believe. Source: `clusterauthenticationtrust`.
async fn extension_authentication(ctx: &Ctx) -> Result<(), Status> {
    let config = &ctx.server.config;
    let mut data = json!({"client-ca-file": config.client_ca_pem});
    if let Some(proxy) = &config.front_proxy {
        data["requestheader-client-ca-file"] = proxy.ca_pem.as_str().into();
        data["requestheader-allowed-names"] = json!([FRONT_PROXY_NAME]).to_string().into();
        for (field, header) in [
            ("requestheader-username-headers", "X-Remote-User"),
            ("requestheader-uid-headers", "X-Remote-Uid"),
            ("requestheader-group-headers", "X-Remote-Group"),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ] {
            data[field] = json!([header]).to_string().into();
        }
    }
    let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}});
    ensure(ctx, wanted.clone()).await?;
    // Authorities may have been made anew since the last start.
    let target = target_of(&ctx.server, &wanted)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        next["data"] = wanted["data"].clone();
        Ok(next)
    };
    update::apply(ctx, &target, "", &options("coracle"), &mut change).await.map(|_| ())
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
