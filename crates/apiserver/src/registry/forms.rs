//! Other forms of an answer: tables and partial metadata. Source: `k8s.io/apiserver/pkg/endpoints/handlers/response.go`.

use bytes::Bytes;
use coracle_api_meta::{Status, Value};
use http::StatusCode;
use serde_json::json;

use super::objects;
use super::resources::Resource;
use super::storage::parse;
use crate::http::negotiate::{Accept, Form};
use crate::http::{Ctx, Reply, reply};

/// Which part of an object stands in rows of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    Metadata,
    Object,
    None,
}

impl Include {
    pub(crate) fn read(ctx: &Ctx) -> Result<Self, Status> {
        match ctx.query.get("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::None),
            other => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// An answer of one object in the form that the client wants.
pub(crate) fn one(ctx: &Ctx, resource: &Resource, code: StatusCode, bytes: Bytes) -> Result<Reply, Status> {
    let accept = ctx.accept()?;
    ctx.trail.response(&bytes);
    let bytes = match accept.form {
        Form::Whole => bytes,
        Form::PartialMetadata => partial(&parse(&bytes)?, &accept).to_string().into(),
        Form::Table => {
            let object = parse(&bytes)?;
            let meta = list_meta(&object);
            table(resource, &[object], meta, &accept, Include::read(ctx)?, true).to_string().into()
        }
    };
    reply::encoded(code, &accept, bytes)
}

fn list_meta(object: &Value) -> Value {
    json!({"resourceVersion": object.get("metadata").and_then(|meta| meta.get("resourceVersion")).cloned().unwrap_or_default()})
}

pub(crate) fn api_version(accept: &Accept) -> String {
    format!("meta.k8s.io/{}", accept.version)
}

pub(crate) fn partial(object: &Value, accept: &Accept) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version(accept), "metadata": object.get("metadata")})
}

/// A row with what it stands for.
fn with_object(mut row: Value, item: Value, accept: &Accept, include: Include) -> Value {
    let object = match include {
        Include::Metadata => partial(&item, accept),
        Include::Object => item,
        Include::None => Value::Null,
    };
    if let Some(fields) = row.as_object_mut() {
        fields.insert("object".to_owned(), object);
        return row;
    }
    json!({"cells": row, "object": object})
}

/// The rows of a table that is made piece by piece.
pub(crate) fn rows(resource: &Resource, items: Vec<Value>, accept: &Accept, include: Include) -> Vec<Value> {
    let printed = objects::table(resource, &items);
    items.into_iter().zip(printed.rows).map(|(item, row)| with_object(row, item, accept, include)).collect()
}

/// A table up to its first row.
pub(crate) fn table_start(resource: &Resource, metadata: &Value, accept: &Accept) -> String {
    let empty = table(resource, &[], metadata.clone(), accept, Include::None, true).to_string();
    empty.strip_suffix("]}").unwrap_or(&empty).to_owned()
}

/// `metadata` is the table's own. Without `columns`, the definitions are left out (later events of a watch).
pub(crate) fn table(
    resource: &Resource,
    items: &[Value],
    metadata: Value,
    accept: &Accept,
    include: Include,
    columns: bool,
) -> Value {
    let printed = objects::table(resource, items);
    let items = items.iter().cloned();
    let rows: Vec<Value> = items.zip(printed.rows).map(|(item, row)| with_object(row, item, accept, include)).collect();
    let definitions = if columns { printed.columns } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": api_version(accept), "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}
