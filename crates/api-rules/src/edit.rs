//! Small writes for defaulting: set what is not there.

use coracle_api_meta::{Map, Value};

/// The object of a field, when it is there.
pub fn object<'v>(value: &'v mut Value, field: &str) -> Option<&'v mut Value> {
    value.get_mut(field).filter(|value| value.is_object())
}

/// The object of a field, made when it is missing. `None` when `value` is no object or the field is something else.
pub fn make<'v>(value: &'v mut Value, field: &str) -> Option<&'v mut Value> {
    let entry = value.as_object_mut()?.entry(field).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry.is_object().then_some(entry)
}

/// The elements of a list field.
pub fn each<'v>(value: &'v mut Value, field: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

#[must_use]
pub fn missing(value: &Value, field: &str) -> bool {
    value.get(field).is_none_or(Value::is_null)
}

/// Missing or an empty string: fields that are no pointers upstream.
#[must_use]
pub fn blank(value: &Value, field: &str) -> bool {
    value.get(field).is_none_or(|value| value.is_null() || value.as_str() == Some(""))
}

/// Sets a field.
pub fn put(value: &mut Value, field: &str, to: impl Into<Value>) {
    if let Some(fields) = value.as_object_mut() {
        fields.insert(field.to_owned(), to.into());
    }
}

/// Sets a field that is missing.
pub fn fill(value: &mut Value, field: &str, to: impl Into<Value>) {
    if value.is_object() && missing(value, field) {
        put(value, field, to);
    }
}

/// Sets a field that is missing or empty.
pub fn fill_blank(value: &mut Value, field: &str, to: &str) {
    if value.is_object() && blank(value, field) {
        put(value, field, to);
    }
}

/// Sets a field that is missing or 0.
pub fn fill_zero(value: &mut Value, field: &str, to: i64) {
    let zero = value.get(field).is_none_or(|value| value.is_null() || value.as_i64() == Some(0));
    if value.is_object() && zero {
        put(value, field, to);
    }
}

/// Sets a field that is missing to `{}`: structs that upstream always writes.
pub fn fill_empty(value: &mut Value, field: &str) {
    fill(value, field, Value::Object(Map::new()));
}

pub fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove(field);
    }
}

/// Takes the field from `from`, or removes it when it is not there.
pub fn copy(value: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(kept) => put(value, field, kept.clone()),
        None => remove(value, field),
    }
}

/// Takes a field of `metadata` from `from`.
pub fn copy_meta(value: &mut Value, from: &Value, field: &str) {
    let old = from.get("metadata").cloned().unwrap_or_default();
    if let Some(meta) = make(value, "metadata") {
        copy(meta, &old, field);
    }
}
