//! Whether a schema is structural: every value that is validated has a declared shape.

use coracle_api_meta::{FieldError, FieldPath};
use regex::Regex;

use super::node::{Additional, Checks, Node};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The errors of a schema, sorted.
pub(super) fn check(node: &Node, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(node, Level::Root, path, &mut errors);
    if let Some(checks) = &node.checks {
        completeness(checks, Some(node), path, path, &mut errors);
    }
    errors.sort_by_key(ToString::to_string);
    errors
}

fn invariants(node: &Node, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if node.ty == "array" && node.items.is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = &node.items {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in &node.properties {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = path.child("additionalProperties");
    if node.additional.is_some() && level == Level::Root {
        errors.push(FieldError::forbidden(&additional, "must not be used at the root"));
    }
    if let Some(Additional::Schema(schema)) = &node.additional {
        invariants(schema, Level::Field, &additional, errors);
    }
    extensions(node, path, errors);
    if let Some(checks) = &node.checks {
        let skip_any_of = checks.any_of_int_or_string;
        let skip_all_of_any_of = checks.all_of.first().and_then(|first| first.checks.as_ref());
        let skip_all_of_any_of = skip_all_of_any_of.is_some_and(|checks| checks.any_of_int_or_string);
        values(checks, skip_any_of, skip_all_of_any_of, path, errors);
    }
    types(node, level, path, errors);
    metadata(node, level, path, errors);
}

fn extensions(node: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const DETAIL: &str = "must be false if x-kubernetes-int-or-string is true";
    for (set, name) in [
        (node.preserve_unknown, "x-kubernetes-preserve-unknown-fields"),
        (node.embedded, "x-kubernetes-embedded-resource"),
    ] {
        if node.int_or_string && set {
            errors.push(FieldError::invalid(&path.child(name), true, DETAIL));
        }
    }
}

fn types(node: &Node, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const EMBEDDED: &str = "must be object if x-kubernetes-embedded-resource is true";
    let ty = path.child("type");
    if node.embedded && node.ty != "object" {
        errors.push(if node.ty.is_empty() {
            FieldError::required(&ty, EMBEDDED)
        } else {
            FieldError::invalid(&ty, node.ty.clone(), EMBEDDED)
        });
    } else if node.ty.is_empty() && !node.int_or_string && !node.preserve_unknown {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&ty, detail));
    }
    if node.embedded && node.additional.is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !node.ty.is_empty() && node.ty != "object" {
        errors.push(FieldError::invalid(&ty, node.ty.clone(), "must be object at the root"));
    }
    if node.embedded && !node.preserve_unknown && node.properties.is_empty() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

/// What may be said about the metadata of an object: the name and nothing else.
fn metadata(node: &Node, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let is_object = level == Level::Root || node.embedded;
    let properties = path.child("properties");
    for name in ["kind", "apiVersion"] {
        if let Some(property) = node.properties.get(name).filter(|property| is_object && property.ty != "string") {
            let path = properties.key(name).child("type");
            errors.push(FieldError::invalid(&path, property.ty.clone(), "must be string"));
        }
    }
    let Some(metadata) = node.properties.get("metadata") else { return };
    let path = properties.key("metadata");
    if is_object && metadata.ty != "object" {
        errors.push(FieldError::invalid(&path.child("type"), metadata.ty.clone(), "must be object"));
    }
    let named = metadata.properties.keys().all(|name| name == "name" || name == "generateName");
    let plain = metadata.checks.is_none()
        && metadata.items.is_none()
        && metadata.additional.is_none()
        && metadata.rules.is_empty()
        && metadata.map_type.is_empty()
        && !(metadata.nullable || metadata.described || metadata.preserve_unknown || metadata.embedded);
    if level == Level::Root && !(named && plain) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn values(
    checks: &Checks,
    skip_any_of: bool,
    skip_all_of_any_of: bool,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if !skip_any_of {
        for (index, node) in checks.any_of.iter().enumerate() {
            nested(node, false, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, node) in checks.all_of.iter().enumerate() {
        nested(node, skip_all_of_any_of && index == 0, &path.child("allOf").index(index), errors);
    }
    for (index, node) in checks.one_of.iter().enumerate() {
        nested(node, false, &path.child("oneOf").index(index), errors);
    }
    if let Some(node) = &checks.not {
        nested(node, false, &path.child("not"), errors);
    }
    if !checks.pattern.is_empty()
        && let Err(error) = Regex::new(&checks.pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), checks.pattern.clone(), detail));
    }
}

/// Under a junctor values are only validated; nothing may be declared.
fn nested(node: &Node, skip_any_of: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(checks) = &node.checks {
        values(checks, skip_any_of, false, path, errors);
    }
    if let Some(items) = &node.items {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, property) in &node.properties {
        nested(property, false, &path.child("properties").key(name), errors);
    }
    for (declared, name, detail) in [
        (!node.ty.is_empty(), "type", "must be empty to be structural"),
        (node.additional.is_some(), "additionalProperties", "must be undefined to be structural"),
        (node.default.is_some(), "default", "must be undefined to be structural"),
        (node.described, "description", "must be empty to be structural"),
        (node.nullable, "nullable", "must be false to be structural"),
        (node.preserve_unknown, "x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        (node.embedded, "x-kubernetes-embedded-resource", "must be false to be structural"),
        (node.int_or_string, "x-kubernetes-int-or-string", "must be false to be structural"),
        (!node.list_map_keys.is_empty(), "x-kubernetes-list-map-keys", "must be empty to be structural"),
        (!node.list_type.is_empty(), "x-kubernetes-list-type", "must be undefined to be structural"),
        (!node.map_type.is_empty(), "x-kubernetes-map-type", "must be undefined to be structural"),
        (!node.rules.is_empty(), "x-kubernetes-validations", "must be empty to be structural"),
    ] {
        if declared {
            errors.push(FieldError::forbidden(&path.child(name), detail));
        }
    }
    if node.properties.contains_key("metadata") {
        let path = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&path, "must not be specified in a nested context"));
    }
}

/// What is validated at `at` must be declared at `path`.
fn completeness(checks: &Checks, node: Option<&Node>, path: &FieldPath, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let lists = [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)];
    if let Some(not) = &checks.not {
        nested_completeness(not, node, path, &at.child("not"), errors);
    }
    for (name, nodes) in lists {
        for (index, inner) in nodes.iter().enumerate() {
            nested_completeness(inner, node, path, &at.child(name).index(index), errors);
        }
    }
}

fn nested_completeness(
    inner: &Node,
    node: Option<&Node>,
    path: &FieldPath,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Some(node) = node else {
        errors.push(FieldError::required(path, format!("because it is defined in {at}")));
        return;
    };
    if let Some(checks) = &inner.checks {
        completeness(checks, Some(node), path, at, errors);
    }
    if let Some(items) = &inner.items {
        nested_completeness(items, node.items.as_deref(), &path.child("items"), &at.child("items"), errors);
    }
    for (name, property) in &inner.properties {
        let (path, at) = (path.child("properties").key(name), at.child("properties").key(name));
        nested_completeness(property, node.properties.get(name), &path, &at, errors);
    }
}
