//! `scale`: the replicas of a workload as `autoscaling/v1 Scale`.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvk, LabelSelector, Status, Value};
use coracle_api_rules::scale;
use coracle_client::Body;
use http::{Request, StatusCode};
use serde_json::json;

use crate::http::negotiate::content_type;
use crate::http::{Ctx, Reply, body, reply};
use crate::registry::objects::{self, PatchKind};
use crate::registry::options::{FieldValidation, WriteOptions};
use crate::registry::resources::{Resource, item_name};
use crate::registry::{Target, storage, update};

fn scale_of(resource: &Resource, object: &Value) -> Value {
    let Some(paths) = resource.custom.as_ref().and_then(|custom| custom.scale.as_ref()) else {
        return scale::get(object);
    };
    let at = |field: &str| {
        let path = paths.str_at(&[field]).trim_start_matches('.');
        let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        if path.is_empty() { None } else { object.at(&path).cloned() }
    };
    let selector = match at("labelSelectorPath") {
        Some(Value::String(text)) => text,
        Some(value @ Value::Object(_)) => LabelSelector::from_value(&value).map(|s| s.to_string()).unwrap_or_default(),
        _ => String::new(),
    };
    let mut status = json!({"replicas": at("statusReplicasPath").unwrap_or_else(|| 0.into())});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let meta = |field: &str| object.at(&["metadata", field]).cloned().unwrap_or_default();
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": meta("name"), "namespace": meta("namespace"), "uid": meta("uid"),
            "resourceVersion": meta("resourceVersion"), "creationTimestamp": meta("creationTimestamp")},
        "spec": {"replicas": at("specReplicasPath").unwrap_or_else(|| 0.into())}, "status": status})
}

fn put_into(resource: &Resource, object: &mut Value, sent: &Value) {
    let Some(paths) = resource.custom.as_ref().and_then(|custom| custom.scale.as_ref()) else {
        scale::put_into(object, sent);
        return;
    };
    let replicas = sent.at(&["spec", "replicas"]).cloned().unwrap_or_else(|| 0.into());
    let mut place = object;
    for part in paths.str_at(&["specReplicasPath"]).split('.').filter(|part| !part.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = replicas;
}

pub(super) async fn handle(ctx: &Ctx, target: &Target, request: Request<Body>) -> Result<Reply, Status> {
    let resource = &target.resource;
    let item = item_name(&target.namespace, &target.name);
    if ctx.info.verb == "get" {
        let entry = storage::load(&ctx.server, resource, &item).await?;
        let entry = entry.ok_or_else(|| Status::not_found(&resource.gvr(), &target.name))?;
        return answer(ctx, resource, &storage::object(resource, &entry)?);
    }
    let options = WriteOptions::read(ctx)?;
    let body = body::read_whole(request.into_body()).await?;
    let sent = Sent::read(ctx, &body, options.validation)?;
    let gvk = Gvk::new("autoscaling", "v1", "Scale");
    let mut change = |current: &Value| {
        let scaled = sent.on(&scale_of(resource, current))?;
        let errors = scale::validate(&scaled);
        if !errors.is_empty() {
            return Err(Status::invalid(&gvk, &target.name, &errors));
        }
        let mut next = current.clone();
        match scaled.resource_version() {
            "" | "0" => next.remove_meta("resourceVersion"),
            version => next.set_meta("resourceVersion", version),
        }
        put_into(resource, &mut next, &scaled);
        Ok(next)
    };
    let bytes = update::apply(ctx, target, "scale", &options, &mut change).await?;
    answer(ctx, resource, &storage::parse(&bytes)?)
}

fn answer(ctx: &Ctx, resource: &Resource, object: &Value) -> Result<Reply, Status> {
    let accept = ctx.accept()?;
    reply::encoded(StatusCode::OK, &accept, Bytes::from(scale_of(resource, object).to_string()))
}

/// A whole Scale, or a patch of one.
enum Sent {
    Whole(Value),
    Patch(PatchKind, Value),
}

impl Sent {
    fn read(ctx: &Ctx, body: &[u8], validation: FieldValidation) -> Result<Self, Status> {
        let content_type = content_type(&ctx.headers);
        let gvk = Gvk::new("autoscaling", "v1", "Scale");
        if ctx.info.verb != "patch" {
            return objects::decode(ctx, content_type, body, &gvk, None, validation).map(Self::Whole);
        }
        let kind = match content_type {
            "application/json-patch+json" => PatchKind::Json,
            "application/apply-patch+yaml" => {
                return objects::decode(ctx, "application/yaml", body, &gvk, None, validation)
                    .map(|patch| Self::Patch(PatchKind::Merge, patch));
            }
            _ => PatchKind::Merge,
        };
        let patch = serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        Ok(Self::Patch(kind, patch))
    }

    fn on(&self, current: &Value) -> Result<Value, Status> {
        let (kind, patch) = match self {
            Self::Whole(value) => return Ok(value.clone()),
            Self::Patch(kind, patch) => (kind, patch),
        };
        let patched = match kind {
            PatchKind::Json => coracle_api_merge::json_patch(current.clone(), patch),
            _ => coracle_api_merge::merge_patch(current.clone(), patch),
        };
        patched.map_err(|error| error.status())
    }
}
