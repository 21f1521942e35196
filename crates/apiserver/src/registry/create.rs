//! POST of a collection. Source: `k8s.io/apiserver/pkg/registry/rest/create.go`, `generic/registry/store.go`.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Status, Value};
use coracle_store::Condition;
use http::StatusCode;

use super::admit::{Attempt, Operation};
use super::options::WriteOptions;
use super::resources::item_name_of;
use super::storage::Committed;
use super::{Target, admit, forms, objects, storage};
use crate::admission::quota;
use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply};
use crate::subresources::{allocate, crd};
use crate::time;

/// Names that are tried for `generateName`. Source: `maxNameGenerationCreateAttempts`.
const GENERATED_NAMES_MAX: usize = 8;
/// Quotas that changed meanwhile are read again this often.
const QUOTA_ATTEMPTS_MAX: usize = 16;
const GENERATE_NAME_BYTES_MAX: usize = 58;
const GENERATED_SUFFIX_BYTES: usize = 5;

pub(crate) async fn create(ctx: &Ctx, target: &Target, body: Bytes) -> Result<Reply, Status> {
    let options = WriteOptions::read(ctx)?;
    let resource = &target.resource;
    let custom = resource.compiled();
    let object = objects::decode(ctx, content_type(&ctx.headers), &body, &resource.gvk(), custom, options.validation)?;
    let bytes = create_object(ctx, target, object, &options).await?;
    forms::one(ctx, &target.resource, StatusCode::CREATED, bytes)
}

/// Creates a decoded object, and gives it back as it was stored.
pub(crate) async fn create_object(
    ctx: &Ctx,
    target: &Target,
    object: Value,
    options: &WriteOptions,
) -> Result<Bytes, Status> {
    create_tracked(ctx, target, object, options, true).await
}

/// As [`create_object`], for an object whose managed fields are already what they should be.
pub(crate) async fn create_applied(
    ctx: &Ctx,
    target: &Target,
    object: Value,
    options: &WriteOptions,
) -> Result<Bytes, Status> {
    create_tracked(ctx, target, object, options, false).await
}

async fn create_tracked(
    ctx: &Ctx,
    target: &Target,
    mut object: Value,
    options: &WriteOptions,
    track: bool,
) -> Result<Bytes, Status> {
    check_namespace(target, &mut object)?;
    if !object.resource_version().is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let generate = object.name().is_empty() && !object.meta_str("generateName").is_empty();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut attempt = object.clone();
        if generate {
            attempt.set_meta("name", generated_name(object.meta_str("generateName")));
        }
        match create_once(ctx, target, attempt, options, track).await {
            Err(status) if generate && tries < GENERATED_NAMES_MAX && status.is("AlreadyExists") => {}
            other => return other,
        }
    }
}

fn generated_name(base: &str) -> String {
    let mut end = base.len().min(GENERATE_NAME_BYTES_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], time::random_suffix(GENERATED_SUFFIX_BYTES))
}

/// The namespace of body and path must agree.
pub(crate) fn check_namespace(target: &Target, object: &mut Value) -> Result<(), Status> {
    if object.meta_mut().is_none() {
        return Err(Status::bad_request("metadata of the object is no object"));
    }
    let sent = object.namespace();
    if !target.resource.namespaced {
        // Source: rest.EnsureObjectNamespaceMatchesRequestNamespace.
        object.remove_meta("namespace");
        return Ok(());
    }
    if sent.is_empty() {
        object.set_meta("namespace", target.namespace.as_str());
    } else if sent != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// What the server alone says about a new object.
fn stamp(object: &mut Value) {
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        object.remove_meta(field);
    }
    object.set_meta("uid", time::uid());
    object.set_meta("creationTimestamp", time::now_text());
}

async fn create_once(
    ctx: &Ctx,
    target: &Target,
    mut object: Value,
    options: &WriteOptions,
    track: bool,
) -> Result<Bytes, Status> {
    let resource = &target.resource;
    let name = object.name().to_owned();
    let attempt = Attempt {
        ctx,
        target,
        operation: Operation::Create,
        subresource: "",
        name: &name,
        old: None,
        dry_run: options.dry_run,
    };
    objects::default(resource, &mut object);
    if track {
        objects::track(resource, None, &mut object, "", options);
    }
    admit::mutate(&attempt, &mut object).await?;
    stamp(&mut object);
    objects::prepare_for_create(resource, &mut object);
    crd::prepare(ctx, resource, &mut object);
    let allocated = allocate::on_create(ctx, target, &mut object)?;
    let mut errors = objects::validate_create(resource, &object);
    if object.name().is_empty() && errors.is_empty() {
        let path = FieldPath::new("metadata").child("name");
        errors.push(FieldError::required(&path, "name or generateName is required"));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.gvk(), &name, &errors));
    }
    admit::validate(&attempt, &object).await?;
    for warning in objects::warnings(resource, &object, None) {
        ctx.warn(warning);
    }
    store(&attempt, object, allocated, options).await
}

/// Writes the finished object, and what it uses of quotas.
async fn store(
    attempt: &Attempt<'_>,
    object: Value,
    allocated: allocate::Allocated,
    options: &WriteOptions,
) -> Result<Bytes, Status> {
    let (server, resource) = (&attempt.ctx.server, &attempt.target.resource);
    let exists = || Status::already_exists(&resource.gvr(), attempt.name);
    let item = item_name_of(&object);
    objects::check_depth(&object)?;
    for _ in 0..QUOTA_ATTEMPTS_MAX {
        let charge = quota::charge(attempt, &object).await?;
        if options.dry_run {
            if storage::load(server, resource, &item).await?.is_some() {
                return Err(exists());
            }
            return Ok(storage::dry(object, None));
        }
        let mut writes = vec![storage::put_any(server, resource, &item, &object).await?];
        writes.extend(allocated.writes(server));
        writes.extend(charge.writes);
        match storage::commit(server, resource, &item, Condition::Absent, writes, charge.expect).await? {
            Committed::Done(Some(entry), _) => {
                allocated.keep();
                return storage::answer(server, resource, &entry).await;
            }
            Committed::Done(None, _) => return Err(Status::internal("the store kept no entry")),
            Committed::Refused(_) => return Err(exists()),
            Committed::Elsewhere => {}
        }
    }
    Err(Status::conflict(&resource.gvr(), attempt.name, "the quotas of the namespace change too fast"))
}
