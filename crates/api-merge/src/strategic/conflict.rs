//! Whether two patches of one object change the same fields differently: `MergingMapsHaveConflicts` upstream.

use std::collections::HashMap;

use coracle_api_meta::{Map, Value};

use super::list::{Items, identity, items_of};
use super::lookup::{FieldLookup, Lookup};
use super::{DIRECTIVE, RETAIN_KEYS};
use crate::error::PatchError;
use crate::golang;

pub(crate) fn maps_conflict(left: &Map, right: &Map, lookup: Lookup<'_>) -> Result<bool, PatchError> {
    if left.get(DIRECTIVE) != right.get(DIRECTIVE) {
        return Ok(true);
    }
    for (key, left) in left {
        let Some(right) = right.get(key).filter(|_| key != DIRECTIVE && key != RETAIN_KEYS) else { continue };
        let conflict = match (left, right) {
            (Value::Object(left), Value::Object(right)) => maps_conflict(left, right, lookup.field(key)?.lookup)?,
            (Value::Array(left), Value::Array(right)) if key.starts_with('$') => left != right,
            (Value::Array(left), Value::Array(right)) => lists_conflict(left, right, &lookup.list(key)?)?,
            (left, right) => left != right,
        };
        if conflict {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lists_conflict(left: &[Value], right: &[Value], field: &FieldLookup<'_>) -> Result<bool, PatchError> {
    let items = items_of(&[left, right])?;
    match (field.strategy.merge, items) {
        // Merging lists of scalars have no conflicts by definition.
        (true, Items::Scalars) => Ok(false),
        (true, Items::Objects) => merging_lists_conflict(left, right, field),
        (false, _) if left.len() != right.len() => Ok(true),
        (false, Items::Scalars) => Ok(sorted(left) != sorted(right)),
        (false, Items::Objects) => {
            for (left, right) in left.iter().zip(right) {
                if let (Value::Object(left), Value::Object(right)) = (left, right)
                    && maps_conflict(left, right, field.lookup)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

fn merging_lists_conflict(left: &[Value], right: &[Value], field: &FieldLookup<'_>) -> Result<bool, PatchError> {
    let key = field.strategy.merge_key.as_str();
    let mut by_key = HashMap::new();
    for item in right {
        by_key.insert(identity(item, key)?, item);
    }
    for item in left {
        if let (Value::Object(left), Some(Value::Object(right))) = (item, by_key.get(identity(item, key)?))
            && maps_conflict(left, right, field.lookup)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn sorted(list: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = list.iter().map(golang::plain).collect();
    texts.sort();
    texts.dedup();
    texts
}
