//! APIServices that the server makes: of its own groups when it starts, of custom resources as they come and go.
//! Source: `kube-aggregator/pkg/controllers/autoregister`, `pkg/controlplane/controller/crdregistration`, `status/local`.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::services::MANAGED;
use super::{API_SERVICES, ApiService, GROUP, availability, priorities};
use crate::bootstrap::{ensure, options, target_of};
use crate::http::Ctx;
use crate::registry::options::DeleteOptions;
use crate::registry::resources::CRDS;
use crate::registry::{delete, update};
use crate::server::Server;

fn api_service(group: &str, version: &str, (of_group, of_version): (i64, i64), managed: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version},
    })
}

/// Makes the APIServices of the built-in groups, and puts right those that are managed.
pub(crate) async fn at_start(ctx: &Ctx) -> Result<(), Status> {
    let resources = ctx.server.resources();
    let built_in = resources.all().iter().filter(|row| row.custom.is_none());
    let versions: BTreeSet<(&str, &str)> = built_in.map(|row| (row.group.as_str(), row.version.as_str())).collect();
    let wanted = versions
        .into_iter()
        .filter_map(|(group, version)| Some(api_service(group, version, priorities::of(group, version)?, "onstart")));
    let each = wanted.map(|wanted| follow(ctx, wanted));
    futures::future::try_join_all(each).await?;
    settle(&ctx.server).await
}

/// Makes an APIService, or gives a managed one its spec back.
async fn follow(ctx: &Ctx, wanted: Value) -> Result<(), Status> {
    ensure(ctx, wanted.clone()).await?;
    let target = target_of(&ctx.server, &wanted)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        if current.labels().is_some_and(|labels| labels.contains_key(MANAGED)) {
            next["spec"] = wanted["spec"].clone();
        }
        Ok(next)
    };
    update::apply(ctx, &target, "", &options("coracle"), &mut change).await.map(|_| ())
}

/// The groups and versions that custom resource definitions serve.
fn of_definitions(server: &Server) -> BTreeSet<(String, String)> {
    let resources = server.resources();
    let rows = resources.all().iter().filter(|row| row.custom.is_some());
    let mut wanted: BTreeSet<(String, String)> = rows.map(|row| (row.group.clone(), row.version.clone())).collect();
    wanted.retain(|(group, version)| priorities::of(group, version).is_none() && group != GROUP);
    wanted
}

/// Brings the APIServices of custom resources and the conditions of local ones to what they should be.
async fn settle(server: &Arc<Server>) -> Result<(), Status> {
    let ctx = Ctx::internal(Arc::clone(server));
    let wanted = of_definitions(server);
    let present = server.aggregation.services(&*server.store);
    let of = |own: &ApiService| (own.group.clone(), own.version.clone());
    let known: BTreeSet<(String, String)> = present.all().iter().map(|own| of(own)).collect();
    for (group, version) in wanted.difference(&known) {
        ensure(&ctx, api_service(group, version, priorities::CUSTOM, "true")).await?;
    }
    for own in present.all().iter().filter(|own| own.of_custom && !wanted.contains(&of(own))) {
        let only = DeleteOptions { uid: Some(own.uid.clone()), ..DeleteOptions::default() };
        let named = api_service(&own.group, &own.version, priorities::CUSTOM, "true");
        let target = target_of(server, &named)?;
        match delete::delete_object(&ctx, &target, &only).await {
            Err(status) if matches!(status.code, 404 | 409) => {}
            other => drop(other?),
        }
    }
    let services = server.aggregation.services(&*server.store);
    for own in services.all().iter().filter(|own| own.destination.is_none() && !own.available) {
        availability::set(&ctx, &own.name, &availability::local()).await?;
    }
    Ok(())
}

/// Settles whenever definitions or APIServices change.
pub(super) async fn run(server: Weak<Server>, stopping: CancellationToken) {
    let Some(mut changes) = server.upgrade().map(|server| [CRDS, API_SERVICES].map(|own| server.store.changes(own)))
    else {
        return;
    };
    loop {
        let Some(server) = server.upgrade() else { return };
        if let Err(error) = settle(&server).await {
            tracing::warn!(%error, "register the groups of custom resources");
        }
        drop(server);
        let [definitions, services] = &mut changes;
        let alive = tokio::select! {
            changed = definitions.changed() => changed.is_ok(),
            changed = services.changed() => changed.is_ok(),
            () = stopping.cancelled() => false,
        };
        if !alive {
            return;
        }
    }
}
