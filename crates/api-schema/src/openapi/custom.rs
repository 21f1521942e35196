//! Custom resources in the documents.

use coracle_api_meta::{GroupVersion, Map, Value};
use serde_json::json;

use super::{Dialect, Served};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const API_VERSION: &str =
    "APIVersion defines the group and the version of the schema that this object follows, such as apps/v1.";
const KIND: &str = "Kind names the type of this object.";
const METADATA: &str = "Standard object's metadata: its name, labels and annotations, and what the server notes of it.";
const LIST_METADATA: &str = "Standard list metadata: the version of the list and how to go on with it.";
/// Keywords that swagger 2.0 has no word for.
const V3_ONLY: [&str; 9] = [
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "nullable",
    "default",
    "x-kubernetes-validations",
    "x-kubernetes-int-or-string",
    "example",
];

/// `com.example.stable.v1.CronTab`: the group's labels from the last on, then version and kind.
pub(super) fn name(gv: &GroupVersion, kind: &str) -> String {
    let mut labels: Vec<&str> = gv.group.split('.').collect();
    labels.reverse();
    format!("{}.{}.{kind}", labels.join("."), gv.version)
}

/// Adds the components of a kind and its list.
pub(super) fn add(dialect: Dialect, gv: &GroupVersion, resource: &Served, schema: &Value, out: &mut Map) {
    let open = dialect == Dialect::V2 && schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let schema = match dialect {
        // Clients take a listed property for the only ones, so that an open object lists none.
        _ if open || !schema.is_object() => json!({ "type": "object", GVK: gvk_of(gv, &resource.kind) }),
        Dialect::V2 => with_type_meta(dialect, swagger(schema), OBJECT_META, gv, &resource.kind),
        Dialect::V3 => with_type_meta(dialect, schema.clone(), OBJECT_META, gv, &resource.kind),
    };
    let own = name(gv, &resource.kind);
    let list = json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": { "items": {
            "description": format!("List of {}.", resource.plural),
            "type": "array",
            "items": dialect.reference(&own),
        } },
    });
    let list = with_type_meta(dialect, list, LIST_META, gv, &resource.list_kind);
    out.insert(own, schema);
    out.insert(name(gv, &resource.list_kind), list);
}

const GVK: &str = "x-kubernetes-group-version-kind";

fn gvk_of(gv: &GroupVersion, kind: &str) -> Value {
    json!([{ "group": gv.group, "version": gv.version, "kind": kind }])
}

fn with_type_meta(dialect: Dialect, mut schema: Value, meta: &str, gv: &GroupVersion, kind: &str) -> Value {
    let reference = dialect.reference(meta);
    let mut metadata = if dialect == Dialect::V3 { json!({ "allOf": [reference] }) } else { reference };
    metadata["description"] = if meta == LIST_META { LIST_METADATA } else { METADATA }.into();
    schema["properties"]["apiVersion"] = json!({ "description": API_VERSION, "type": "string" });
    schema["properties"]["kind"] = json!({ "description": KIND, "type": "string" });
    schema["properties"]["metadata"] = metadata;
    schema[GVK] = gvk_of(gv, kind);
    schema
}

/// A schema without what swagger 2.0 cannot say; parts that stay unsaid accept everything.
fn swagger(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => {
            let loose = object.get("nullable") == Some(&Value::Bool(true))
                || object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
                || object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
            let dropped = |key: &str| {
                V3_ONLY.contains(&key)
                    || (loose && matches!(key, "type" | "items" | "properties" | "additionalProperties"))
            };
            let kept = object.iter().filter(|(key, _)| !dropped(key));
            let named = |key: &str| matches!(key, "properties");
            kept.map(|(key, value)| (key.clone(), if named(key) { properties(value) } else { swagger(value) }))
                .collect()
        }
        Value::Array(items) => Value::Array(items.iter().map(swagger).collect()),
        other => other.clone(),
    }
}

/// Names of properties are no keywords.
fn properties(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(name, schema)| (name.clone(), swagger(schema))).collect(),
        other => other.clone(),
    }
}
