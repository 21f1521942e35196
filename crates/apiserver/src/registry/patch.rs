//! PATCH: JSON patch, merge patch, strategic merge patch, server-side apply.
//! Source: `k8s.io/apiserver/pkg/endpoints/handlers/patch.go`.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use http::StatusCode;

use super::objects::{self, PatchKind};
use super::options::{FieldValidation, WriteOptions};
use super::resources::{Resource, item_name};
use super::update::{self, Change};
use super::{Target, create, forms, storage};
use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply};

const ACCEPTED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

fn kind_of(resource: &Resource, content_type: &str) -> Result<PatchKind, Status> {
    let kind = match content_type {
        "application/json-patch+json" => PatchKind::Json,
        "application/merge-patch+json" => PatchKind::Merge,
        "application/strategic-merge-patch+json" => PatchKind::Strategic,
        "application/apply-patch+yaml" | "application/apply-patch+json" => PatchKind::Apply,
        _ => return Err(Status::unsupported_media_type(&ACCEPTED)),
    };
    if kind == PatchKind::Strategic && resource.custom.is_some() {
        return Err(Status::unsupported_media_type(&ACCEPTED[..3]));
    }
    Ok(kind)
}

fn parse(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice::<Value>(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
}

/// A patch as a change.
struct Patching<'a> {
    ctx: &'a Ctx,
    resource: &'a Resource,
    kind: PatchKind,
    patch: Value,
    subresource: &'a str,
    options: &'a WriteOptions,
}

impl Change for Patching<'_> {
    fn make(&mut self, current: &Value) -> Result<Value, Status> {
        if self.kind == PatchKind::Apply {
            return objects::apply(self.resource, current, &self.patch, self.subresource, self.options);
        }
        let (mut patched, problems) =
            objects::apply_patch(self.resource, self.kind, &self.patch, current, self.options.validation)?;
        if self.options.validation == FieldValidation::Warn {
            problems.into_iter().for_each(|problem| self.ctx.warn(problem));
        }
        if patched.name() != current.name() {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                patched.name(),
                current.name()
            )));
        }
        objects::check_kind(&mut patched, &self.resource.gvk())?;
        Ok(patched)
    }

    fn tracks_fields(&self) -> bool {
        self.kind == PatchKind::Apply
    }
}

pub(crate) async fn patch(ctx: &Ctx, target: &Target, subresource: &str, body: Bytes) -> Result<Reply, Status> {
    let resource = &target.resource;
    let kind = kind_of(resource, content_type(&ctx.headers))?;
    let options = WriteOptions::read(ctx)?;
    ctx.trail.request_bytes(&body);
    if kind == PatchKind::Apply && ctx.query.get("fieldManager").is_empty() {
        return Err(patch_options("fieldManager: Required value: is required for apply patch"));
    }
    if kind != PatchKind::Apply && ctx.query.has("force") {
        return Err(patch_options("force: Forbidden: may not be specified for non-apply patch"));
    }
    let mut patch = match kind {
        PatchKind::Apply => objects::decode_applied(ctx, resource, &body, options.validation)?,
        _ => parse(&body)?,
    };
    if kind == PatchKind::Apply {
        update::check_name(target, &mut patch)?;
        create::check_namespace(target, &mut patch)?;
        let item = item_name(&target.namespace, &target.name);
        if subresource.is_empty() && storage::load(&ctx.server, resource, &item).await?.is_none() {
            match apply_new(ctx, target, &patch, &options).await {
                Err(status) if status.is("AlreadyExists") => {}
                other => return other,
            }
        }
    }
    let mut change = Patching { ctx, resource, kind, patch, subresource, options: &options };
    let bytes = update::apply(ctx, target, subresource, &options, &mut change).await?;
    forms::one(ctx, resource, StatusCode::OK, bytes)
}

fn patch_options(detail: &str) -> Status {
    let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: {detail}");
    Status::failure(422, coracle_api_meta::reason::INVALID, message)
}

/// Apply creates what is not there.
async fn apply_new(ctx: &Ctx, target: &Target, patch: &Value, options: &WriteOptions) -> Result<Reply, Status> {
    if !patch.uid().is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {}, and no existing object was found",
            patch.uid()
        );
        return Err(Status::conflict(&target.resource.gvr(), &target.name, &why));
    }
    if !patch.resource_version().is_empty() {
        return Err(Status::stale(&target.resource.gvr(), &target.name));
    }
    let object = objects::apply(&target.resource, &Value::Null, patch, "", options)?;
    let bytes = create::create_applied(ctx, target, object, options).await?;
    forms::one(ctx, &target.resource, StatusCode::CREATED, bytes)
}
