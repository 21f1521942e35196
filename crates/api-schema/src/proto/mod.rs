//! Kubernetes' protobuf form of the built-in kinds, transcoded from and to the object tree by the table's field numbers.
//!
//! Source: `k8s.io/apimachinery/pkg/runtime/serializer/protobuf`: four magic bytes, then `runtime.Unknown` with the type in
//! `typeMeta` and the object's message in `raw`. Custom resources have no such form.

mod read;
pub(crate) mod wire;
mod write;

use coracle_api_meta::{GroupVersion, Gvk, Map, Value};

use crate::{
    decode::Limits,
    model::{Schemas, TypeId},
};

pub use wire::WireError;

/// What every protobuf object starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    #[error("request body too large: {size} bytes, at most {max}")]
    TooLarge { size: usize, max: usize },
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("the body of the object is not protobuf: {0}")]
    Wire(#[from] WireError),
    #[error("Object 'Kind' is missing")]
    NoKind,
    /// Also what custom resources and tables get.
    #[error("no protobuf form of kind {kind:?} in version {api_version:?}")]
    NoForm { api_version: String, kind: String },
    #[error("field {0} does not hold what its type says")]
    Mismatch(String),
    /// JSON or a quantity inside the message is malformed.
    #[error("{0}")]
    Inner(String),
}

/// Whether a body is in this form.
#[must_use]
pub fn recognise(body: &[u8]) -> bool {
    body.starts_with(&MAGIC)
}

/// Reads an object of a built-in kind. It comes in the form that JSON decoding gives.
pub fn decode(body: &[u8], limits: Limits, schemas: &Schemas) -> Result<Value, ProtoError> {
    decode_as(body, limits, schemas, None)
}

/// [`decode`] with a kind for bodies that do not name theirs.
pub fn decode_as(body: &[u8], limits: Limits, schemas: &Schemas, fallback: Option<&Gvk>) -> Result<Value, ProtoError> {
    if body.len() > limits.body_bytes_max {
        return Err(ProtoError::TooLarge { size: body.len(), max: limits.body_bytes_max });
    }
    let unknown = Unknown::read(body)?;
    let gvk = match (unknown.gvk(), fallback) {
        (Some(gvk), _) => gvk,
        (None, Some(gvk)) => gvk.clone(),
        (None, None) => return Err(ProtoError::NoKind),
    };
    let ty = form_of(schemas, &gvk)?;
    let mut value = read::Reader::new(schemas, limits).message(ty, unknown.raw)?;
    if let Value::Object(object) = &mut value {
        set_kind(object, &gvk);
    }
    Ok(value)
}

/// The object in its envelope.
pub fn encode(object: &Value, schemas: &Schemas) -> Result<Vec<u8>, ProtoError> {
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let body = encode_body(object, schemas, &gvk(api_version, kind).ok_or(ProtoError::NoKind)?)?;
    Ok(envelope(api_version, kind, &body))
}

/// The message of an object of a kind, without envelope: what stands in a list.
pub fn encode_body(object: &Value, schemas: &Schemas, gvk: &Gvk) -> Result<Vec<u8>, ProtoError> {
    let mut out = Vec::with_capacity(512);
    write::message(schemas, form_of(schemas, gvk)?, object, &mut out)?;
    Ok(out)
}

/// Field of the items in every list.
const ITEMS: u32 = 2;

/// What comes before and after the items of a list that is written piece by piece. `items` is the sum of
/// [`list_item_size`] over all of them.
pub fn list_frame(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: usize,
    schemas: &Schemas,
) -> Result<(Vec<u8>, Vec<u8>), ProtoError> {
    let whole = encode_list(api_version, kind, metadata, std::iter::empty(), schemas)?;
    let mut meta = Vec::new();
    let ty = schemas.named("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta").ok_or(ProtoError::NoKind)?;
    let mut message = Vec::new();
    write::message(schemas, ty, metadata, &mut message)?;
    wire::bytes(1, &message, &mut meta);
    // The envelope of the same list without items ends with its body and two empty fields of two bytes each.
    let end = whole.get(whole.len().saturating_sub(4)..).unwrap_or_default().to_vec();
    let mut short = Vec::new();
    wire::bytes(2, &meta, &mut short);
    let mut start = whole.get(..whole.len().saturating_sub(4 + short.len())).unwrap_or_default().to_vec();
    wire::length(2, meta.len() + items, &mut start);
    start.extend_from_slice(&meta);
    Ok((start, end))
}

