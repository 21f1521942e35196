//! PUT, and the way that every change of an existing object takes.
//! Source: `k8s.io/apiserver/pkg/registry/rest/update.go`, `generic/registry/store.go`.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Status, Value};
use coracle_store::{Condition, Entry, Write};
use http::StatusCode;

use super::admit::{Attempt, Operation};
use super::options::WriteOptions;
use super::resources::item_name;
use super::storage::Committed;
use super::{Target, admit, conversion, create, forms, objects, storage};
use crate::admission::quota;
use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply};
use crate::subresources::{allocate, crd};

/// Changes that lost the race are tried again this often.
const ATTEMPTS_MAX: usize = 64;

/// A change of one object, made anew for each version that it is tried on.
pub(crate) trait Change: Send {
    /// The object as it should become. A resource version in it must match.
    fn make(&mut self, current: &Value) -> Result<Value, Status>;

    /// Managed fields are already what they should be (server-side apply).
    fn tracks_fields(&self) -> bool {
        false
    }
}

impl<F: FnMut(&Value) -> Result<Value, Status> + Send> Change for F {
    fn make(&mut self, current: &Value) -> Result<Value, Status> {
        self(current)
    }
}

pub(crate) async fn update(ctx: &Ctx, target: &Target, subresource: &str, body: Bytes) -> Result<Reply, Status> {
    let options = WriteOptions::read(ctx)?;
    let resource = &target.resource;
    let custom = resource.compiled();
    let mut object =
        objects::decode(ctx, content_type(&ctx.headers), &body, &resource.gvk(), custom, options.validation)?;
    check_name(target, &mut object)?;
    create::check_namespace(target, &mut object)?;
    objects::default(resource, &mut object);
    let item = item_name(&target.namespace, &target.name);
    if subresource.is_empty()
        && objects::allows_create_on_update(resource)
        && storage::load(&ctx.server, resource, &item).await?.is_none()
    {
        object.remove_meta("resourceVersion");
        let bytes = create::create_object(ctx, target, object, &options).await?;
        return forms::one(ctx, resource, StatusCode::CREATED, bytes);
    }
    let unconditional = object.resource_version().is_empty() || object.resource_version() == "0";
    if unconditional && subresource.is_empty() && !objects::allows_unconditional_update(resource) {
        let path = FieldPath::new("metadata").child("resourceVersion");
        let error = FieldError::invalid(&path, 0, "must be specified for an update");
        return Err(Status::invalid(&resource.gvk(), &target.name, &[error]));
    }
    if unconditional {
        object.remove_meta("resourceVersion");
    }
    let mut change = |_: &Value| Ok(object.clone());
    let bytes = apply(ctx, target, subresource, &options, &mut change).await?;
    forms::one(ctx, resource, StatusCode::OK, bytes)
}

