//! Strategic merge patch: merging by what the schema says of each field, and the directives `$patch`, `$retainKeys`,
//! `$setElementOrder/<field>` and `$deleteFromPrimitiveList/<field>`.
//!
//! Source: upstream's `k8s.io/apimachinery/pkg/util/strategicpatch` and
//! <https://git.k8s.io/design-proposals-archive/cli/preserve-order-in-strategic-merge-patch.md>.

mod conflict;
mod diff;
mod list;
mod lookup;
mod order;

use coracle_api_meta::{Map, Value};
use coracle_api_schema::{Schemas, TypeId};

use crate::error::PatchError;
use crate::golang;
pub use diff::{ThreeWay, check_preconditions, create_three_way_merge_patch, create_two_way_merge_patch};
use lookup::Lookup;

pub(crate) const DIRECTIVE: &str = "$patch";
pub(crate) const RETAIN_KEYS: &str = "$retainKeys";
pub(crate) const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList";
pub(crate) const SET_ELEMENT_ORDER: &str = "$setElementOrder";
pub(crate) const DELETE: &str = "delete";
pub(crate) const REPLACE: &str = "replace";
pub(crate) const MERGE: &str = "merge";

/// Applies a strategic merge patch to an object of type `ty`. `patch` is the decoded body. Fields that the schema does not
/// name are kept, for strict decoding to find.
///
/// # Errors
/// [`PatchError::BadRequest`] when the patch is no object or a directive is malformed, [`PatchError::Unprocessable`] for
/// lists of lists, [`PatchError::Failed`] for all that upstream answers with 500, such as a missing merge key.
pub fn strategic_merge_patch(
    schemas: &Schemas,
    ty: TypeId,
    original: Value,
    patch: &Value,
) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::BadRequest(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            golang::json_kind(patch)
        )));
    };
    let original = match original {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    merge_map(original, patch.clone(), Lookup::of(schemas, ty), Mode::Apply).map(Value::Object)
}

/// What a patch is merged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// An object: directives act, nulls delete.
    Apply,
    /// Another patch: directives and nulls are kept for whoever applies the sum.
    Combine,
}

pub(crate) fn merge_map(mut original: Map, mut patch: Map, lookup: Lookup<'_>, mode: Mode) -> Result<Map, PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some(REPLACE) => {
                patch.shift_remove(DIRECTIVE);
                Ok(patch)
            }
            Some(DELETE) => Ok(Map::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch, mode)?;
    order::merge_ordered_lists(&mut original, &mut patch, lookup, mode)?;
    for (key, value) in patch {
        merge_field(&mut original, key, value, lookup, mode)?;
    }
    Ok(original)
}

fn merge_field(
    original: &mut Map,
    key: String,
    value: Value,
    lookup: Lookup<'_>,
    mode: Mode,
) -> Result<(), PatchError> {
    let deletes_from_list = key.starts_with(DELETE_FROM_PRIMITIVE_LIST);
    if deletes_from_list && mode == Mode::Combine {
        original.insert(key, value);
        return Ok(());
    }
    let key = if deletes_from_list { directive_field(&key, DELETE_FROM_PRIMITIVE_LIST)? } else { key };
    if value.is_null() {
        original.shift_remove(&key);
        if mode == Mode::Apply {
            return Ok(());
        }
    }
    let current = original.get_mut(&key).filter(|current| golang::type_name(current) == golang::type_name(&value));
    match (current, value) {
        (None, _) if deletes_from_list => {}
        (None, value) => put(original, key, value, mode),
        (Some(Value::Object(current)), Value::Object(value)) => {
            let field = lookup.field(&key)?;
            *current = merge_map(std::mem::take(current), value, field.lookup, mode)?;
        }
        (Some(Value::Array(current)), Value::Array(value)) => {
            let field = lookup.list(&key)?;
            let before = std::mem::take(current);
            *current = if field.strategy.merge || deletes_from_list {
                list::merge_lists(before, value, &field, mode, deletes_from_list)?
            } else {
                value
            };
        }
        (Some(current), value) => *current = value,
    }
    Ok(())
}

/// Takes a patch's value as it is, without what only steers merging.
fn put(original: &mut Map, key: String, mut value: Value, mode: Mode) {
    if mode == Mode::Apply {
        discard_nulls(&mut value);
    }
    match without_directives(value) {
        Some(value) => {
            original.insert(key, value);
        }
        None => {
            original.shift_remove(&key);
        }
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// `None` when the value is a directive itself.
pub(crate) fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

/// Clears the fields that `$retainKeys` does not name.
fn retain_keys(original: &mut Map, patch: &mut Map, mode: Mode) -> Result<(), PatchError> {
    let Some(keys) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    if mode == Mode::Combine {
        return match original.get(RETAIN_KEYS) {
            Some(before) if *before != keys => Err(PatchError::Failed(format!(
                "{} and {} are not deep equal: this may happen when calculating the 3-way diff patch",
                golang::plain(before),
                golang::plain(&keys)
            ))),
            Some(_) => Ok(()),
            None => {
                original.insert(RETAIN_KEYS.to_owned(), keys);
                Ok(())
            }
        };
    }
    let malformed = || PatchError::BadRequest("invalid patch format of retainKeys".to_owned());
    let keys = keys.as_array().ok_or_else(malformed)?;
    let named = |key: &str| keys.iter().any(|named| named.as_str() == Some(key));
    let set = patch.iter().filter(|(key, value)| {
        !value.is_null() && !key.starts_with(DELETE_FROM_PRIMITIVE_LIST) && !key.starts_with(SET_ELEMENT_ORDER)
    });
    if set.into_iter().any(|(key, _)| !named(key)) {
        return Err(malformed());
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// The field that `$setElementOrder/<field>` and the like are about.
pub(crate) fn directive_field(key: &str, prefix: &str) -> Result<String, PatchError> {
    let field = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    field.map(str::to_owned).ok_or_else(|| malformed_directive(prefix))
}

pub(crate) fn malformed_directive(prefix: &str) -> PatchError {
    let what = if prefix == SET_ELEMENT_ORDER { "setElementOrder list" } else { "primitive list" };
    PatchError::BadRequest(format!("invalid patch format of {what}"))
}

pub(crate) fn unknown_directive(directive: &Value, map: &Map) -> PatchError {
    PatchError::Failed(format!("unknown patch type: {} in map: {}", golang::plain(directive), golang::plain_map(map)))
}

pub(crate) fn no_merge_key(map: &Map, key: &str) -> PatchError {
    PatchError::Failed(format!("map: {} does not contain declared merge key: {key}", golang::plain_map(map)))
}

/// `expected` is the Go type.
pub(crate) fn wrong_type(expected: &str, actual: &Value) -> PatchError {
    PatchError::Failed(format!("expected a {expected}, but received a {}", golang::type_name(actual)))
}