/// One item of such a list, from its message ([`encode_body`]).
pub fn put_list_item(out: &mut Vec<u8>, message: &[u8]) {
    wire::bytes(ITEMS, message, out);
}

/// Bytes that [`put_list_item`] writes for a message of so many.
#[must_use]
pub fn list_item_size(message: usize) -> usize {
    let mut head = Vec::with_capacity(12);
    wire::length(ITEMS, message, &mut head);
    head.len() + message
}

/// A list in its envelope, from its metadata and the messages of its items ([`encode_body`]).
pub fn encode_list<'a>(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl Iterator<Item = &'a [u8]>,
    schemas: &Schemas,
) -> Result<Vec<u8>, ProtoError> {
    let mut body = Vec::new();
    let meta = schemas.named("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta").ok_or(ProtoError::NoKind)?;
    let mut message = Vec::new();
    write::message(schemas, meta, metadata, &mut message)?;
    wire::bytes(1, &message, &mut body);
    for item in items {
        wire::bytes(ITEMS, item, &mut body);
    }
    Ok(envelope(api_version, kind, &body))
}

/// One frame of a watch stream: four bytes of length, then `WatchEvent`. `object` comes from [`encode`] or [`encode_list`].
#[must_use]
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::bytes(1, object, &mut raw);
    let mut message = Vec::with_capacity(raw.len() + 16);
    wire::bytes(1, event.as_bytes(), &mut message);
    wire::bytes(2, &raw, &mut message);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.append(&mut message);
    frame
}

/// [`watch_frame`] of an object.
pub fn encode_watch_event(event: &str, object: &Value, schemas: &Schemas) -> Result<Vec<u8>, ProtoError> {
    Ok(watch_frame(event, &encode(object, schemas)?))
}

fn envelope(api_version: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    wire::bytes(1, api_version.as_bytes(), &mut type_meta);
    wire::bytes(2, kind.as_bytes(), &mut type_meta);
    let mut out = MAGIC.to_vec();
    wire::bytes(1, &type_meta, &mut out);
    wire::bytes(2, body, &mut out);
    // contentEncoding and contentType, which Go always writes.
    wire::bytes(3, b"", &mut out);
    wire::bytes(4, b"", &mut out);
    out
}

fn gvk(api_version: &str, kind: &str) -> Option<Gvk> {
    let gv = GroupVersion::parse(api_version)?;
    (!kind.is_empty()).then(|| Gvk::new(gv.group, gv.version, kind))
}

fn form_of(schemas: &Schemas, gvk: &Gvk) -> Result<TypeId, ProtoError> {
    let no_form = || ProtoError::NoForm { api_version: gvk.api_version(), kind: gvk.kind.clone() };
    let ty = schemas.kind(gvk).ok_or_else(no_form)?;
    let fields = schemas.as_struct(ty).map(|ty| ty.fields.as_slice()).unwrap_or_default();
    if fields.iter().any(|field| field.protobuf > 0) || fields.len() <= 2 { Ok(ty) } else { Err(no_form()) }
}

/// Puts the kind in front, as Go prints it.
fn set_kind(object: &mut Map, gvk: &Gvk) {
    let rest = std::mem::take(object);
    object.insert("kind".to_owned(), gvk.kind.clone().into());
    object.insert("apiVersion".to_owned(), gvk.api_version().into());
    object.extend(rest.into_iter().filter(|(key, _)| key != "kind" && key != "apiVersion"));
}

/// `runtime.Unknown`.
struct Unknown<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Unknown<'a> {
    fn read(body: &'a [u8]) -> Result<Self, ProtoError> {
        let message = body.strip_prefix(&MAGIC).ok_or(ProtoError::Magic)?;
        let mut out = Self { api_version: String::new(), kind: String::new(), raw: &[] };
        for field in wire::Fields::new(message) {
            match field? {
                (1, wire::Payload::Bytes(type_meta)) => {
                    for field in wire::Fields::new(type_meta) {
                        match field? {
                            (1, wire::Payload::Bytes(text)) => out.api_version = wire::text(text),
                            (2, wire::Payload::Bytes(text)) => out.kind = wire::text(text),
                            _ => {}
                        }
                    }
                }
                (2, wire::Payload::Bytes(raw)) => out.raw = raw,
                _ => {}
            }
        }
        Ok(out)
    }

    fn gvk(&self) -> Option<Gvk> {
        gvk(&self.api_version, &self.kind)
    }
}