pub(crate) fn check_name(target: &Target, object: &mut Value) -> Result<(), Status> {
    let name = object.name().to_owned();
    if name.is_empty() {
        object.set_meta("name", target.name.as_str());
    } else if name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

/// Makes a change, again and again while others are faster, and gives back the object as it then is.
pub(crate) async fn apply(
    ctx: &Ctx,
    target: &Target,
    subresource: &str,
    options: &WriteOptions,
    change: &mut dyn Change,
) -> Result<Bytes, Status> {
    let resource = &target.resource;
    let item = item_name(&target.namespace, &target.name);
    let mut entry = storage::load(&ctx.server, resource, &item).await?;
    for _ in 0..ATTEMPTS_MAX {
        let Some(current) = entry else { return Err(Status::not_found(&resource.gvr(), &target.name)) };
        match apply_once(ctx, target, subresource, options, change, &current, &item).await? {
            Tried::Done(bytes) => return Ok(bytes),
            Tried::Again(next) => entry = next,
        }
    }
    Err(Status::stale(&resource.gvr(), &target.name))
}

enum Tried {
    Done(Bytes),
    Again(Option<std::sync::Arc<Entry>>),
}

async fn apply_once(
    ctx: &Ctx,
    target: &Target,
    subresource: &str,
    options: &WriteOptions,
    change: &mut dyn Change,
    entry: &Entry,
    item: &str,
) -> Result<Tried, Status> {
    let resource = &target.resource;
    let old = storage::object(resource, entry)?;
    let mut new = change.make(&old)?;
    check_preconditions(target, &new, &old)?;
    carry_over(&mut new, &old);
    objects::default(resource, &mut new);
    objects::prepare_for_update(resource, subresource, &mut new, &old);
    if !change.tracks_fields() {
        objects::track(resource, Some(&old), &mut new, subresource, options);
    }
    let attempt = Attempt {
        ctx,
        target,
        operation: Operation::Update,
        subresource,
        name: &target.name,
        old: Some(&old),
        dry_run: options.dry_run,
    };
    admit::mutate(&attempt, &mut new).await?;
    objects::default(resource, &mut new);
    crd::prepare(ctx, resource, &mut new);
    let allocated = allocate::on_update(ctx, target, subresource, &mut new, &old)?;
    let errors = objects::validate_update(resource, subresource, &new, &old);
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.gvk(), &target.name, &errors));
    }
    admit::validate(&attempt, &new).await?;
    for warning in objects::warnings(resource, &new, Some(&old)) {
        ctx.warn(warning);
    }
    // What is encrypted with an old key or not at all, or stored in another version, is written again.
    let as_it_should_be =
        !ctx.server.store.is_stale(&resource.collection, entry) && conversion::is_stored_well(resource, entry);
    if objects::same(&mut new, &old) && as_it_should_be {
        return Ok(Tried::Done(storage::served_bytes(resource, entry)?));
    }
    if options.dry_run {
        return Ok(Tried::Done(storage::dry(new, Some(entry.modified))));
    }
    objects::check_depth(&new)?;
    let charge = quota::charge(&attempt, &new).await?;
    let gone = is_finished(resource, &new);
    let mut writes = if gone {
        vec![Write::Delete { key: storage::key(resource, item) }]
    } else {
        vec![storage::put_any(&ctx.server, resource, item, &new).await?]
    };
    writes.extend(allocated.writes(&ctx.server));
    writes.extend(charge.writes);
    if gone {
        writes.extend(allocate::on_delete(&ctx.server, resource, &new));
    }
    let condition = Condition::Modified(entry.modified);
    // A change that names its version finds another one there next time, and fails by that.
    match storage::commit(&ctx.server, resource, item, condition, writes, charge.expect).await? {
        Committed::Done(Some(entry), _) => {
            allocated.keep();
            Ok(Tried::Done(storage::answer(&ctx.server, resource, &entry).await?))
        }
        Committed::Done(None, revision) => Ok(Tried::Done(storage::dry(new, Some(revision)))),
        Committed::Refused(next) => {
            conversion::warm(&ctx.server, resource, next.as_slice()).await?;
            Ok(Tried::Again(next))
        }
        Committed::Elsewhere => Ok(Tried::Again(storage::load(&ctx.server, resource, item).await?)),
    }
}

fn check_preconditions(target: &Target, new: &Value, old: &Value) -> Result<(), Status> {
    let gvr = target.resource.gvr();
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: {}", new.uid(), old.uid());
        return Err(Status::conflict(&gvr, &target.name, &why));
    }
    let sent = new.resource_version();
    if !sent.is_empty() && sent != "0" && sent != old.resource_version() {
        return Err(Status::stale(&gvr, &target.name));
    }
    Ok(())
}

/// Metadata that no client changes. Source: `rest.BeforeUpdate`, `ValidateObjectMetaUpdate`.
fn carry_over(new: &mut Value, old: &Value) {
    const FIXED: [&str; 8] = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    for field in FIXED {
        match old.meta().and_then(|meta| meta.get(field)) {
            Some(value) => new.set_meta(field, value.clone()),
            None => new.remove_meta(field),
        }
    }
    new.remove_meta("selfLink");
    if new.meta_str("generateName").is_empty() && !old.meta_str("generateName").is_empty() {
        new.set_meta("generateName", old.meta_str("generateName"));
    }
}

/// A deletion waits for nothing any more. Source: `deletionFinalizersForGarbageCollection`, `ShouldDeleteDuringUpdate`.
pub(crate) fn is_finished(resource: &super::resources::Resource, object: &Value) -> bool {
    let meta = object.meta();
    let deleting = !object.meta_str("deletionTimestamp").is_empty();
    let grace = meta.and_then(|meta| meta.get("deletionGracePeriodSeconds")).and_then(Value::as_i64).unwrap_or(0);
    let empty = |list: Option<&Value>| list.and_then(Value::as_array).is_none_or(Vec::is_empty);
    let finalized = empty(meta.and_then(|meta| meta.get("finalizers")));
    let namespace_done = !resource.is("", "namespaces") || empty(object.at(&["spec", "finalizers"]));
    deleting && grace == 0 && finalized && namespace_done
}
