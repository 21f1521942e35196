//! OpenAPI documents, rendered when they are asked for and kept until the resources change.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use coracle_api_meta::{GroupVersion, Gvk, Status, Value};
use coracle_api_schema::builtin;
use coracle_api_schema::openapi::{self, Served, ServedSubresource};
use coracle_client::BoxError;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sha2::{Digest, Sha256};

use crate::aggregation;
use crate::http::negotiate::{JSON, accept_text};
use crate::http::{Ctx, Reply, reply};
use crate::registry::resources::{Resource, Resources};

const SWAGGER_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What the answer is called: media types hold no `@` (RFC 6838 section 4.2), and clients check.
const SWAGGER_PROTOBUF_REPLY: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const IMMUTABLE: &str = "public, immutable";

/// Documents by their hash, compressed. The swagger document is kept with the resources it was made from.
#[derive(Default)]
pub(crate) struct Documents {
    v3: Mutex<HashMap<String, Bytes>>,
    /// Made from these resources, and from what aggregated servers said at this generation.
    v2: Mutex<Option<(Weak<Resources>, u64, Arc<Swagger>)>>,
}

struct Swagger {
    json: Bytes,
    /// Made when it is asked for first.
    protobuf: OnceLock<Bytes>,
    tag: String,
}

impl Swagger {
    fn protobuf(&self) -> Bytes {
        let make = || {
            let document: Value =
                serde_json::from_reader(flate2::read::GzDecoder::new(&self.json[..])).unwrap_or_default();
            pack(&openapi::gnostic::encode(&document))
        };
        self.protobuf.get_or_init(make).clone()
    }
}

const PIECE_BYTES: usize = 64 * 1024;
/// Rendered documents of group versions that are kept.
const V3_MAX: usize = 256;

/// A row as documents show it; without `schemas` it is enough for their hash.
fn served(row: &Resource, schemas: bool) -> Served {
    let subresources = row.subresources.iter().map(|sub| {
        let (group, version) = match sub.kind_group_version.rsplit_once('/') {
            Some(pair) => pair,
            None if sub.kind_group_version.is_empty() => (row.group.as_str(), row.version.as_str()),
            None => ("", sub.kind_group_version.as_str()),
        };
        ServedSubresource { name: sub.name.clone(), gvk: Gvk::new(group, version, &sub.kind), verbs: sub.verbs.clone() }
    });
    Served {
        plural: row.plural.clone(),
        kind: row.kind.clone(),
        list_kind: row.list_kind.clone(),
        namespaced: row.namespaced,
        verbs: row.verbs.clone(),
        subresources: subresources.collect(),
        custom: row.custom.as_ref().map(
            |custom| {
                if schemas { custom.definition.schema(custom.version) } else { Value::Null }
            },
        ),
        fingerprint: row.custom.as_ref().map(|custom| custom.definition.changed().to_string()).unwrap_or_default(),
    }
}

fn versions(resources: &Resources, schemas: bool) -> Vec<(GroupVersion, Vec<Served>)> {
    let mut all = Vec::new();
    for (group, versions) in resources.groups() {
        for version in versions {
            let rows = resources.all().iter().filter(|row| row.group == group && row.version == version);
            let rows: Vec<Served> = rows.map(|row| served(row, schemas)).collect();
            all.push((GroupVersion::new(group.clone(), version), rows));
        }
    }
    all
}

/// `parts` are what follows `/openapi`.
pub(super) fn openapi(ctx: &Ctx, parts: &[&str]) -> Result<Reply, Status> {
    let resources = ctx.server.resources();
    match parts {
        ["v2"] => Ok(v2(ctx, &resources)),
        ["v3"] => {
            let versions = versions(&resources, false);
            let mut index = openapi::v3_index(versions.iter().map(|(gv, served)| (gv, openapi::hash(gv, served))));
            add_remote(ctx, &mut index);
            Ok(reply::json(&index))
        }
        ["v3", path @ ..] => v3(ctx, &resources, &path.join("/")),
        _ => Err(Status::no_such_path()),
    }
}

/// Points at the documents of aggregated servers, which are passed on when they are asked for.
fn add_remote(ctx: &Ctx, index: &mut Value) {
    let Some(paths) = index.get_mut("paths").and_then(Value::as_object_mut) else { return };
    for service in ctx.server.aggregation.services(&*ctx.server.store).all() {
        let known = ctx.server.aggregation.remote.of(&service.name).filter(|_| service.destination.is_some());
        if let Some(known) = known.filter(|known| !known.v3_url.is_empty()) {
            let path = service.path().trim_start_matches('/').to_owned();
            paths.insert(path, serde_json::json!({"serverRelativeURL": known.v3_url}));
        }
    }
}

fn v3(ctx: &Ctx, resources: &Resources, path: &str) -> Result<Reply, Status> {
    let versions = versions(resources, false);
    let (gv, rows) = versions.iter().find(|(gv, _)| openapi::path_of(gv) == path).ok_or_else(Status::no_such_path)?;
    let hash = openapi::hash(gv, rows);
    if is_known(ctx, &hash) {
        return Ok(unchanged(&hash));
    }
    let documents = &ctx.server.documents;
    let known = documents.v3.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
    let body = known.unwrap_or_else(|| {
        let of_version = |row: &&std::sync::Arc<Resource>| row.group == gv.group && row.version == gv.version;
        let rows: Vec<Arc<Resource>> = resources.all().iter().filter(of_version).cloned().collect();
        let (body, _) = written(openapi::Document::V3, &[(gv.clone(), rows)]);
        let mut kept = documents.v3.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= V3_MAX {
            kept.clear();
        }
        kept.insert(hash.clone(), body.clone());
        body
    });
    let mut reply = packed(ctx, JSON, body);
    tag(&mut reply, &hash);
    if ctx.query.get("hash") == hash {
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
    }
    Ok(reply)
}

