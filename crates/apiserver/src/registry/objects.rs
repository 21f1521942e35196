//! The one place where schemas, merging and rules plug into the registry.

use bytes::Bytes;
use coracle_api_merge as merge;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Gvk, Status, Value};
use coracle_api_rules::{Strategy, convert, strategy, table as tables};
use coracle_api_schema::crd::Compiled;
use coracle_api_schema::{self as schema, DecodeError, Decoded, Limits, Schemas, TypeId, builtin, proto};
use http::StatusCode;
use serde_json::json;

use super::options::{FieldValidation, WriteOptions};
use super::resources::Resource;
use crate::http::negotiate::{Form, JSON, PROTOBUF, YAML};
use crate::http::{Ctx, Reply, reply};
use crate::time;

/// Whether answers can be protobuf.
pub(crate) const PROTOBUF_ANSWERS: bool = true;

/// Objects and lists inside each other: less than what the reader of stored objects takes.
const DEPTH_MAX: usize = 100;
const LIMITS: Limits = Limits { body_bytes_max: crate::http::body::BODY_BYTES_MAX, depth_max: DEPTH_MAX };

/// Refuses what could be stored but not be read back. Patches of custom resources are not held to a depth before.
pub(crate) fn check_depth(object: &Value) -> Result<(), Status> {
    let mut level: Vec<&Value> = vec![object];
    for _ in 0..=DEPTH_MAX {
        let mut below: Vec<&Value> = Vec::new();
        for value in level {
            match value {
                Value::Object(fields) => {
                    below.extend(fields.values().filter(|value| value.is_object() || value.is_array()))
                }
                Value::Array(items) => below.extend(items.iter().filter(|value| value.is_object() || value.is_array())),
                _ => {}
            }
        }
        if below.is_empty() {
            return Ok(());
        }
        level = below;
    }
    Err(Status::bad_request(format!("the object is nested deeper than {DEPTH_MAX} levels")))
}

fn compiled(resource: &Resource) -> Option<&Compiled> {
    resource.compiled()
}

/// The types of a resource's objects.
pub(crate) fn types(resource: &Resource) -> Option<(&Schemas, TypeId)> {
    match compiled(resource) {
        Some(compiled) => Some((&compiled.schemas, compiled.root)),
        None => Some((builtin(), type_of(&resource.gvk())?)),
    }
}

fn rules(resource: &Resource) -> &'static dyn Strategy {
    strategy(&resource.gvk())
}

fn stored_rules(resource: &Resource) -> &'static dyn Strategy {
    strategy(&resource.storage)
}

pub(crate) fn storage_version(gvk: &Gvk) -> Gvk {
    convert::storage_version(gvk)
}

/// Of built-in kinds; custom resources are `conversion`'s.
pub(crate) fn to_served(resource: &Resource, object: &mut Value) {
    if !resource.is_storage_form() {
        convert::convert(object, &resource.gvk());
    }
}

pub(crate) fn to_stored(resource: &Resource, object: &mut Value) {
    if !resource.is_storage_form() {
        convert::convert(object, &resource.storage);
    }
}

fn unrecognized(kind: &str, why: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"))
}

fn decode_failed(wanted: &Gvk, error: &DecodeError) -> Status {
    match error {
        DecodeError::TooLarge { .. } => Status::too_large(error.to_string()),
        DecodeError::Syntax(_) => unrecognized(&wanted.kind, error),
        DecodeError::Type(_) | DecodeError::Yaml(_) => Status::bad_request(cannot_be_handled(wanted, error)),
    }
}

fn cannot_be_handled(wanted: &Gvk, why: &dyn std::fmt::Display) -> String {
    let kind = &wanted.kind;
    format!("{kind} in version {:?} cannot be handled as a {kind}: {why}", wanted.version)
}

fn type_of(wanted: &Gvk) -> Option<TypeId> {
    builtin().kind(wanted)
}

