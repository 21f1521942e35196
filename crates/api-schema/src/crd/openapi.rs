//! Keywords that a custom resource's schema may not use, or not together.

use std::collections::BTreeSet;

use coracle_api_meta::{FieldError, FieldErrorKind, FieldPath, Value};

/// Forbidden keywords and why.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("$ref", "$ref is not supported"),
];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Where a schema stands, as far as defaults mind.
#[derive(Clone, Copy)]
struct Place {
    root: bool,
    in_metadata: bool,
    no_defaults: &'static str,
}

pub(super) fn check(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if schema["nullable"] == true {
        errors.push(FieldError::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    visit(schema, path, Place { root: true, in_metadata: false, no_defaults: "" }, errors);
}

fn visit(schema: &Value, path: &FieldPath, place: Place, errors: &mut Vec<FieldError>) {
    if !schema.is_object() {
        return;
    }
    keywords(schema, path, place, errors);
    lists(schema, path, errors);
    rules(schema, path, errors);
    let inner = Place { root: false, ..place };
    let additional = &schema["additionalProperties"];
    if additional.is_object() || additional.is_boolean() {
        let has_properties = schema["properties"].as_object().is_some_and(|properties| !properties.is_empty());
        if has_properties && *additional != true {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
        }
        let no_defaults = if place.in_metadata {
            "inside additionalProperties applying to object metadata"
        } else {
            place.no_defaults
        };
        visit(additional, &path.child("additionalProperties"), Place { no_defaults, ..inner }, errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut inner = inner;
        let embedded = schema["x-kubernetes-embedded-resource"] == true;
        if (place.root || embedded) && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            inner.in_metadata = true;
            if place.root {
                inner.no_defaults = match name.as_str() {
                    "apiVersion" => "in top-level apiVersion",
                    "kind" => "in top-level kind",
                    _ => "in top-level metadata",
                };
            }
        }
        visit(property, &path.child("properties").key(name), inner, errors);
    }
    visit(&schema["not"], &path.child("not"), inner, errors);
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for (index, schema) in schema[junctor].as_array().into_iter().flatten().enumerate() {
            visit(schema, &path.child(junctor).index(index), inner, errors);
        }
    }
    visit(&schema["items"], &path.child("items"), inner, errors);
}

fn keywords(schema: &Value, path: &FieldPath, place: Place, errors: &mut Vec<FieldError>) {
    let ty = schema["type"].as_str().unwrap_or_default();
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(not_supported(&path.child("type"), &schema["type"], &TYPES));
    }
    if schema.get("default").is_some_and(|default| !default.is_null()) && !place.no_defaults.is_empty() {
        let detail = format!("must not be set {}", place.no_defaults);
        errors.push(FieldError::forbidden(&path.child("default"), detail));
    }
    for (keyword, detail) in UNSUPPORTED {
        let used = schema.get(keyword).is_some_and(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty() || keyword == "$ref",
            Value::Object(object) => !object.is_empty() || keyword == "dependencies",
            _ => true,
        });
        if used {
            errors.push(FieldError::forbidden(&path.child(keyword), detail));
        }
    }
    if ty == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
    if schema["items"].as_array().is_some_and(|items| !items.is_empty()) {
        errors.push(FieldError::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if place.in_metadata && schema["x-kubernetes-embedded-resource"] == true {
        let path = path.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&path, "must not be used inside of resource meta"));
    }
    if schema["uniqueItems"] == true {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&path, false, "must be true or undefined"));
    }
}

