//! DELETE of one object or of a collection: grace, finalizers, what becomes of dependents.
//! Source: `k8s.io/apiserver/pkg/registry/rest/delete.go`, `generic/registry/store.go`.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_store::{Condition, Entry, Write};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::json;

use super::admit::{Attempt, Operation};
use super::options::{DeleteOptions, Propagation};
use super::resources::{Resource, item_name};
use super::storage::Committed;
use super::{Target, admit, conversion, forms, list, objects, storage, update};
use crate::http::{Ctx, Reply, reply};
use crate::subresources::allocate;
use crate::time;

const ATTEMPTS_MAX: usize = 64;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds whose deletion answers with the object. Source: `ReturnDeletedObject` of upstream's stores.
const RETURNED: [(&str, &str); 18] = [
    ("", "namespaces"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "devicetaintrules"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

/// What a deletion left.
pub(crate) enum Deleted {
    /// Still there, marked.
    Marked(Bytes),
    /// Gone; the object as it was at last.
    Gone(Bytes),
}

pub(crate) async fn delete(ctx: &Ctx, target: &Target, body: Bytes) -> Result<Reply, Status> {
    let options = DeleteOptions::read(ctx, &body)?;
    match delete_object(ctx, target, &options).await? {
        Deleted::Marked(bytes) => forms::one(ctx, &target.resource, StatusCode::OK, bytes),
        Deleted::Gone(bytes) => {
            let resource = &target.resource;
            if RETURNED.iter().any(|(group, plural)| resource.is(group, plural)) {
                return forms::one(ctx, resource, StatusCode::OK, bytes);
            }
            let object = storage::parse(&bytes)?;
            let status = Status::deleted(&resource.gvr(), &target.name, object.uid());
            let mut value = serde_json::to_value(&status).map_err(Status::internal)?;
            if let Some(fields) = value.as_object_mut() {
                fields.shift_remove("code");
            }
            Ok(reply::json(&value))
        }
    }
}

pub(crate) async fn collection(ctx: &Ctx, target: &Target, body: Bytes) -> Result<Reply, Status> {
    let options = DeleteOptions::read(ctx, &body)?;
    let objects = list::selected(ctx, target).await?;
    let mut items = Vec::with_capacity(objects.len());
    for object in objects {
        let one = Target {
            resource: Arc::clone(&target.resource),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
        };
        match delete_object(ctx, &one, &options).await {
            Ok(Deleted::Marked(bytes) | Deleted::Gone(bytes)) => items.push(storage::parse(&bytes)?),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let revision = ctx.server.store.local_revision().to_string();
    Ok(reply::json(&json!({
        "kind": target.resource.list_kind, "apiVersion": target.resource.gvk().api_version(),
        "metadata": {"resourceVersion": revision}, "items": items,
    })))
}

/// Deletes one object, or marks it to be deleted.
pub(crate) async fn delete_object(ctx: &Ctx, target: &Target, options: &DeleteOptions) -> Result<Deleted, Status> {
    let resource = &target.resource;
    let item = item_name(&target.namespace, &target.name);
    let mut entry = storage::load(&ctx.server, resource, &item).await?;
    for _ in 0..ATTEMPTS_MAX {
        let Some(current) = entry else { return Err(Status::not_found(&resource.gvr(), &target.name)) };
        match delete_once(ctx, target, options, &current, &item).await? {
            Tried::Done(deleted) => return Ok(deleted),
            Tried::Again(next) => entry = next,
        }
    }
    Err(Status::stale(&resource.gvr(), &target.name))
}

enum Tried {
    Done(Deleted),
    Again(Option<Arc<Entry>>),
}

pub(crate) fn check_preconditions(target: &Target, options: &DeleteOptions, object: &Value) -> Result<(), Status> {
    let checks = [
        ("UID", &options.uid, object.uid()),
        ("ResourceVersion", &options.resource_version, object.resource_version()),
    ];
    for (what, wanted, found) in checks {
        if let Some(wanted) = wanted
            && wanted != found
        {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been deleted and then recreated"
            );
            return Err(Status::conflict(&target.resource.gvr(), &target.name, &why));
        }
    }
    Ok(())
}

async fn delete_once(
    ctx: &Ctx,
    target: &Target,
    options: &DeleteOptions,
    entry: &Arc<Entry>,
    item: &str,
) -> Result<Tried, Status> {
    let resource = &target.resource;
    let old = storage::object(resource, entry)?;
    check_preconditions(target, options, &old)?;
    let attempt = Attempt {
        ctx,
        target,
        operation: Operation::Delete,
        subresource: "",
        name: &target.name,
        old: Some(&old),
        dry_run: options.dry_run,
    };
    admit::validate(&attempt, &Value::Null).await?;
    let marked = mark(resource, &old, options);
    let condition = Condition::Modified(entry.modified);
    if let Some(mut object) = marked {
        if objects::same(&mut object, &old) {
            return Ok(Tried::Done(Deleted::Marked(storage::served_bytes(resource, entry)?)));
        }
        if options.dry_run {
            return Ok(Tried::Done(Deleted::Marked(storage::dry(object, Some(entry.modified)))));
        }
        let writes = vec![storage::put_any(&ctx.server, resource, item, &object).await?];
        return match storage::commit(&ctx.server, resource, item, condition, writes, Vec::new()).await? {
            Committed::Done(Some(entry), _) => {
                Ok(Tried::Done(Deleted::Marked(storage::answer(&ctx.server, resource, &entry).await?)))
            }
            Committed::Done(None, _) => Err(Status::internal("the store kept no entry")),
            Committed::Refused(next) => {
                conversion::warm(&ctx.server, resource, next.as_slice()).await?;
                Ok(Tried::Again(next))
            }
            Committed::Elsewhere => Err(Status::internal("a deletion expects nothing else")),
        };
    }
    if options.dry_run {
        return Ok(Tried::Done(Deleted::Gone(storage::served_bytes(resource, entry)?)));
    }
    let mut writes = vec![Write::Delete { key: storage::key(resource, item) }];
    writes.extend(allocate::on_delete(&ctx.server, resource, &old));
    match storage::commit(&ctx.server, resource, item, condition, writes, Vec::new()).await? {
        Committed::Done(_, revision) => {
            let bytes = storage::served_bytes_at(resource, entry, revision)?;
            Ok(Tried::Done(Deleted::Gone(bytes)))
        }
        Committed::Refused(next) => {
            conversion::warm(&ctx.server, resource, next.as_slice()).await?;
            Ok(Tried::Again(next))
        }
        Committed::Elsewhere => Err(Status::internal("a deletion expects nothing else")),
    }
}

/// The object with its deletion noted, or `None` when nothing keeps it.
fn mark(resource: &Resource, old: &Value, options: &DeleteOptions) -> Option<Value> {
    let finalizers = finalizers(resource, old, options.propagation);
    let grace = objects::grace_seconds(resource, old, options.grace_period_seconds);
    let number = |field: &str| old.meta().and_then(|meta| meta.get(field)).and_then(Value::as_i64);
    let namespace_kept = resource.is("", "namespaces")
        && old.at(&["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let deleting = !old.meta_str("deletionTimestamp").is_empty();
    let mut new = old.clone();
    set_finalizers(&mut new, &finalizers);
    if deleting {
        let left = number("deletionGracePeriodSeconds").unwrap_or(0);
        // A second deletion may only shorten the wait.
        let shorter = options.grace_period_seconds.is_some() && grace < left;
        let left = if shorter { grace } else { left };
        if left == 0 && finalizers.is_empty() && !namespace_kept {
            return None;
        }
        if shorter {
            set_deletion(&mut new, grace);
        }
        return Some(new);
    }
    if grace == 0 && finalizers.is_empty() && !namespace_kept {
        return None;
    }
    set_deletion(&mut new, grace);
    bump_generation(&mut new);
    if resource.is("", "namespaces") {
        new["status"]["phase"] = "Terminating".into();
    }
    if resource.is("", "pods") || !update::is_finished(resource, &new) { Some(new) } else { None }
}

fn set_deletion(object: &mut Value, grace: i64) {
    let at = time::now().checked_add(SignedDuration::from_secs(grace)).unwrap_or_else(|_| time::now());
    object.set_meta("deletionTimestamp", time::rfc3339(at));
    object.set_meta("deletionGracePeriodSeconds", grace);
}

fn bump_generation(object: &mut Value) {
    if let Some(generation) = object.meta().and_then(|meta| meta.get("generation")).and_then(Value::as_i64)
        && generation > 0
    {
        object.set_meta("generation", generation + 1);
    }
}

fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if finalizers.is_empty() {
        object.remove_meta("finalizers");
    } else {
        object.set_meta("finalizers", finalizers.to_vec());
    }
}

/// The finalizers that the object has once its dependents' fate is decided.
fn finalizers(resource: &Resource, object: &Value, asked: Option<Propagation>) -> Vec<String> {
    let list = object.meta().and_then(|meta| meta.get("finalizers")).and_then(Value::as_array);
    let mut finalizers: Vec<String> = list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let has = |name: &str| finalizers.iter().any(|own| own == name);
    let propagation = asked.or_else(|| {
        if has(ORPHAN) {
            Some(Propagation::Orphan)
        } else if has(FOREGROUND) {
            Some(Propagation::Foreground)
        } else {
            objects::orphans_dependents(resource).then_some(Propagation::Orphan)
        }
    });
    finalizers.retain(|own| own != ORPHAN && own != FOREGROUND);
    match propagation {
        Some(Propagation::Orphan) => finalizers.push(ORPHAN.to_owned()),
        Some(Propagation::Foreground) => finalizers.push(FOREGROUND.to_owned()),
        _ => {}
    }
    finalizers
}