fn decode_text(content_type: &str, body: &[u8], wanted: &Gvk) -> Result<Decoded, Status> {
    let (schemas, ty, limits) = (builtin(), type_of(wanted), LIMITS);
    let decoded = match content_type {
        PROTOBUF => {
            let value = proto::decode_as(body, limits, schemas, Some(wanted));
            return value
                .map(|value| Decoded { value, strict: Vec::new() })
                .map_err(|error| unrecognized(&wanted.kind, &error));
        }
        "" | JSON | "*/*" if proto::recognise(body) => return decode_text(PROTOBUF, body, wanted),
        "" | JSON | "*/*" => schema::decode_json(body, limits, schemas, ty),
        YAML | "application/x-yaml" | "text/yaml" => schema::decode_yaml(body, limits, schemas, ty),
        _ => return Err(Status::unsupported_media_type(&[JSON, YAML, PROTOBUF])),
    };
    decoded.map_err(|error| decode_failed(wanted, &error))
}

/// A body that is no object of the registry, such as `DeleteOptions`.
pub(crate) fn decode_plain(content_type: &str, body: &[u8], kind: &str) -> Result<Value, Status> {
    if content_type == PROTOBUF || proto::recognise(body) {
        let fallback = Gvk::new("meta.k8s.io", "v1", kind);
        return proto::decode_as(body, LIMITS, builtin(), Some(&fallback)).map_err(|error| unrecognized(kind, &error));
    }
    let none = Gvk::new("", "", kind);
    let text = if matches!(content_type, YAML) { YAML } else { JSON };
    decode_text(text, body, &none).map(|decoded| decoded.value)
}

/// The object in a body, checked to be of the wanted kind.
pub(crate) fn decode(
    ctx: &Ctx,
    content_type: &str,
    body: &[u8],
    wanted: &Gvk,
    custom: Option<&Compiled>,
    validation: FieldValidation,
) -> Result<Value, Status> {
    if custom.is_some() && (content_type == PROTOBUF || proto::recognise(body)) {
        return Err(Status::unsupported_media_type(&[JSON, YAML]));
    }
    let mut decoded = decode_text(content_type, body, wanted)?;
    let mut object = decoded.value;
    check_kind(&mut object, wanted)?;
    if let Some(compiled) = custom {
        let more = compiled.admit(&mut object).map_err(|error| decode_failed(wanted, &error))?;
        decoded.strict.extend(more);
    }
    if let Some(error) = schema::strict_error(&decoded.strict) {
        match validation {
            FieldValidation::Strict => return Err(Status::bad_request(cannot_be_handled(wanted, &error))),
            FieldValidation::Warn => decoded.strict.into_iter().for_each(|problem| ctx.warn(problem)),
            FieldValidation::Ignore => {}
        }
    }
    ctx.trail.request(&object);
    Ok(object)
}

