//! Admission: the decisions of `api-access` over what the store holds, the plugins that need more than values,
//! policies, webhooks, and quota.
//! Source: `pkg/kubeapiserver/options/plugins.go`.

mod certificates;
mod policies;
pub(crate) mod policy_status;
pub(crate) mod quota;
mod rbac;
mod webhooks;

pub(crate) use policies::Policies;
use std::sync::Arc;
pub(crate) use webhooks::Webhooks;

use coracle_api_access::Attributes;
use coracle_api_access::admission::{self as decide, Lookup, Request};
use coracle_api_meta::{Gvr, Status, Value};
use coracle_store::Entry;
use serde_json::json;

use crate::http::Ctx;
use crate::registry::admit::{Attempt, Operation};
use crate::registry::fields::Facts;
use crate::registry::resources::{Resource, item_name};
use crate::registry::storage;
use crate::time;

/// Objects that the server itself writes skip the plugins that exist to stop clients.
fn is_internal(attempt: &Attempt<'_>) -> bool {
    attempt.ctx.user.username == "system:apiserver"
}

/// What plugins see of the cluster.
struct View<'a>(&'a Ctx);

/// Kinds of which there are few objects, and which many writes look at: they are kept decoded.
const KEPT: [&str; 6] =
    ["namespaces", "serviceaccounts", "limitranges", "priorityclasses", "runtimeclasses", "storageclasses"];

fn decoded(row: &Resource, entry: &Entry) -> Option<Arc<Value>> {
    if row.custom.is_none() && row.is_storage_form() && KEPT.contains(&row.plural.as_str()) {
        return Facts::of(row, entry).object(entry);
    }
    storage::object(row, entry).ok().map(Arc::new)
}

impl Lookup for View<'_> {
    fn find(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let row = self.0.server.resources().any_version(group, resource)?;
        let entry = self.0.server.store.local_get(&storage::key(&row, &item_name(namespace, name)))?;
        decoded(&row, &entry)
    }

    fn all(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let Some(row) = self.0.server.resources().any_version(group, resource) else { return Vec::new() };
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let entries = self.0.server.store.local_range(&row.collection, &prefix);
        entries.iter().filter_map(|entry| decoded(&row, entry)).collect()
    }

    fn allows(&self, attributes: &Attributes<'_>) -> bool {
        self.0.server.authorizer.allows(&*self.0.server.store, attributes).is_some()
    }

    fn suffix(&self) -> String {
        time::random_suffix(5)
    }
}

/// The options of the request, as hooks and policies see them.
fn options(attempt: &Attempt<'_>) -> Value {
    let kind = match attempt.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if attempt.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    let query = &attempt.ctx.query;
    let fields: &[&str] = if attempt.operation == Operation::Delete {
        &["propagationPolicy"]
    } else {
        &["fieldManager", "fieldValidation"]
    };
    for field in fields {
        let value = query.get(field);
        if !value.is_empty() {
            options[*field] = value.into();
        }
    }
    options
}

/// The write as the decisions see it.
fn with_request<T>(attempt: &Attempt<'_>, run: impl FnOnce(&Request<'_>) -> T) -> T {
    let gvr: Gvr = attempt.target.resource.gvr();
    run(&Request {
        user: &attempt.ctx.user,
        operation: attempt.operation,
        gvr: &gvr,
        kind: &attempt.target.resource.kind,
        subresource: attempt.subresource,
        namespace: &attempt.target.namespace,
        name: attempt.name,
        old: attempt.old,
    })
}

pub(crate) async fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    with_request(attempt, |request| decide::mutate(request, object, &View(attempt.ctx)))?;
    certificates::mutate(attempt, object)?;
    if is_internal(attempt) {
        return Ok(());
    }
    policies::mutate(attempt, object)?;
    webhooks::mutate(attempt, object).await
}

pub(crate) async fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    if is_internal(attempt) {
        return Ok(());
    }
    let notes = with_request(attempt, |request| decide::validate(request, object, &View(attempt.ctx)))?;
    notes.warnings.into_iter().for_each(|warning| attempt.ctx.warn(warning));
    notes.audit.iter().for_each(|(key, value)| attempt.ctx.annotate(key, value));
    rbac::validate(attempt, object)?;
    certificates::validate(attempt, object)?;
    if matches!(attempt.operation, Operation::Delete | Operation::Connect) {
        // Nothing is written: hooks that would change the object may still refuse.
        webhooks::mutate(attempt, &mut object.clone()).await?;
    }
    policies::validate(attempt, object)?;
    webhooks::validate(attempt, object).await
}
