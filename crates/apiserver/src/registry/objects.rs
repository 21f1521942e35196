//! The one place where schemas, merging and rules plug into the registry.

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, Gvk, Status, Value};
use http::StatusCode;

use super::options::{FieldValidation, WriteOptions};
use super::resources::Resource;
use crate::http::negotiate::{JSON, YAML};
use crate::http::{Ctx, Reply};

/// Whether answers can be protobuf.
pub(crate) const PROTOBUF_ANSWERS: bool = false;

pub(crate) type CustomSchema = ();

pub(crate) fn storage_version(gvk: &Gvk) -> Gvk {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("autoscaling", "HorizontalPodAutoscaler") => Gvk::new("autoscaling", "v2", &gvk.kind),
        ("events.k8s.io", "Event") => Gvk::new("", "v1", "Event"),
        _ => gvk.clone(),
    }
}

fn convert(object: &mut Value, to: &Gvk) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), to.api_version().into());
    }
}

pub(crate) fn to_served(resource: &Resource, object: &mut Value) {
    if !resource.is_storage_form() {
        convert(object, &resource.gvk());
    }
}

pub(crate) fn to_stored(resource: &Resource, object: &mut Value) {
    if !resource.is_storage_form() {
        convert(object, &resource.storage);
    }
}

/// A body of JSON or YAML without further checks.
pub(crate) fn decode_plain(content_type: &str, body: &[u8], kind: &str) -> Result<Value, Status> {
    let parsed = match content_type {
        "" | JSON => serde_json::from_slice::<Value>(body).map_err(|error| error.to_string()),
        YAML | "application/x-yaml" | "text/yaml" => {
            let text = std::str::from_utf8(body).map_err(|error| Status::bad_request(error.to_string()))?;
            serde_saphyr::from_str::<Value>(text).map_err(|error| error.to_string())
        }
        _ => return Err(Status::unsupported_media_type(&[JSON, YAML])),
    };
    parsed.map_err(|error| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error}"
        ))
    })
}

/// The object in a body, checked to be of the wanted kind.
pub(crate) fn decode(
    ctx: &Ctx,
    content_type: &str,
    body: &[u8],
    wanted: &Gvk,
    _custom: Option<&CustomSchema>,
    _validation: FieldValidation,
) -> Result<Value, Status> {
    let _ = ctx;
    let mut object = decode_plain(content_type, body, &wanted.kind)?;
    check_kind(&mut object, wanted)?;
    Ok(object)
}

/// Fills in kind and version where they are missing, and refuses others.
pub(crate) fn check_kind(object: &mut Value, wanted: &Gvk) -> Result<(), Status> {
    let api_version = wanted.api_version();
    let Some(fields) = object.as_object_mut() else {
        return Err(Status::bad_request(format!("the object provided is unrecognized (must be of type {})", wanted.kind)));
    };
    let found = |fields: &coracle_api_meta::Map, key: &str| {
        fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (kind, version) = (found(fields, "kind"), found(fields, "apiVersion"));
    if !kind.is_empty() && kind != wanted.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: no kind {:?} is registered for version {version:?}",
            wanted.version, wanted.kind, kind
        )));
    }
    if !version.is_empty() && version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({api_version})"
        )));
    }
    fields.insert("kind".to_owned(), wanted.kind.as_str().into());
    fields.insert("apiVersion".to_owned(), api_version.into());
    Ok(())
}

pub(crate) fn protobuf_reply(_code: StatusCode, _json: &Bytes) -> Result<Reply, Status> {
    Err(Status::not_acceptable(&[JSON, YAML]))
}

pub(crate) fn default(_resource: &Resource, _object: &mut Value) {}

pub(crate) fn prepare_for_create(resource: &Resource, object: &mut Value) {
    if resource.subresource("status").is_some()
        && !resource.is("", "nodes")
        && let Some(fields) = object.as_object_mut()
    {
        fields.shift_remove("status");
    }
    object.set_meta("generation", 1);
}

