//! Protobuf: every kind survives, known bytes, and nothing makes the reader panic.

use coracle_api_meta::{Gvk, Map, Value};
use coracle_api_schema::{
    Limits, ScalarKind, Schemas, Special, Type, TypeId, builtin, normalise,
    proto::{self, ProtoError},
};
use proptest::prelude::*;

/// A value with every field set, as deep as `depth` allows.
fn rich(schemas: &Schemas, ty: TypeId, depth: usize, salt: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match schemas.get(ty) {
        Type::Struct(ty) => {
            let fields = ty.fields.iter().enumerate().filter(|(_, field)| field.protobuf > 0);
            Value::Object(
                fields.filter_map(|(i, f)| Some((f.name.clone(), rich(schemas, f.ty, depth, salt + i)?))).collect(),
            )
        }
        Type::List(list) => {
            let items = (0..2).filter_map(|i| rich(schemas, list.item, depth, salt + i));
            let items: Vec<Value> = items.collect();
            return (!items.is_empty()).then_some(Value::Array(items));
        }
        Type::Map(map) => {
            let entries = ["a", "b/c"].into_iter().enumerate();
            let entries: Map =
                entries.filter_map(|(i, k)| Some((k.to_owned(), rich(schemas, map.value, depth, salt + i)?))).collect();
            return (!entries.is_empty()).then_some(Value::Object(entries));
        }
        Type::Any => match schemas.special.get(&ty) {
            Some(Special::SchemaOrBool) => (salt.is_multiple_of(2)).into(),
            Some(Special::SchemaOrArray) => serde_json::json!({"type": "string"}),
            Some(Special::SchemaOrStringArray) => serde_json::json!(["x", "y"]),
            Some(_) => serde_json::json!({"f:a": {}, "n": [1, 1.5, null, "x"]}),
            None => return None,
        },
        Type::Scalar(kind) => match kind {
            ScalarKind::String => format!("text {salt}").into(),
            ScalarKind::Boolean => true.into(),
            ScalarKind::Int32 => (-(i64::try_from(salt).expect("small")) - 1).into(),
            ScalarKind::Int64 | ScalarKind::Integer => (i64::MAX - i64::try_from(salt).expect("small")).into(),
            ScalarKind::Double => 1.25.into(),
            ScalarKind::Bytes => "AQID".into(),
            ScalarKind::Quantity => "1500m".into(),
            ScalarKind::IntOrString if salt.is_multiple_of(2) => "25%".into(),
            ScalarKind::IntOrString => 8080.into(),
            ScalarKind::Time => "2024-02-29T12:00:00Z".into(),
            ScalarKind::MicroTime => "2024-02-29T12:00:00.000001Z".into(),
            ScalarKind::Duration => return None,
        },
    })
}

fn kinds() -> impl Iterator<Item = (&'static Gvk, TypeId)> {
    builtin().by_gvk.iter().map(|(gvk, ty)| (gvk, *ty))
}

fn object(gvk: &Gvk, ty: TypeId, depth: usize) -> Value {
    let mut value = rich(builtin(), ty, depth, 0).expect("depth");
    value["apiVersion"] = gvk.api_version().into();
    value["kind"] = gvk.kind.clone().into();
    normalise(&value, builtin(), ty).expect("normal")
}

fn has_form(value: &Value) -> bool {
    !matches!(proto::encode(value, builtin()), Err(ProtoError::NoForm { .. }))
}

#[test]
fn every_kind_survives_the_round_trip() {
    let mut survived = 0;
    for (gvk, ty) in kinds() {
        for depth in [2, 4, 12] {
            let value = object(gvk, ty, depth);
            // Watch events have frames instead of envelopes.
            if gvk.kind == "WatchEvent" || !has_form(&value) {
                continue;
            }
            let bytes = proto::encode(&value, builtin()).unwrap_or_else(|error| panic!("{gvk:?}: {error}"));
            let back = proto::decode(&bytes, Limits { body_bytes_max: bytes.len(), ..Limits::default() }, builtin());
            assert_eq!(back.unwrap_or_else(|error| panic!("{gvk:?}: {error}")), value, "{gvk:?}");
            survived += 1;
        }
    }
    assert!(survived > 400, "{survived}");
}

