//! Objects to bytes: once, when they are written, with a place for the revision that the store fills in.

use coracle_api_meta::{Map, Value};
use coracle_store::Content;

/// Order of the fields of `metadata`. Source: `metav1.ObjectMeta`.
const META_FIELDS: [&str; 12] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
];

/// `kind` and `apiVersion` first, metadata in upstream's order, the rest as it stands.
pub(crate) fn content(object: &Value) -> Content {
    let mut out = Vec::with_capacity(1024);
    let mut revision_at = None;
    out.push(b'{');
    for field in ["kind", "apiVersion"] {
        if let Some(value) = object.get(field) {
            put_field(&mut out, field, value);
        }
    }
    separate(&mut out);
    out.extend_from_slice(b"\"metadata\":");
    let empty = Map::new();
    let meta = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    put_meta(&mut out, meta, &mut revision_at);
    for (field, value) in object.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "kind" | "apiVersion" | "metadata") {
            put_field(&mut out, field, value);
        }
    }
    out.push(b'}');
    Content { bytes: out.into(), revision_at }
}

fn put_meta(out: &mut Vec<u8>, meta: &Map, revision_at: &mut Option<usize>) {
    out.push(b'{');
    for field in META_FIELDS {
        if field == "resourceVersion" {
            separate(out);
            out.extend_from_slice(b"\"resourceVersion\":\"");
            *revision_at = Some(out.len());
            out.push(b'"');
            continue;
        }
        let Some(value) = meta.get(field) else { continue };
        match (field, value) {
            (_, Value::Null) => {}
            ("labels" | "annotations", Value::Object(map)) => put_sorted(out, field, map),
            _ => put_field(out, field, value),
        }
    }
    for (field, value) in meta {
        if !META_FIELDS.contains(&field.as_str()) && !value.is_null() {
            put_field(out, field, value);
        }
    }
    out.push(b'}');
}

fn put_sorted(out: &mut Vec<u8>, field: &str, map: &Map) {
    if map.is_empty() {
        return;
    }
    let mut sorted: Vec<(&String, &Value)> = map.iter().collect();
    sorted.sort_by_key(|(key, _)| *key);
    put_key(out, field);
    out.push(b'{');
    for (key, value) in sorted {
        put_field(out, key, value);
    }
    out.push(b'}');
}

fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
}

fn put_key(out: &mut Vec<u8>, key: &str) {
    separate(out);
    put_value(out, &Value::from(key));
    out.push(b':');
}

fn put_field(out: &mut Vec<u8>, key: &str, value: &Value) {
    put_key(out, key);
    put_value(out, value);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("writing to memory does not fail, and keys are strings");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_comes_in_order_with_a_place_for_the_revision() {
        let object = json!({"spec": {"b": 1, "a": {}}, "apiVersion": "v1", "metadata": {"labels": {"z": "1", "a": "2"},
            "resourceVersion": "7", "name": "n", "finalizers": ["x"], "creationTimestamp": null}, "kind": "Pod"});
        let content = content(&object);
        let text = String::from_utf8(content.bytes.to_vec()).expect("utf-8");
        assert_eq!(
            text,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"n","resourceVersion":"","labels":{"a":"2","z":"1"},"finalizers":["x"]},"spec":{"b":1,"a":{}}}"#
        );
        let at = content.revision_at.expect("place");
        assert_eq!(&text[at - 1..=at], "\"\"");
    }
}