pub(crate) fn prepare_for_update(resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    let (Some(fields), Some(old_fields)) = (new.as_object_mut(), old.as_object()) else { return };
    if subresource.is_empty() {
        if resource.subresource("status").is_some() {
            match old_fields.get("status") {
                Some(status) => fields.insert("status".to_owned(), status.clone()),
                None => fields.shift_remove("status"),
            };
        }
        if fields.get("spec") != old_fields.get("spec") {
            let generation = old.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default();
            new.set_meta("generation", generation + 1);
        }
    } else if subresource == "status" {
        for (key, value) in old_fields {
            if !matches!(key.as_str(), "status" | "metadata") {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
}

pub(crate) fn validate_create(_resource: &Resource, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn validate_update(_resource: &Resource, _subresource: &str, _new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn warnings(_resource: &Resource, _new: &Value, _old: Option<&Value>) -> Vec<String> {
    Vec::new()
}

pub(crate) fn allows_create_on_update(_resource: &Resource) -> bool {
    false
}

pub(crate) fn allows_unconditional_update(_resource: &Resource) -> bool {
    true
}

pub(crate) fn orphans_dependents(_resource: &Resource) -> bool {
    false
}

/// Seconds until a deletion is final.
pub(crate) fn grace_seconds(resource: &Resource, object: &Value, asked: Option<i64>) -> i64 {
    if !resource.is("", "pods") || object.str_at(&["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let own = object.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
    asked.unwrap_or(own).max(0)
}

/// The name that a selectable field has in storage, or `None` when it cannot be selected by.
pub(crate) fn selectable_field(_resource: &Resource, field: &str) -> Option<String> {
    matches!(field, "metadata.name" | "metadata.namespace" | "spec.nodeName" | "status.phase").then(|| field.to_owned())
}

/// Selectable fields other than name and namespace, with their values.
pub(crate) fn selectable_values(_resource: &Resource, object: &Value) -> Vec<(String, String)> {
    ["spec.nodeName", "status.phase"]
        .iter()
        .map(|field| {
            let path: Vec<&str> = field.split('.').collect();
            ((*field).to_owned(), object.str_at(&path).to_owned())
        })
        .collect()
}

/// Same but for what every write changes.
pub(crate) fn same(new: &Value, old: &Value) -> bool {
    new == old
}

/// Which patch a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What a patch makes of an object.
pub(crate) fn apply_patch(
    _resource: &Resource,
    kind: PatchKind,
    patch: &Value,
    current: &Value,
    _validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let patched = match kind {
        PatchKind::Json => coracle_api_merge::json_patch(current.clone(), patch),
        _ => coracle_api_merge::merge_patch(current.clone(), patch),
    };
    patched.map(|patched| (patched, Vec::new())).map_err(|error| error.status())
}

/// Server-side apply: the live object (null when there is none) with the applied configuration merged in.
pub(crate) fn apply(
    _resource: &Resource,
    live: &Value,
    applied: &Value,
    _subresource: &str,
    _options: &WriteOptions,
) -> Result<Value, Status> {
    let base = if live.is_null() { Value::Object(Default::default()) } else { live.clone() };
    coracle_api_merge::merge_patch(base, applied).map_err(|error| error.status())
}

/// Notes in `managedFields` who owns what after a write.
pub(crate) fn track(_resource: &Resource, _old: Option<&Value>, _new: &mut Value, _subresource: &str, _options: &WriteOptions) {}

/// Columns and rows of a table.
pub(crate) struct TableRows {
    pub columns: Value,
    pub rows: Vec<Value>,
}

pub(crate) fn table(_resource: &Resource, objects: &[Value]) -> TableRows {
    let columns = serde_json::json!([
        {"name": "Name", "type": "string", "format": "name", "description": "Name must be unique within a namespace.", "priority": 0},
        {"name": "Created At", "type": "date", "format": "", "description": "When it was made.", "priority": 0},
    ]);
    let rows = objects.iter().map(|object| serde_json::json!([object.name(), object.meta_str("creationTimestamp")]));
    TableRows { columns, rows: rows.collect() }
}

/// Writes a watch frame in protobuf; false when the object cannot be.
pub(crate) fn protobuf_frame(_out: &mut Vec<u8>, _kind: &str, _object: &Bytes) -> bool {
    false
}
