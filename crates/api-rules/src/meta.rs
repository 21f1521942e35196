//! Rules of `metadata`. Source: `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.

use std::collections::BTreeSet;

use coracle_api_meta::{FieldPath, Value, names};

use crate::at::{At, Errors};
use crate::formats::mask_trailing_dash;

/// What names of a kind look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// `a.b-c`: most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces, services.
    Label,
    /// RFC 1035 label.
    Label1035,
    /// Anything that can stand in a path: RBAC kinds.
    PathSegment,
    /// Names of resource slices and the like: subdomains with `/`-separated parts are not names of objects, so this is any text.
    Any,
}

impl NameRule {
    /// `prefix`: the name is a `generateName`.
    #[must_use]
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        let masked = if prefix { mask_trailing_dash(name) } else { name.to_owned() };
        match self {
            Self::Subdomain => names::is_dns1123_subdomain(&masked),
            Self::Label => names::is_dns1123_label(&masked),
            Self::Label1035 => names::is_dns1035_label(&masked),
            Self::PathSegment if prefix => {
                names::is_path_segment(name).into_iter().filter(|text| text.starts_with("may not contain")).collect()
            }
            Self::PathSegment => names::is_path_segment(name),
            Self::Any => Vec::new(),
        }
    }
}

/// All annotations of an object together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
pub const FIELD_MANAGER_BYTES_MAX: usize = 128;
const SUBRESOURCE_BYTES_MAX: usize = 256;

/// `metadata` of a new object, whose name is made already.
#[must_use]
pub fn validate_object_meta(meta: &Value, namespaced: bool, rule: NameRule, path: &FieldPath) -> Errors {
    let mut errors = Errors::new();
    let meta = At::placed(meta, path.clone());
    check(&meta, namespaced, rule, &mut errors);
    errors
}

pub(crate) fn check(meta: &At<'_>, namespaced: bool, rule: NameRule, errors: &mut Errors) {
    let generate = meta.get("generateName");
    if !generate.is_empty() {
        generate.invalid_all(errors, rule.check(generate.str(), true));
    }
    let name = meta.get("name");
    if name.is_empty() {
        name.required(errors, "name or generateName is required");
    } else {
        name.invalid_all(errors, rule.check(name.str(), false));
    }
    let namespace = meta.get("namespace");
    if !namespaced {
        if !namespace.is_empty() {
            namespace.forbidden(errors, "not allowed on this type");
        }
    } else if namespace.is_empty() {
        namespace.required(errors, "");
    } else {
        namespace.invalid_all(errors, names::is_dns1123_label(namespace.str()));
    }
    meta.get("generation").non_negative(errors);
    labels(&meta.get("labels"), errors);
    annotations(&meta.get("annotations"), errors);
    owner_references(&meta.get("ownerReferences"), errors);
    finalizers(&meta.get("finalizers"), errors);
    managed_fields(&meta.get("managedFields"), errors);
}

/// `metadata` of a changed object. That the resource version is there and right is the registry's to see.
#[must_use]
pub fn validate_object_meta_update(new: &Value, old: &Value, path: &FieldPath) -> Errors {
    let mut errors = Errors::new();
    check_update(&At::placed(new, path.clone()), &At::placed(old, path.clone()), &mut errors);
    errors
}

pub(crate) fn check_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if old.has("deletionTimestamp") {
        no_new_finalizers(&new.get("finalizers"), &old.get("finalizers"), errors);
    }
    if new.number("generation") < old.number("generation") {
        let generation = new.get("generation");
        generation.invalid_as(errors, generation.int(), "must not be decremented");
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        new.get(field).immutable(errors, &old.get(field));
    }
    labels(&new.get("labels"), errors);
    annotations(&new.get("annotations"), errors);
    owner_references(&new.get("ownerReferences"), errors);
    managed_fields(&new.get("managedFields"), errors);
}

/// A map of labels.
pub fn labels(labels: &At<'_>, errors: &mut Errors) {
    for (key, value) in labels.entries() {
        label_name(labels, key, errors);
        for text in names::is_label_value(value.str()) {
            labels.invalid_as(errors, value.str(), text);
        }
    }
}

pub(crate) fn label_name(at: &At<'_>, key: &str, errors: &mut Errors) {
    for text in names::is_qualified_name(key) {
        at.invalid_as(errors, key, text);
    }
}

pub(crate) fn annotations(annotations: &At<'_>, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations.entries() {
        for text in names::is_qualified_name(&key.to_lowercase()) {
            annotations.invalid_as(errors, key, text);
        }
        bytes += key.len() + value.str().len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        annotations.too_long(errors, ANNOTATIONS_BYTES_MAX);
    }
}

fn owner_references(references: &At<'_>, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for reference in references.items() {
        // Upstream names the list here, and not the element.
        let part = |field: &'static str| references.with(reference.value()).get(field);
        let version = reference.text("apiVersion").rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            part("apiVersion").invalid(errors, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if reference.text(field).is_empty() {
                part(field).invalid(errors, "must not be empty");
            }
        }
        if reference.text("kind") == "Event" && reference.text("apiVersion") == "v1" {
            references.invalid_as(
                errors,
                reference.value().clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if !reference.flag("controller") {
            continue;
        }
        let this = format!("{}/{}", reference.text("kind"), reference.text("name"));
        match &controller {
            None => controller = Some(this),
            Some(first) => references.invalid(errors, format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
            )),
        }
    }
}