/// An applied configuration in YAML: partial, so nothing is defaulted.
pub(crate) fn decode_applied(
    ctx: &Ctx,
    resource: &Resource,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Value, Status> {
    let wanted = resource.gvk();
    let failed = |error: DecodeError| match error {
        DecodeError::Yaml(why) => Status::bad_request(format!("error decoding YAML: {why}")),
        other => decode_failed(&wanted, &other),
    };
    // Most clients send JSON, which is read faster as what it is. YAML words what is wrong with it.
    let json = body.trim_ascii_start().starts_with(b"{").then(|| schema::decode_json(body, LIMITS, builtin(), None));
    let json = json.and_then(Result::ok).filter(|decoded| decoded.strict.is_empty());
    let decoded = match json {
        Some(decoded) => decoded,
        None => schema::decode_yaml(body, LIMITS, builtin(), None).map_err(failed)?,
    };
    let mut object = decoded.value;
    check_kind(&mut object, &wanted)?;
    // Unknown fields are refused by the apply itself, which names them by their path.
    for problem in decoded.strict {
        let problem = format!("error converting YAML to JSON: {problem}");
        match validation {
            FieldValidation::Strict => {
                return Err(Status::bad_request(format!("error strict decoding YAML: {problem}")));
            }
            FieldValidation::Warn => ctx.warn(problem),
            FieldValidation::Ignore => {}
        }
    }
    ctx.trail.request(&object);
    Ok(object)
}

/// Fills in kind and version where they are missing, and refuses others.
pub(crate) fn check_kind(object: &mut Value, wanted: &Gvk) -> Result<(), Status> {
    let api_version = wanted.api_version();
    let found = (object.kind().to_owned(), object.api_version().to_owned());
    let Some(fields) = object.as_object_mut() else { return Err(unrecognized(&wanted.kind, &"it is no object")) };
    let (kind, version) = found;
    if !kind.is_empty() && kind != wanted.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({}) to ({}): unknown conversion",
            version.rsplit('/').next().unwrap_or_default(),
            wanted.kind,
            kind,
            wanted.kind
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

/// JSON bytes of an answer as protobuf; as JSON where there is no such form.
pub(crate) fn protobuf_reply(code: StatusCode, json: &Bytes) -> Result<Reply, Status> {
    let Ok(value) = serde_json::from_slice::<Value>(json) else { return Ok(reply::bytes(code, JSON, json.clone())) };
    match protobuf_of(&value) {
        Some(body) => Ok(reply::bytes(code, PROTOBUF, body)),
        None => Ok(reply::bytes(code, JSON, json.clone())),
    }
}

fn protobuf_of(value: &Value) -> Option<Vec<u8>> {
    let schemas = builtin();
    let Some(items) = value.get("items").and_then(Value::as_array).filter(|_| value.kind().ends_with("List")) else {
        return proto::encode(value, schemas).ok();
    };
    let list = value.gvk()?;
    let item = Gvk::new(list.group.clone(), list.version.clone(), list.kind.strip_suffix("List")?);
    let bodies: Vec<Vec<u8>> =
        items.iter().map(|object| proto::encode_body(object, schemas, &item)).collect::<Result<_, _>>().ok()?;
    let metadata = value.get("metadata").cloned().unwrap_or_default();
    let items = bodies.iter().map(Vec::as_slice);
    proto::encode_list(value.api_version(), value.kind(), &metadata, items, schemas).ok()
}

/// The message of one object, as it stands in lists.
pub(crate) fn protobuf_message(resource: &Resource, object: &Value) -> Result<Vec<u8>, Status> {
    proto::encode_body(object, builtin(), &resource.gvk()).map_err(Status::internal)
}

/// What comes before and after the items of a list, which take so many bytes.
pub(crate) fn protobuf_list(resource: &Resource, metadata: &Value, items: usize) -> Result<(Vec<u8>, Vec<u8>), Status> {
    let version = resource.gvk().api_version();
    proto::list_frame(&version, &resource.list_kind, metadata, items, builtin()).map_err(Status::internal)
}

pub(crate) fn protobuf_item(out: &mut Vec<u8>, message: &[u8]) {
    proto::put_list_item(out, message);
}

/// Bytes of an item whose message has so many.
pub(crate) fn protobuf_item_size(message: usize) -> usize {
    proto::list_item_size(message)
}

/// Whether answers about the resource have a protobuf form.
pub(crate) fn has_protobuf(resource: &Resource, form: Form) -> bool {
    let gvk = match form {
        Form::Whole if resource.custom.is_some() => return false,
        Form::Whole => resource.gvk(),
        Form::PartialMetadata => Gvk::new("meta.k8s.io", "v1", "PartialObjectMetadata"),
        Form::Table => return false,
    };
    proto::encode_body(&json!({}), builtin(), &gvk).is_ok()
}

/// Writes a watch frame in protobuf; false when the object cannot be.
pub(crate) fn protobuf_frame(out: &mut Vec<u8>, kind: &str, object: &Bytes) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(object) else { return false };
    match proto::encode_watch_event(kind, &value, builtin()) {
        Ok(frame) => {
            out.extend_from_slice(&frame);
            true
        }
        Err(_) => false,
    }
}

pub(crate) fn default(resource: &Resource, object: &mut Value) {
    rules(resource).default(object);
}

/// Kinds whose `status` is a field like any other.
fn has_plain_status(resource: &Resource) -> bool {
    resource.custom.as_ref().is_some_and(|custom| !custom.has_status)
}

fn restore_status(object: &mut Value, status: Option<Value>) {
    if let (Some(fields), Some(status)) = (object.as_object_mut(), status) {
        fields.insert("status".to_owned(), status);
    }
}

pub(crate) fn prepare_for_create(resource: &Resource, object: &mut Value) {
    let status = object.get("status").filter(|_| has_plain_status(resource)).cloned();
    rules(resource).prepare_for_create(object);
    restore_status(object, status);
}

pub(crate) fn prepare_for_update(resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    let rules = rules(resource);
    match subresource {
        // What the server itself makes of the object.
        "binding" => {}
        "status" => rules.prepare_for_status_update(new, old),
        "" if has_plain_status(resource) => {
            let status = new.get("status").cloned();
            let moved = status.as_ref() != old.get("status");
            rules.prepare_for_update(new, old);
            if let Some(fields) = new.as_object_mut() {
                fields.shift_remove("status");
            }
            restore_status(new, status);
            let generation = |object: &Value| object.at(&["metadata", "generation"]).and_then(Value::as_i64);
            if moved && generation(new) == generation(old) {
                new.set_meta("generation", generation(old).unwrap_or_default() + 1);
            }
        }
        "" => rules.prepare_for_update(new, old),
        other => rules.prepare_for_subresource_update(other, new, old),
    }
}

pub(crate) fn validate_create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = rules(resource).validate_create(object);
    if let Some(compiled) = compiled(resource) {
        errors.extend(compiled.validate(object));
    }
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        errors.extend(crate::subresources::crd::schema_errors(object));
    }
    errors
}

