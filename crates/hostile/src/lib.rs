//! Every decoder that meets bytes from outside, one function each: [`TARGETS`] names them.
//!
//! A target takes any bytes and returns; it panics when the decoder breaks a promise, such as reading back what it wrote.
//! The fuzzer (`fuzz/`) calls targets with what it finds, the tests with what [`corpus`] makes, so that a finding
//! becomes a seed and stays mended. Limits keep a target quick: one that hangs is a finding too.

pub mod corpus;
#[allow(dead_code)]
#[path = "../../apiserver/src/http/query.rs"]
mod query;
#[allow(dead_code)]
#[path = "../../apiserver/src/http/request_info.rs"]
mod request_info;

use coracle_api_cel as cel;
use coracle_api_merge as merge;
use coracle_api_meta::{FieldSelector, Gvk, LabelSelector, Quantity, Value};
use coracle_api_schema::{self as schema, Limits, TypeId, builtin, proto};
use coracle_streams::{spdy, ws};

/// A decoder under a name.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 10] = [
    ("json", json),
    ("yaml", yaml),
    ("protobuf", protobuf),
    ("strategic_merge", strategic_merge),
    ("patches", patches),
    ("apply", apply),
    ("cel", expression),
    ("selectors", selectors),
    ("request_path", request_path),
    ("frames", frames),
];

/// Between the parts of an input that needs several.
pub const SEPARATOR: u8 = 0;
const LIMITS: Limits = Limits { body_bytes_max: 64 * 1024, depth_max: 100 };
/// Steps of an evaluation.
const COST_MAX: u64 = 20_000;

fn pod() -> TypeId {
    builtin().kind(&Gvk::new("", "v1", "Pod")).expect("pods are built in")
}

fn parts(data: &[u8]) -> Option<(Value, Value)> {
    let at = data.iter().position(|byte| *byte == SEPARATOR)?;
    let (first, second) = (data.get(..at)?, data.get(at + 1..)?);
    Some((serde_json::from_slice(first).ok()?, serde_json::from_slice(second).ok()?))
}

/// JSON bodies: with the types of a pod, and without any.
pub fn json(data: &[u8]) {
    for ty in [None, Some(pod())] {
        let Ok(decoded) = schema::decode_json(data, LIMITS, builtin(), ty) else { continue };
        let again = schema::decode_value(&decoded.value, LIMITS, builtin(), ty).expect("what was read can be read");
        assert_eq!(again.value, decoded.value, "reading twice changes nothing");
    }
}

/// YAML bodies, aliases and all.
pub fn yaml(data: &[u8]) {
    for ty in [None, Some(pod())] {
        let _ = schema::decode_yaml(data, LIMITS, builtin(), ty);
    }
}

/// Protobuf bodies in their envelope.
pub fn protobuf(data: &[u8]) {
    let Ok(object) = proto::decode_as(data, LIMITS, builtin(), Some(&Gvk::new("", "v1", "Pod"))) else { return };
    if let Ok(bytes) = proto::encode(&object, builtin()) {
        let limits = Limits { body_bytes_max: usize::MAX, ..LIMITS };
        proto::decode(&bytes, limits, builtin()).expect("what was written can be read");
    }
}

/// An object and a strategic merge patch.
pub fn strategic_merge(data: &[u8]) {
    let Some((object, patch)) = parts(data) else { return };
    let _ = merge::strategic_merge_patch(builtin(), pod(), object.clone(), &patch);
    let _ = merge::create_two_way_merge_patch(builtin(), pod(), &object, &patch);
}

/// An object and a JSON patch or merge patch.
pub fn patches(data: &[u8]) {
    let Some((object, patch)) = parts(data) else { return };
    let _ = merge::json_patch(object.clone(), &patch);
    let _ = merge::merge_patch(object, &patch);
}

/// A live object and an applied one.
pub fn apply(data: &[u8]) {
    let Some((live, applied)) = parts(data) else { return };
    let (schemas, gvk) = (builtin(), Gvk::new("", "v1", "Pod"));
    for ty in [None, Some(pod())] {
        let versions = merge::OneShape { schemas, ty };
        let manager = merge::FieldManager {
            schemas,
            ty,
            gvk: &gvk,
            subresource: "",
            filter: &merge::FieldFilter::All,
            versions: &versions,
            time: "2026-01-01T00:00:00Z",
        };
        let mut updated = applied.clone();
        manager.update(Some(&live), &mut updated, "updater");
        for force in [false, true] {
            if let Ok(merged) = manager.apply(Some(&live), &applied, "applier", force) {
                let again = manager.apply(Some(&merged), &applied, "applier", false);
                assert!(again.is_ok(), "applying twice conflicts with oneself: {:?}", again.err());
            }
        }
    }
    let _ = merge::validate_managed_fields(live.pointer("/metadata/managedFields").unwrap_or(&Value::Null));
}

/// An expression, evaluated against itself.
pub fn expression(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let env = cel::Env::default().with("self", cel::Ty::Dyn).with("text", cel::Ty::text());
    let Ok(program) = cel::compile(source, &env) else { return };
    let object = serde_json::json!({"a": 1, "b": [1, 2, 3], "c": {"d": "e"}, "f": 1.5, "g": null, "h": true});
    let variables = [("self", cel::Val::of(&object, &cel::Ty::Dyn)), ("text", cel::Val::Str(source.into()))];
    let mut meter = cel::Meter::new(COST_MAX);
    if let Ok(value) = program.eval(&variables, &mut meter) {
        let _ = value.to_json();
    }
}

/// Selectors of labels and fields, and quantities.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let _ = selector.matches(None);
    }
    let _ = FieldSelector::parse(text);
    let _ = Quantity::parse(text);
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let _ = LabelSelector::from_value(&value);
    }
}

/// The path and query of a request.
pub fn request_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, raw_query) = text.split_once('?').unwrap_or((text, ""));
    let parsed = query::Query::parse(raw_query);
    for method in [http::Method::GET, http::Method::POST, http::Method::DELETE] {
        let info = request_info::RequestInfo::read(&method, path, &parsed);
        assert!(!info.is_resource || !info.resource.is_empty() || path.contains('%'), "{path}");
        let _ = (info.is_long_running(&parsed), info.is_mutating());
    }
    assert_eq!(query::decode(&query::encode(text), true), text);
}

/// Frames of WebSocket and of SPDY, in one piece and byte by byte.
pub fn frames(data: &[u8]) {
    for size in [data.len().max(1), 1] {
        let mut decoder = ws::Decoder::default();
        'pieces: for piece in data.chunks(size) {
            decoder.feed(piece);
            loop {
                match decoder.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'pieces,
                }
            }
        }
        let mut decoder = spdy::Decoder::default();
        'pieces: for piece in data.chunks(size) {
            decoder.feed(piece);
            loop {
                match decoder.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'pieces,
                }
            }
        }
    }
}