fn finalizers(finalizers: &At<'_>, errors: &mut Errors) {
    let names = finalizers.strings();
    for name in &names {
        for text in names::is_qualified_name(name) {
            finalizers.invalid_as(errors, *name, text);
        }
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        finalizers.invalid(errors, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

fn no_new_finalizers(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let before: BTreeSet<&str> = old.strings().into_iter().collect();
    let extra: BTreeSet<&str> = new.strings().into_iter().filter(|name| !before.contains(name)).collect();
    if !extra.is_empty() {
        let names: Vec<String> = extra.iter().map(|name| format!("{name:?}")).collect();
        new.forbidden(
            errors,
            format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                names.join(", ")
            ),
        );
    }
}

fn managed_fields(entries: &At<'_>, errors: &mut Errors) {
    for entry in entries.items() {
        if !matches!(entry.text("operation"), "Apply" | "Update") {
            entry.get("operation").invalid(errors, "must be `Apply` or `Update`");
        }
        if !matches!(entry.text("fieldsType"), "" | "FieldsV1") {
            entry.get("fieldsType").invalid(errors, "must be `FieldsV1`");
        }
        field_manager(&entry.get("manager"), errors);
        if entry.text("subresource").len() > SUBRESOURCE_BYTES_MAX {
            entry.get("subresource").too_long(errors, SUBRESOURCE_BYTES_MAX);
        }
    }
}

/// The name of a field manager, as request options and managed fields have it.
pub fn field_manager(manager: &At<'_>, errors: &mut Errors) {
    let name = manager.str();
    if name.len() > FIELD_MANAGER_BYTES_MAX {
        manager.too_long(errors, FIELD_MANAGER_BYTES_MAX);
    }
    for (position, letter) in name.char_indices().filter(|(_, letter)| letter.is_control()) {
        manager.invalid(errors, format!("invalid character U+{:04X} (at position {position})", letter as u32));
    }
}

/// A `metav1.LabelSelector`.
pub fn label_selector(selector: &At<'_>, errors: &mut Errors) {
    labels(&selector.get("matchLabels"), errors);
    for term in selector.get("matchExpressions").items() {
        let values = term.get("values");
        match term.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                values.required(errors, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden(errors, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => term.get("operator").invalid(errors, "not a valid selector operator"),
        }
        label_name(&term.get("key"), term.text("key"), errors);
        for value in values.items() {
            value.invalid_all(errors, names::is_label_value(value.str()));
        }
    }
}

/// `metav1.Condition` lists.
pub fn conditions(conditions: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        if !seen.insert(condition.text("type")) {
            condition.get("type").duplicate(errors);
        }
        label_name(&condition.get("type"), condition.text("type"), errors);
        condition.get("status").one_of(errors, &["True", "False", "Unknown"]);
        if condition.number("observedGeneration") < 0 {
            condition.get("observedGeneration").invalid(errors, "must be greater than or equal to zero");
        }
        if condition.text("lastTransitionTime").is_empty() {
            condition.get("lastTransitionTime").required(errors, "");
        }
        let reason = condition.get("reason");
        if reason.is_empty() {
            reason.required(errors, "");
        } else {
            reason.invalid_all(errors, crate::formats::condition_reason(reason.str()));
            if reason.len() > 1024 {
                reason.too_long(errors, 1024);
            }
        }
        if condition.text("message").len() > 32 * 1024 {
            condition.get("message").too_long(errors, 32 * 1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &Errors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn bad_metadata() {
        let meta = json!({"name": "A", "namespace": "b.c", "generation": -1, "labels": {"a/b/c": "-"},
            "finalizers": ["orphan", "foregroundDeletion"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "Pod", "name": "y", "uid": "", "controller": true}]});
        let errors = validate_object_meta(&meta, true, NameRule::Label, &FieldPath::new("metadata"));
        let found = texts(&errors);
        assert!(found[0].starts_with(r#"metadata.name: Invalid value: "A": a lowercase RFC 1123 label"#), "{found:?}");
        assert_eq!(found[1], r#"metadata.namespace: Invalid value: "b.c": must not contain dots"#);
        assert_eq!(found[2], "metadata.generation: Invalid value: -1: must be greater than or equal to 0");
        assert_eq!(found[5], r#"metadata.ownerReferences.uid: Invalid value: "": must not be empty"#);
        assert!(found[6].contains(r#"Found "true" in references for Pod/x and Pod/y"#));
        assert!(found[7].ends_with("finalizer orphan and foregroundDeletion cannot be both set"));
    }

    #[test]
    fn changed_metadata() {
        let old = json!({"name": "a", "uid": "1", "generation": 2, "deletionTimestamp": "t", "finalizers": ["x.io/a"]});
        let new = json!({"name": "b", "uid": "1", "generation": 1, "deletionTimestamp": "t", "finalizers": ["x.io/b"]});
        assert_eq!(
            texts(&validate_object_meta_update(&new, &old, &FieldPath::new("metadata"))),
            [
                r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x.io/b"}"#,
                "metadata.generation: Invalid value: 1: must not be decremented",
                r#"metadata.name: Invalid value: "b": field is immutable"#,
            ]
        );
    }
}
