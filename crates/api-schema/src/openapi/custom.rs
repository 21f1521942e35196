//! Custom resources in the documents.

use coracle_api_meta::{GroupVersion, Map, Value};
use serde_json::json;

use super::{Dialect, Served};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const API_VERSION: &str = "Group and version of the schema that the object follows, such as apps/v1.";
const KIND: &str = "The kind of the object.";
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
    let mut schema = if dialect == Dialect::V2 { swagger(schema) } else { schema.clone() };
    if !schema.is_object() {
        schema = json!({ "type": "object" });
    }
    let own = name(gv, &resource.kind);
    with_type_meta(dialect, &mut schema, OBJECT_META, gv, &resource.kind);
    let mut list = json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": { "items": {
            "description": format!("List of {}.", resource.plural),
            "type": "array",
            "items": dialect.reference(&own),
        } },
    });
    with_type_meta(dialect, &mut list, LIST_META, gv, &resource.list_kind);
    out.insert(own, schema);
    out.insert(name(gv, &resource.list_kind), list);
}

fn with_type_meta(dialect: Dialect, schema: &mut Value, meta: &str, gv: &GroupVersion, kind: &str) {
    let Value::Object(schema) = schema else { return };
    let reference = dialect.reference(meta);
    let metadata = if dialect == Dialect::V3 { json!({ "allOf": [reference] }) } else { reference };
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties.insert("apiVersion".to_owned(), json!({ "description": API_VERSION, "type": "string" }));
        properties.insert("kind".to_owned(), json!({ "description": KIND, "type": "string" }));
        properties.insert("metadata".to_owned(), metadata);
    }
    let gvk = json!([{ "group": gv.group, "version": gv.version, "kind": kind }]);
    schema.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
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