/// `x-kubernetes-list-type`, `-list-map-keys` and `-map-type`.
fn lists(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let word = |key: &str| schema[key].as_str().unwrap_or_default();
    let (ty, map_type, list_type) = (word("type"), word("x-kubernetes-map-type"), word("x-kubernetes-list-type"));
    let wrong_type = |wanted: &str, extension: &str| {
        let detail = format!("must be {wanted} if {extension} is specified");
        let path = path.child("type");
        if ty.is_empty() { FieldError::required(&path, detail) } else { FieldError::invalid(&path, ty, detail) }
    };
    if !map_type.is_empty() {
        if ty != "object" {
            errors.push(wrong_type("object", "x-kubernetes-map-type"));
        }
        if !["atomic", "granular"].contains(&map_type) {
            let path = path.child("x-kubernetes-map-type");
            errors.push(not_supported(&path, &schema["x-kubernetes-map-type"], &["atomic", "granular"]));
        }
    }
    let items = &schema["items"];
    if !list_type.is_empty() {
        if ty != "array" {
            errors.push(wrong_type("array", "x-kubernetes-list-type"));
        } else if list_type == "set" {
            set_items(items, &path.child("items"), errors);
        }
        if !["atomic", "set", "map"].contains(&list_type) {
            let path = path.child("x-kubernetes-list-type");
            errors.push(not_supported(&path, &schema["x-kubernetes-list-type"], &["atomic", "set", "map"]));
        }
    }
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !keys.is_empty() && list_type != "map" {
        let path = path.child("x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(if list_type.is_empty() {
            FieldError::required(&path, detail)
        } else {
            FieldError::invalid(&path, list_type, detail)
        });
    }
    if list_type == "map" {
        map_items(schema, &keys, path, errors);
    }
    if matches!(list_type, "map" | "set") && items["nullable"] == true {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&path.child("items").child("nullable"), detail));
    }
}

fn set_items(items: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const DETAIL: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (list_type, map_type) = (&items["x-kubernetes-list-type"], &items["x-kubernetes-map-type"]);
    if items["type"] == "array" && !list_type.is_null() && list_type != "atomic" {
        errors.push(FieldError::invalid(&path.child("x-kubernetes-list-type"), list_type.clone(), DETAIL));
    }
    if items["type"] == "object" && map_type != "atomic" {
        errors.push(FieldError::invalid(&path.child("x-kubernetes-map-type"), list_type.clone(), DETAIL));
    }
}

fn map_items(schema: &Value, keys: &[&str], path: &FieldPath, errors: &mut Vec<FieldError>) {
    let (items, keys_path) = (&schema["items"], path.child("x-kubernetes-list-map-keys"));
    if keys.is_empty() {
        errors.push(FieldError::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    if !items.is_object() {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&path.child("items"), detail));
        return;
    }
    if items["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        let ty = items["type"].as_str().unwrap_or_default();
        errors.push(FieldError::invalid(&path.child("items").child("type"), ty, detail));
        return;
    }
    let mut seen = BTreeSet::new();
    for key in keys {
        let property = &items["properties"][key];
        let shown = schema["x-kubernetes-list-map-keys"].clone();
        let property_path = path.child("items").child("properties").key(key);
        if property.is_null() {
            errors.push(FieldError::invalid(&keys_path, shown.clone(), "entries must all be names of item properties"));
        } else if matches!(property["type"].as_str(), Some("array" | "object")) {
            let ty = property["type"].clone();
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&property_path.child("type"), ty, detail));
        }
        if !seen.insert(key) {
            errors.push(FieldError::invalid(&keys_path, shown, "must not contain duplicate entries"));
        }
        if property.is_null() {
            continue;
        }
        let required = items["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key));
        if !required && property.get("default").is_none_or(Value::is_null) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&property_path.child("default"), detail));
        }
        if property["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&property_path.child("nullable"), detail));
        }
    }
}

/// The form of `x-kubernetes-validations`.
fn rules(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, rule) in schema["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        let text = |key: &str| rule[key].as_str().unwrap_or_default();
        let (code, message) = (text("rule").trim(), text("message").trim());
        if code.is_empty() {
            errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
        } else if message.is_empty() && !text("message").is_empty() {
            let path = path.child("message");
            errors.push(FieldError::invalid(&path, text("message"), "must be non-empty if specified"));
        } else if message.contains(['\n', '\r']) {
            errors.push(FieldError::invalid(&path.child("message"), text("message"), "must not contain line breaks"));
        } else if code.contains(['\n', '\r']) && message.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&path.child("message"), detail));
        }
        if !text("messageExpression").is_empty() && text("messageExpression").trim().is_empty() {
            let path = path.child("messageExpression");
            errors.push(FieldError::required(&path, "messageExpression must be non-empty if specified"));
        }
        if !text("reason").is_empty() && !REASONS.contains(&text("reason")) {
            errors.push(not_supported(&path.child("reason"), &rule["reason"], &REASONS));
        }
    }
}

/// `NotSupported` with the values in the order given.
fn not_supported(path: &FieldPath, value: &Value, supported: &[&str]) -> FieldError {
    let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
    FieldError {
        path: path.clone(),
        kind: FieldErrorKind::NotSupported,
        value: value.clone(),
        detail: format!("supported values: {}", names.join(", ")),
    }
}