fn v2(ctx: &Ctx, resources: &Arc<Resources>) -> Reply {
    let swagger = swagger(ctx, resources);
    if is_known(ctx, &swagger.tag) {
        return unchanged(&swagger.tag);
    }
    let mut reply = if accept_text(&ctx.headers).contains(SWAGGER_PROTOBUF) {
        packed(ctx, SWAGGER_PROTOBUF_REPLY, swagger.protobuf())
    } else {
        packed(ctx, JSON, swagger.json.clone())
    };
    tag(&mut reply, &swagger.tag);
    reply
}

fn swagger(ctx: &Ctx, resources: &Arc<Resources>) -> Arc<Swagger> {
    let aggregation = &ctx.server.aggregation;
    let generation = aggregation.remote.generation();
    let mut kept = ctx.server.documents.v2.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, at, swagger)) = &*kept
        && of.ptr_eq(&Arc::downgrade(resources))
        && *at == generation
    {
        return Arc::clone(swagger);
    }
    let parts: Vec<Arc<Value>> = aggregation
        .services(&*ctx.server.store)
        .all()
        .iter()
        .filter_map(|service| aggregation.remote.of(&service.name)?.swagger.clone())
        .collect();
    let (json, tag) = written(openapi::Document::V2("v1.36.2"), &rows_by_version(resources));
    let swagger =
        if parts.is_empty() { Swagger { json, protobuf: OnceLock::new(), tag } } else { merged(&json, &parts) };
    let swagger = Arc::new(swagger);
    *kept = Some((Arc::downgrade(resources), generation, Arc::clone(&swagger)));
    swagger
}

fn merged(own: &Bytes, parts: &[Arc<Value>]) -> Swagger {
    let mut document: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&own[..])).unwrap_or_default();
    parts.iter().for_each(|part| aggregation::merge_swagger(&mut document, part));
    let json = document.to_string();
    Swagger {
        json: pack(json.as_bytes()),
        protobuf: OnceLock::new(),
        tag: tag_of(Sha256::digest(json.as_bytes()).as_slice()),
    }
}

fn tag_of(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02X}")).collect()
}

fn rows_by_version(resources: &Resources) -> Vec<(GroupVersion, Vec<Arc<Resource>>)> {
    let mut all = Vec::new();
    for (group, versions) in resources.groups() {
        for version in versions {
            let of_version = |row: &&Arc<Resource>| row.group == group && row.version == version;
            let rows = resources.all().iter().filter(of_version).cloned().collect();
            all.push((GroupVersion::new(group.clone(), version), rows));
        }
    }
    all
}

/// A document, compressed while it is written, and its tag.
fn written(document: openapi::Document<'_>, versions: &[(GroupVersion, Vec<Arc<Resource>>)]) -> (Bytes, String) {
    let mut sink = Sink { packed: encoder(0), digest: Sha256::new() };
    let is_custom = |row: &Arc<Resource>| row.custom.is_some();
    let make = |row: &Arc<Resource>, schemas: bool| served(row, schemas);
    let written = openapi::write(document, builtin(), versions, &is_custom, &make, &mut sink);
    let packed = written.and_then(|()| sink.packed.finish()).expect("writing to memory does not fail");
    (packed.into(), tag_of(sink.digest.finalize().as_slice()))
}

type Encoder = flate2::write::GzEncoder<Vec<u8>>;

fn encoder(capacity: usize) -> Encoder {
    Encoder::new(Vec::with_capacity(capacity), flate2::Compression::fast())
}

/// Compresses and digests what is written.
struct Sink {
    packed: Encoder,
    digest: Sha256,
}

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.digest.update(bytes);
        self.packed.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn pack(plain: &[u8]) -> Bytes {
    let mut encoder = encoder(plain.len() / 8);
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("writing to memory does not fail").into()
}

/// A compressed document as the client can read it.
fn packed(ctx: &Ctx, content_type: &'static str, body: Bytes) -> Reply {
    let accepts = ctx.headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("gzip") {
        let mut reply = reply::bytes(StatusCode::OK, content_type, body);
        reply.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return reply;
    }
    let mut reply = Reply::new(StreamBody::new(futures::stream::iter(plain(body))).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A compressed document piece by piece: whole, it may be large.
fn plain(packed: Bytes) -> impl Iterator<Item = Result<Frame<Bytes>, BoxError>> {
    let mut decoder = flate2::read::GzDecoder::new(std::io::Cursor::new(packed));
    std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        match decoder.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some(Ok(Frame::data(piece.into())))
            }
            Err(error) => Some(Err(error.into())),
        }
    })
}

fn is_known(ctx: &Ctx, tag: &str) -> bool {
    let sent = ctx.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.split(',').any(|own| own.trim().trim_matches('"') == tag)
}

fn tag(reply: &mut Reply, tag: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        reply.headers_mut().insert(header::ETAG, value);
    }
    reply.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
}

fn unchanged(hash: &str) -> Reply {
    let mut reply = reply::bytes(StatusCode::NOT_MODIFIED, JSON, Bytes::new());
    tag(&mut reply, hash);
    reply
}
