//! Built-in admission, in upstream's order. Each plugin is a file; all see an [`Attempt`].
//! Source: `pkg/kubeapiserver/options/plugins.go`.

mod certificates;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod owner_references;
mod pods;
mod priority;
mod rbac;
mod service_account;
mod storage;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_store::Key;

use crate::http::Ctx;
use crate::registry::admit::{Attempt, Operation};
use crate::registry::resources::item_name;

/// Objects that the server itself writes skip the plugins that exist to stop clients.
fn is_internal(attempt: &Attempt<'_>) -> bool {
    attempt.ctx.user.username == "system:apiserver"
}

pub(crate) async fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    namespace_lifecycle::check(attempt)?;
    limit_ranger::mutate(attempt, object)?;
    service_account::mutate(attempt, object)?;
    pods::mutate(attempt, object)?;
    priority::mutate(attempt, object)?;
    storage::mutate(attempt, object)?;
    certificates::mutate(attempt, object)?;
    Ok(())
}

pub(crate) async fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    namespace_lifecycle::protect(attempt)?;
    if is_internal(attempt) {
        return Ok(());
    }
    node_restriction::validate(attempt, object)?;
    limit_ranger::validate(attempt, object)?;
    service_account::validate(attempt, object)?;
    priority::validate(attempt, object)?;
    rbac::validate(attempt, object)?;
    owner_references::validate(attempt, object)?;
    certificates::validate(attempt, object)?;
    Ok(())
}

/// An object of the store, in its stored form.
fn find(ctx: &Ctx, collection: &str, namespace: &str, name: &str) -> Option<Value> {
    let entry = ctx.server.store.local_get(&Key::new(collection, item_name(namespace, name)))?;
    serde_json::from_slice(&entry.value).ok()
}

fn all(ctx: &Ctx, collection: &str, namespace: &str) -> Vec<Value> {
    let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let entries = ctx.server.store.local_range(collection, &prefix);
    entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect()
}

fn is_new_pod(attempt: &Attempt<'_>) -> bool {
    attempt.operation == Operation::Create && attempt.is("", "pods")
}

fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object.annotations().and_then(|all| all.get(key)).and_then(Value::as_str).unwrap_or_default()
}