#[test]
fn kinds_without_a_form_are_the_known_ones() {
    let mut without: Vec<String> =
        kinds().filter(|(gvk, ty)| !has_form(&object(gvk, *ty, 3))).map(|(gvk, _)| gvk.kind.clone()).collect();
    without.sort();
    without.dedup();
    expect_test::expect![[r#"["Table"]"#]].assert_eq(&format!("{without:?}"));
}

#[test]
fn a_config_map_as_go_writes_it() {
    let value =
        serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "n"}, "data": {"k": "v"}});
    let bytes = proto::encode(&value, builtin()).expect("encodes");
    let mut expected =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01n\x12\x06\x0a\x01k\x12\x01v".to_vec();
    expected.extend_from_slice(b"\x1a\0\x22\0");
    assert_eq!(bytes, expected);
}

#[test]
fn volumes_are_nested_on_the_wire() {
    let value = serde_json::json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}], "containers": []}, "status": {}});
    let bytes = proto::encode(&value, builtin()).expect("encodes");
    // Volume: name = 1, volumeSource = 2 { emptyDir = 2 { medium = 1 } }.
    let volume = b"\x0a\x0f\x0a\x01v\x12\x0a\x12\x08\x0a\x06Memory";
    assert!(bytes.windows(volume.len()).any(|window| window == volume), "{bytes:x?}");
}

#[test]
fn watch_frames_carry_their_length() {
    let frame = proto::watch_frame("ADDED", b"object");
    assert_eq!(frame, b"\0\0\0\x11\x0a\x05ADDED\x12\x08\x0a\x06object");
}

#[test]
fn lists_are_spliced_from_messages() {
    let schemas = builtin();
    let item = serde_json::json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let body = proto::encode_body(&item, schemas, &Gvk::new("", "v1", "ConfigMap")).expect("encodes");
    let metadata = serde_json::json!({"resourceVersion": "7"});
    let bytes = proto::encode_list("v1", "ConfigMapList", &metadata, [body.as_slice()].into_iter(), schemas);
    let list = proto::decode(&bytes.expect("encodes"), Limits::default(), schemas).expect("decodes");
    let expected =
        serde_json::json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": [item]});
    assert_eq!(list, expected);
}

#[test]
fn foreign_bodies_are_refused() {
    let limits = Limits::default();
    assert_eq!(proto::decode(b"{}", limits, builtin()), Err(ProtoError::Magic));
    assert_eq!(proto::decode(b"k8s\0", limits, builtin()), Err(ProtoError::NoKind));
    let gvk = Gvk::new("", "v1", "DeleteOptions");
    let options = proto::decode_as(b"k8s\0", limits, builtin(), Some(&gvk)).expect("decodes");
    assert_eq!(
        options,
        Value::Object(Map::from_iter([("kind".into(), "DeleteOptions".into()), ("apiVersion".into(), "v1".into())]))
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..400, kind in 0_usize..1000) {
        let schemas = builtin();
        let mut kinds: Vec<_> = kinds().collect();
        kinds.sort_by_key(|(gvk, _)| (*gvk).clone());
        let (gvk, ty) = kinds[kind % kinds.len()];
        let mut body = b"k8s\0".to_vec();
        body.extend_from_slice(&bytes);
        let _ = proto::decode_as(&body, Limits::default(), schemas, Some(gvk));
        if let Ok(mut whole) = proto::encode(&object(gvk, ty, 5), schemas) {
            let at = at % whole.len();
            whole.splice(at.., bytes);
            if let Ok(value) = proto::decode(&whole, Limits::default(), schemas) {
                let _ = proto::encode(&value, schemas);
            }
        }
    }
}
