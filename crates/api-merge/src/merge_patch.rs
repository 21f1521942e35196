//! JSON merge patch (RFC 7386) with the habits of the library that upstream uses (`gopkg.in/evanphx/json-patch.v4`), and
//! its making for client-side apply of kinds without a built-in schema.

use coracle_api_meta::{Map, Value};

use crate::error::PatchError;
use crate::golang;

/// Applies an RFC 7386 patch. `patch` is the decoded body.
///
/// # Errors
/// [`PatchError::BadRequest`] when the patch is no object, [`PatchError::Failed`] when the document is none.
pub fn merge_patch(mut doc: Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::BadRequest(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            golang::json_kind(patch)
        )));
    };
    let Value::Object(map) = &mut doc else { return Err(PatchError::Failed("Invalid JSON Document".to_owned())) };
    merge(map, patch);
    Ok(doc)
}

fn merge(doc: &mut Map, patch: &Map) {
    for (key, value) in patch {
        if value.is_null() {
            doc.shift_remove(key);
            continue;
        }
        match (doc.get_mut(key), value) {
            (Some(Value::Object(current)), Value::Object(value)) => merge(current, value),
            (Some(current @ Value::Object(_)), value) => *current = value.clone(),
            (_, value) => {
                doc.insert(key.clone(), without_nulls(value));
            }
        }
    }
}

/// Without the null fields of objects, at any depth.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// The merge patch that makes `modified` of `original`; an empty object when they are equal.
#[must_use]
pub fn create_merge_patch(original: &Value, modified: &Value) -> Value {
    match (original, modified) {
        (Value::Object(original), Value::Object(modified)) => Value::Object(difference(original, modified)),
        (_, modified) => modified.clone(),
    }
}

fn difference(original: &Map, modified: &Map) -> Map {
    let mut patch = Map::new();
    for (key, value) in modified {
        match (original.get(key), value) {
            (Some(Value::Object(before)), Value::Object(after)) => {
                let nested = difference(before, after);
                if !nested.is_empty() {
                    patch.insert(key.clone(), Value::Object(nested));
                }
            }
            (Some(before), after) if before == after => {}
            (_, after) => {
                patch.insert(key.clone(), after.clone());
            }
        }
    }
    for key in original.keys().filter(|key| !modified.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

/// The merge patch of client-side apply: what `current` lacks of `modified`, and the deletion of what `original` had and
/// `modified` no longer has. `original` is the last applied configuration, null when there is none.
#[must_use]
pub fn create_three_way_json_merge_patch(original: &Value, modified: &Value, current: &Value) -> Value {
    let empty = Map::new();
    let map = |value: &Value| value.as_object().unwrap_or(&empty).clone();
    let (original, modified, current) = (map(original), map(modified), map(current));
    let changes = keep(&difference(&current, &modified), Keep::Values);
    let mut patch = keep(&difference(&original, &modified), Keep::Nulls);
    merge(&mut patch, &changes);
    Value::Object(patch)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nulls,
    Values,
}

/// `keepOrDeleteNullInObj` of upstream's `jsonmergepatch`.
fn keep(patch: &Map, what: Keep) -> Map {
    let mut kept = Map::new();
    for (key, value) in patch {
        match value {
            Value::Null if what == Keep::Nulls => {
                kept.insert(key.clone(), Value::Null);
            }
            Value::Null => {}
            Value::Object(map) if !map.is_empty() => {
                let nested = keep(map, what);
                if !nested.is_empty() {
                    kept.insert(key.clone(), Value::Object(nested));
                }
            }
            other if what == Keep::Values => {
                kept.insert(key.clone(), other.clone());
            }
            _ => {}
        }
    }
    kept
}
