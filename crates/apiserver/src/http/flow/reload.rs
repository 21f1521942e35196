//! Keeps up with the objects: reads them again when they change, and notes in each FlowSchema whether its level exists.

use std::sync::{Arc, Weak};

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_plan_flow::{Config, condition};

use crate::bootstrap;
use crate::http::{Ctx, authz};
use crate::registry::update;
use crate::server::Server;
use crate::time;

const SCHEMAS: &str = "flowcontrol.apiserver.k8s.io/flowschemas";
const LEVELS: &str = "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations";
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

/// Runs until the server stops or is gone.
pub(crate) async fn keep_up(server: Weak<Server>) {
    let Some(strong) = server.upgrade() else { return };
    let (mut schemas, mut levels) = (strong.store.changes(SCHEMAS), strong.store.changes(LEVELS));
    let stopping = strong.stopping().clone();
    drop(strong);
    loop {
        schemas.borrow_and_update();
        levels.borrow_and_update();
        let Some(server) = server.upgrade() else { return };
        refresh(&server).await;
        drop(server);
        let changed = tokio::select! {
            changed = schemas.changed() => changed,
            changed = levels.changed() => changed,
            () = stopping.cancelled() => return,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Reads all objects and takes them into account.
pub(crate) async fn refresh(server: &Arc<Server>) {
    let schemas = authz::objects(&*server.store, SCHEMAS);
    let levels = authz::objects(&*server.store, LEVELS);
    server.gate.configure(Config::read(&schemas, &levels));
    let now = time::now_text();
    let notes = schemas.iter().map(async |schema| {
        let level = schema.str_at(&["spec", "priorityLevelConfiguration", "name"]);
        let exists = levels.iter().any(|own| own.name() == level);
        if let Some(wanted) = condition(schema, exists, &now)
            && let Err(status) = note(server, schema, &wanted).await
        {
            tracing::warn!(schema = schema.name(), why = %status.message, "note whether the priority level exists");
        }
    });
    // All at once: the store commits them together.
    futures::future::join_all(notes).await;
}

async fn note(server: &Arc<Server>, schema: &Value, wanted: &Value) -> Result<(), Status> {
    let ctx = Ctx::internal(Arc::clone(server));
    let target = bootstrap::target_of(server, schema)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        let others = next.at(&["status", "conditions"]).and_then(Value::as_array).into_iter().flatten();
        let others = others.filter(|own| own.str_at(&["type"]) != "Dangling").cloned();
        let all: Vec<Value> = others.chain([wanted.clone()]).collect();
        next["status"]["conditions"] = all.into();
        Ok(next)
    };
    match update::apply(&ctx, &target, "status", &bootstrap::options(MANAGER), &mut change).await {
        Err(status) if status.is("NotFound") => Ok(()),
        other => other.map(drop),
    }
}