pub(crate) fn validate_update(resource: &Resource, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let rules = rules(resource);
    let mut errors = match subresource {
        "binding" => return Vec::new(),
        "" => rules.validate_update(new, old),
        "status" => rules.validate_status_update(new, old),
        other => rules.validate_subresource_update(other, new, old),
    };
    if let Some(compiled) = compiled(resource) {
        errors.extend(compiled.validate_update(new, old));
    }
    if subresource.is_empty() && resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        errors.extend(crate::subresources::crd::schema_errors(new));
    }
    errors
}

pub(crate) fn warnings(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    let rules = rules(resource);
    old.map_or_else(|| rules.warnings_on_create(new), |old| rules.warnings_on_update(new, old))
}

pub(crate) fn allows_create_on_update(resource: &Resource) -> bool {
    rules(resource).allow_create_on_update()
}

pub(crate) fn allows_unconditional_update(resource: &Resource) -> bool {
    rules(resource).allow_unconditional_update()
}

pub(crate) fn orphans_dependents(resource: &Resource) -> bool {
    rules(resource).orphans_dependents()
}

/// Seconds until a deletion is final.
pub(crate) fn grace_seconds(resource: &Resource, object: &Value, asked: Option<i64>) -> i64 {
    let rules = rules(resource);
    if rules.graceful_deletion() { rules.grace_seconds(object, asked) } else { 0 }
}

/// The name that a selectable field has in storage, or `None` when it cannot be selected by.
pub(crate) fn selectable_field(resource: &Resource, field: &str) -> Option<String> {
    if let Some(custom) = &resource.custom {
        let own = custom.selectable.iter().any(|own| own == field);
        let known = own || field == "metadata.name" || (resource.namespaced && field == "metadata.namespace");
        return known.then(|| field.to_owned());
    }
    if !rules(resource).selectable_fields().contains(&field) {
        return None;
    }
    let stored = match (resource.plural.as_str(), field) {
        ("events", "reportingController") => "reportingComponent".to_owned(),
        ("events", _) => field.replacen("regarding.", "involvedObject.", 1),
        ("namespaces", "name") => "metadata.name".to_owned(),
        _ => field.to_owned(),
    };
    Some(stored)
}

/// Selectable fields other than name and namespace, with their values.
pub(crate) fn selectable_values(resource: &Resource, object: &Value) -> Vec<(String, String)> {
    if let Some(custom) = &resource.custom {
        return custom.selectable.iter().map(|field| (field.clone(), custom_value(object, field))).collect();
    }
    let rules = stored_rules(resource);
    let fields = rules.selectable_fields().iter().filter(|field| !field.starts_with("metadata."));
    fields.map(|field| ((*field).to_owned(), rules.field_value(object, field).into_owned())).collect()
}

fn custom_value(object: &Value, field: &str) -> String {
    let path: Vec<&str> = field.split('.').collect();
    match object.at(&path) {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
        _ => String::new(),
    }
}

