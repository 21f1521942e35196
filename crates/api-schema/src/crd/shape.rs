//! Unknown fields, nulls, defaults and uniqueness in lists.

use coracle_api_meta::{FieldError, FieldPath, Map, Value};

use super::{
    node::{Additional, Node},
    validate,
};

const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops what the schema of an object does not know; `unknown` gets the paths.
pub(super) fn prune_root(object: &mut Value, node: &Node, unknown: &mut Vec<String>) {
    Pruner { path: String::new(), unknown }.prune(object, Some(node), true, false);
}

struct Pruner<'a> {
    path: String,
    unknown: &'a mut Vec<String>,
}

impl Pruner<'_> {
    /// `whole` objects have metadata of their own; `keep` leaves unknown fields.
    fn prune(&mut self, value: &mut Value, node: Option<&Node>, whole: bool, keep: bool) {
        let keep = keep || node.is_some_and(|node| node.preserve_unknown);
        match value {
            Value::Object(object) => {
                for key in self.fields(object, node, whole, keep) {
                    object.shift_remove(&key);
                    if !(self.path.is_empty() && META.contains(&key.as_str())) {
                        let dot = if self.path.is_empty() { "" } else { "." };
                        self.unknown.push(format!("{}{dot}{key}", self.path));
                    }
                }
            }
            Value::Array(items) => {
                let inner = node.and_then(|node| node.items.as_deref());
                for (index, item) in items.iter_mut().enumerate() {
                    self.within(&format!("[{index}]"), |pruner| pruner.prune(item, inner, is_whole(inner), keep));
                }
            }
            _ => {}
        }
    }

    /// Prunes the fields that are known and names the others.
    fn fields(&mut self, object: &mut Map, node: Option<&Node>, whole: bool, keep: bool) -> Vec<String> {
        let mut dropped = Vec::new();
        for (key, value) in object {
            if whole && META.contains(&key.as_str()) {
                continue;
            }
            let known = node.and_then(|node| node.properties.get(key));
            let inner = match (known, node.and_then(|node| node.additional.as_ref())) {
                (Some(inner), _) => Some(inner),
                (None, Some(Additional::Schema(inner))) => Some(inner.as_ref()),
                // Objects below a bare `true` have no known fields.
                (None, Some(Additional::Allowed(_))) => None,
                (None, None) if keep => continue,
                (None, None) => {
                    dropped.push(key.clone());
                    continue;
                }
            };
            let step = if self.path.is_empty() { key.clone() } else { format!(".{key}") };
            self.within(&step, |pruner| pruner.prune(value, inner, is_whole(inner), false));
        }
        dropped
    }

    fn within(&mut self, step: &str, act: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        act(self);
        self.path.truncate(length);
    }
}

fn is_whole(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.embedded)
}

/// Drops nulls where null is not allowed and no default stands in.
pub(super) fn drop_nulls(value: &mut Value, node: Option<&Node>) {
    match value {
        Value::Object(object) => {
            let unwanted = |value: &Value, node: Option<&Node>| {
                value.is_null() && node.is_some_and(|node| !node.nullable && node.default.is_none())
            };
            object.retain(|key, value| !unwanted(value, node.and_then(|node| node.field(key))));
            for (key, value) in object {
                drop_nulls(value, node.and_then(|node| node.field(key)));
            }
        }
        Value::Array(items) => {
            let inner = node.and_then(|node| node.items.as_deref());
            items.iter_mut().for_each(|item| drop_nulls(item, inner));
        }
        _ => {}
    }
}

/// Fills in defaults.
pub(super) fn default(value: &mut Value, node: &Node) {
    let null_here = |value: &Value, node: &Node| value.is_null() && !node.nullable;
    match value {
        Value::Object(object) => {
            for (name, property) in &node.properties {
                let Some(default) = &property.default else { continue };
                if object.get(name).is_none_or(|value| null_here(value, property)) {
                    object.insert(name.clone(), default.clone());
                }
            }
            for (key, value) in object {
                let Some(inner) = node.field(key) else { continue };
                if null_here(value, inner) {
                    *value = inner.default.clone().unwrap_or_default();
                }
                default(value, inner);
            }
        }
        Value::Array(items) => {
            let Some(inner) = &node.items else { return };
            for item in items {
                if null_here(item, inner) {
                    *item = inner.default.clone().unwrap_or_default();
                }
                default(item, inner);
            }
        }
        _ => {}
    }
}

/// Whether the defaults of a schema are themselves valid.
pub(super) fn check_defaults(node: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(default) = &node.default {
        let path = path.child("default");
        let mut pruned = default.clone();
        Pruner { path: String::new(), unknown: &mut Vec::new() }.prune(&mut pruned, Some(node), node.embedded, false);
        if pruned != *default {
            errors.push(FieldError::invalid(&path, default.clone(), "must not have unknown fields"));
        }
        errors.extend(validate::value(node, default, None, &path));
    }
    if let Some(items) = &node.items {
        check_defaults(items, &path.child("items"), errors);
    }
    for (name, property) in &node.properties {
        check_defaults(property, &path.child("properties").key(name), errors);
    }
}

/// Items that may stand once in lists of type set and map but stand there again.
pub(super) fn duplicates(node: &Node, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    find_duplicates(node, object, &FieldPath::default(), &mut errors);
    errors
}

fn find_duplicates(node: &Node, value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if let Some(property) = node.properties.get(key) {
                    find_duplicates(property, value, &path.child(key), errors);
                } else if let Some(Additional::Schema(inner)) = &node.additional {
                    find_duplicates(inner, value, &path.key(key), errors);
                }
            }
        }
        Value::Array(items) => {
            match node.list_type.as_str() {
                "set" => again(items.iter().cloned(), path, errors),
                "map" => map_duplicates(node, items, path, errors),
                _ => {}
            }
            if let Some(inner) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    find_duplicates(inner, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn map_duplicates(node: &Node, items: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    let strange = items.iter().position(|item| !(item.is_object() || item.is_null()));
    if let Some(index) = strange {
        let detail = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(index), items[index].clone(), detail));
        return;
    }
    let keys = |item: &Value| {
        let present = node.list_map_keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
        Value::Object(present.collect())
    };
    again(items.iter().map(keys), path, errors);
}

/// Reports the second of equal values, once per value.
fn again(values: impl Iterator<Item = Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for (index, value) in values.enumerate() {
        let times = seen.entry(canonical(&value)).or_default();
        *times += 1;
        if *times == 2 {
            errors.push(FieldError::duplicate(&path.index(index), value));
        }
    }
}

/// Text that is equal for equal values, whatever the order of fields.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> =
                object.iter().map(|(key, value)| format!("{key:?}:{}", canonical(value))).collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}
