//! Definitions on their way out: their objects are deleted, finalizers and all, then the definitions go. Names that became
//! free are given to those that wait for them.
//! Source: `k8s.io/apiextensions-apiserver/pkg/controller/finalizer`, `status/naming_controller.go`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use tokio_util::sync::CancellationToken;

use super::crd::{CLEAN_UP, has_condition, set_condition};
use crate::bootstrap::{options, target_of};
use crate::http::Ctx;
use crate::registry::fields::Facts;
use crate::registry::options::DeleteOptions;
use crate::registry::resources::{CRDS, collection};
use crate::registry::{Target, delete, update};
use crate::server::Server;

/// A clean-up that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Definitions that are being cleaned up after.
type Busy = Arc<Mutex<HashSet<String>>>;

/// Looks after definitions until the server stops.
pub(crate) async fn run(server: Weak<Server>, stopping: CancellationToken) {
    let Some(mut changes) = server.upgrade().map(|server| server.store.changes(CRDS)) else { return };
    let busy = Busy::default();
    loop {
        let Some(server) = server.upgrade() else { return };
        look(&server, &busy, &stopping).await;
        drop(server);
        let alive = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            () = stopping.cancelled() => false,
        };
        if !alive {
            return;
        }
    }
}

async fn look(server: &Arc<Server>, busy: &Busy, stopping: &CancellationToken) {
    let Some(row) = server.resources().any_version("apiextensions.k8s.io", "customresourcedefinitions") else { return };
    let mut waiting = Vec::new();
    for entry in server.store.local_range(CRDS, "") {
        let described = Facts::described(&row, &entry);
        let names = &described.names;
        if names.terminating {
            let new = busy.lock().unwrap_or_else(PoisonError::into_inner).insert(names.definition.clone());
            if new {
                tokio::spawn(clean_up(
                    Arc::downgrade(server),
                    names.definition.clone(),
                    Arc::clone(busy),
                    stopping.clone(),
                ));
            }
        } else if !names.accepted {
            waiting.push(names.definition.clone());
        }
    }
    let ctx = Ctx::internal(Arc::clone(server));
    for name in waiting {
        // Writing it again is enough: names are claimed with every write.
        let target = Target { resource: Arc::clone(&row), namespace: String::new(), name };
        let mut change = |current: &Value| Ok(current.clone());
        if let Err(error) = update::apply(&ctx, &target, "status", &options("coracle"), &mut change).await {
            tracing::debug!(%error, name = target.name, "give names to a custom resource definition");
        }
    }
}

async fn clean_up(server: Weak<Server>, name: String, busy: Busy, stopping: CancellationToken) {
    loop {
        let Some(strong) = server.upgrade() else { return };
        let done = tokio::select! {
            done = clean_up_one(&strong, &name) => done,
            () = stopping.cancelled() => return,
        };
        drop(strong);
        match done {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, name, "clean up after a custom resource definition"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stopping.cancelled() => return,
        }
    }
    busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
}

fn load(server: &Server, name: &str) -> Option<Value> {
    let entry = server.store.local_get(&coracle_store::Key::new(CRDS, name))?;
    serde_json::from_slice(&entry.value).ok()
}

async fn clean_up_one(server: &Arc<Server>, name: &str) -> Result<(), Status> {
    let Some(definition) = load(server, name) else { return Ok(()) };
    let ctx = Ctx::internal(Arc::clone(server));
    let target = target_of(server, &definition)?;
    tell(&ctx, &target, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress").await?;
    if has_condition(&definition, "Established") {
        delete_objects(&ctx, &definition).await?;
        tell(&ctx, &target, "False", "InstanceDeletionCompleted", "removed all instances").await?;
    } else {
        tell(&ctx, &target, "False", "NeverEstablished", "resource was never established").await?;
    }
    let mut change = |current: &Value| {
        let mut next = current.clone();
        if let Some(list) = next["metadata"]["finalizers"].as_array_mut() {
            list.retain(|own| own != CLEAN_UP);
        }
        Ok(next)
    };
    gone_is_good(update::apply(&ctx, &target, "", &options("coracle"), &mut change).await.map(|_| ()))
}

fn gone_is_good(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.code == 404 => Ok(()),
        other => other,
    }
}

async fn tell(
    ctx: &Ctx,
    target: &Target,
    status: &'static str,
    reason: &'static str,
    message: &str,
) -> Result<(), Status> {
    let mut change = |current: &Value| {
        let mut next = current.clone();
        set_condition(&mut next, "Terminating", (status, reason, message.to_owned()));
        Ok(next)
    };
    gone_is_good(update::apply(ctx, target, "status", &options("coracle"), &mut change).await.map(|_| ()))
}

/// Deletes all objects of a definition and waits until they are gone.
async fn delete_objects(ctx: &Ctx, definition: &Value) -> Result<(), Status> {
    let store = &ctx.server.store;
    let (group, plural) =
        (definition.str_at(&["spec", "group"]), definition.str_at(&["status", "acceptedNames", "plural"]));
    let objects = collection(group, plural);
    let mut changes = store.changes(&objects);
    loop {
        changes.borrow_and_update();
        let entries = store.local_range(&objects, "");
        if entries.is_empty() {
            return Ok(());
        }
        let row = ctx.server.resources().any_version(group, plural);
        for entry in &entries {
            match &row {
                Some(row) => {
                    let (namespace, name) = entry.name().split_once('/').unwrap_or(("", entry.name()));
                    let target =
                        Target { resource: Arc::clone(row), namespace: namespace.to_owned(), name: name.to_owned() };
                    let deleted = delete::delete_object(ctx, &target, &DeleteOptions::default()).await;
                    gone_is_good(deleted.map(|_| ()))?;
                }
                // No version is served, so nobody could wait for the end of its objects.
                None => remove(ctx, &objects, entry.name()).await?,
            }
        }
        if store.local_count(&objects) > 0 && changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn remove(ctx: &Ctx, objects: &str, name: &str) -> Result<(), Status> {
    let write = coracle_store::Write::Delete { key: coracle_store::Key::new(objects, name) };
    let transaction = coracle_store::Transaction { writes: vec![write], ..Default::default() };
    let committed = ctx.server.store.commit(transaction).await;
    committed.map(|_| ()).map_err(|error| crate::registry::storage::failed(&error))
}