/// Same but for the times in managed fields, which `new` then takes from `old`.
pub(crate) fn same(new: &mut Value, old: &Value) -> bool {
    if new.get("metadata") != old.get("metadata") {
        merge::revert_times_if_unchanged(old, new);
    }
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

/// What a patch makes of an object, and the fields in it that the kind does not have.
pub(crate) fn apply_patch(
    resource: &Resource,
    kind: PatchKind,
    patch: &Value,
    current: &Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let gvk = resource.gvk();
    let patched = match (kind, type_of(&gvk)) {
        (PatchKind::Json, _) => merge::json_patch(current.clone(), patch),
        (PatchKind::Strategic, Some(ty)) => merge::strategic_merge_patch(builtin(), ty, current.clone(), patch),
        _ => merge::merge_patch(current.clone(), patch),
    };
    let mut patched = patched.map_err(|error| error.status())?;
    if let Some(compiled) = compiled(resource) {
        let problems = compiled.admit(&mut patched).map_err(|error| invalid_patch(patch, &error.to_string()))?;
        return match schema::strict_error(&problems) {
            Some(error) if validation == FieldValidation::Strict => Err(invalid_patch(patch, &error)),
            _ => Ok((patched, problems)),
        };
    }
    let Some(ty) = type_of(&gvk).filter(|_| resource.custom.is_none()) else { return Ok((patched, Vec::new())) };
    let decoded = schema::decode_value(&patched, LIMITS, builtin(), Some(ty));
    let decoded = decoded.map_err(|error| invalid_patch(patch, &error.to_string()))?;
    match schema::strict_error(&decoded.strict) {
        Some(error) if validation == FieldValidation::Strict => Err(invalid_patch(patch, &error)),
        _ => Ok((decoded.value, decoded.strict)),
    }
}

fn invalid_patch(patch: &Value, why: &str) -> Status {
    let error = FieldError::invalid(&FieldPath::new("patch"), patch.to_string(), why);
    Status::invalid(&Gvk::default(), "", &[error])
}

/// Calls `with` with the keeper of managed fields for one request.
fn with_manager<T>(resource: &Resource, subresource: &str, with: impl FnOnce(&merge::FieldManager<'_>) -> T) -> T {
    let gvk = resource.gvk();
    let (schemas, ty) = match compiled(resource) {
        Some(compiled) => (compiled.schemas.as_ref(), Some(compiled.root)),
        None => (builtin(), type_of(&gvk)),
    };
    let reset: &[&str] = if has_plain_status(resource) { &[] } else { rules(resource).reset_fields(subresource) };
    let filter = if reset.is_empty() {
        merge::FieldFilter::All
    } else {
        let paths: Vec<Vec<&str>> = reset.iter().map(|path| path.split('.').collect()).collect();
        let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
        merge::FieldFilter::Except(merge::FieldSet::of_fields(&paths))
    };
    let versions = merge::OneShape { schemas, ty };
    let time = time::now_text();
    with(&merge::FieldManager {
        schemas,
        ty,
        gvk: &gvk,
        subresource,
        filter: &filter,
        versions: &versions,
        time: &time,
    })
}

/// Server-side apply: the live object (null when there is none) with the applied configuration merged in.
pub(crate) fn apply(
    resource: &Resource,
    live: &Value,
    applied: &Value,
    subresource: &str,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let live = (!live.is_null()).then_some(live);
    with_manager(resource, subresource, |manager| manager.apply(live, applied, &options.field_manager, options.force))
        .map_err(|error| error.status())
}

/// Notes in `managedFields` who owns what after a write.
pub(crate) fn track(
    resource: &Resource,
    old: Option<&Value>,
    new: &mut Value,
    subresource: &str,
    options: &WriteOptions,
) {
    let subresource = if subresource == "binding" { "" } else { subresource };
    with_manager(resource, subresource, |manager| manager.update(old, new, &options.field_manager));
}

/// Columns and rows of a table.
pub(crate) struct TableRows {
    pub columns: Value,
    pub rows: Vec<Value>,
}

pub(crate) fn table(resource: &Resource, objects: &[Value]) -> TableRows {
    if resource.custom.is_some() {
        return super::custom_table::table(resource, objects);
    }
    let gvk = resource.gvk();
    let columns: Vec<Value> = tables::columns(&gvk)
        .iter()
        .map(|column| {
            json!({"name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority})
        })
        .collect();
    let now = time::now();
    let rows = objects.iter().map(|object| Value::Array(tables::row(&gvk, object, now)));
    TableRows { columns: columns.into(), rows: rows.collect() }
}
