//! Merging two lists: of objects by their merge key, of scalars by value.

use std::collections::{HashMap, HashSet};

use coracle_api_meta::Value;

use super::lookup::{FieldLookup, Lookup};
use super::{DELETE, DIRECTIVE, MERGE, Mode, REPLACE, merge_map, no_merge_key, order, unknown_directive, wrong_type};
use crate::error::PatchError;
use crate::golang;

/// What the items of lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Items {
    Objects,
    Scalars,
}

/// Merges `patch` into `original`, or deletes its scalars from there.
pub(crate) fn merge_lists(
    original: Vec<Value>,
    patch: Vec<Value>,
    field: &FieldLookup<'_>,
    mode: Mode,
    deletes: bool,
) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let key = field.strategy.merge_key.as_str();
    match items_of(&[&original, &patch])? {
        Items::Scalars if deletes && mode == Mode::Apply => {
            let unwanted: HashSet<&Value> = patch.iter().collect();
            Ok(original.into_iter().filter(|item| !unwanted.contains(item)).collect())
        }
        Items::Scalars => {
            let merged = without_repeats(original.iter().chain(&patch));
            arrange(merged, &patch, &original, key, Items::Scalars)
        }
        Items::Objects if key.is_empty() => {
            Err(PatchError::Failed(format!("cannot merge lists without merge key for {}", field.lookup.name())))
        }
        Items::Objects => {
            let (original, patch) = act_on_directives(original, patch, key)?;
            let orders = (merge_keys(&patch, key)?, merge_keys(&original, key));
            let merged = merge_objects(original, patch, key, field.lookup, mode)?;
            arrange_by(merged, &orders.0, &orders.1?, key, Items::Objects)
        }
    }
}

/// Puts the items that the patch names into its order and the others into theirs.
fn arrange(
    merged: Vec<Value>,
    patch: &[Value],
    original: &[Value],
    key: &str,
    items: Items,
) -> Result<Vec<Value>, PatchError> {
    arrange_by(merged, &identities(patch, key)?, &identities(original, key)?, key, items)
}

fn arrange_by(
    merged: Vec<Value>,
    patch: &[Value],
    original: &[Value],
    key: &str,
    items: Items,
) -> Result<Vec<Value>, PatchError> {
    let (named, others) = partition(merged, patch, key)?;
    order::interleave(named, others, patch, original, key, items)
}

/// What tells the items of a list apart: the value of the merge key, or the item itself when there is no key.
///
/// # Errors
/// When an item is no object, or lacks the key.
pub(crate) fn identities(list: &[Value], key: &str) -> Result<Vec<Value>, PatchError> {
    if key.is_empty() { Ok(list.to_vec()) } else { merge_keys(list, key) }
}

fn merge_keys(list: &[Value], key: &str) -> Result<Vec<Value>, PatchError> {
    list.iter().map(|item| identity(item, key).cloned()).collect()
}

pub(crate) fn identity<'v>(item: &'v Value, key: &str) -> Result<&'v Value, PatchError> {
    if key.is_empty() {
        return Ok(item);
    }
    let Value::Object(map) = item else { return Err(wrong_type("map[string]interface {}", item)) };
    map.get(key).ok_or_else(|| no_merge_key(map, key))
}

/// The items that `named` tells of, and the others.
pub(crate) fn partition(list: Vec<Value>, named: &[Value], key: &str) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let named: HashSet<&Value> = named.iter().collect();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for item in list {
        let side = if named.contains(identity(&item, key)?) { &mut inside } else { &mut outside };
        side.push(item);
    }
    Ok((inside, outside))
}

fn without_repeats<'v>(items: impl Iterator<Item = &'v Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    items.filter(|item| seen.insert(*item)).cloned().collect()
}

/// Acts on the items of a patch that carry `$patch`, and gives both lists without them.
fn act_on_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut rest, mut deleted, mut replaces) = (Vec::with_capacity(patch.len()), HashSet::new(), false);
    for item in patch {
        let Value::Object(map) = &item else { return Err(wrong_type("map[string]interface {}", &item)) };
        let Some(directive) = map.get(DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some(DELETE) => {
                deleted.insert(map.get(key).ok_or_else(|| no_merge_key(map, key))?.clone());
            }
            Some(REPLACE) => replaces = true,
            Some(MERGE) => {
                return Err(PatchError::Failed("merging lists cannot yet be specified in the patch".to_owned()));
            }
            _ => return Err(unknown_directive(directive, map)),
        }
    }
    if replaces {
        return Ok((rest, Vec::new()));
    }
    if !deleted.is_empty() {
        original.retain(|item| item.get(key).is_none_or(|value| !deleted.contains(value)));
    }
    Ok((original, rest))
}

fn merge_objects(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    lookup: Lookup<'_>,
    mode: Mode,
) -> Result<Vec<Value>, PatchError> {
    let mut places: HashMap<Value, usize> = HashMap::new();
    for (place, item) in original.iter().enumerate() {
        let map = item.as_object().ok_or_else(|| PatchError::Failed(format!("value for key {place} is not a map")))?;
        if let Some(value) = map.get(key) {
            places.entry(value.clone()).or_insert(place);
        }
    }
    for item in patch {
        let value = identity(&item, key)?;
        match places.get(value).and_then(|place| original.get_mut(*place)) {
            Some(Value::Object(current)) => {
                let Value::Object(item) = item else { continue };
                *current = merge_map(std::mem::take(current), item, lookup, mode)?;
            }
            _ => {
                places.insert(value.clone(), original.len());
                original.push(item);
            }
        }
    }
    Ok(original)
}

/// All items of all lists must be of one type, and none a list.
pub(crate) fn items_of(lists: &[&[Value]]) -> Result<Items, PatchError> {
    let mut items = lists.iter().copied().flatten();
    let Some(first) = items.next() else {
        return Err(PatchError::Failed("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    if first.is_null() || items.any(|item| golang::type_name(item) != golang::type_name(first)) {
        let shown: Vec<String> = lists.iter().map(|list| golang::plain_list(list)).collect();
        return Err(PatchError::Failed(format!("list element types are not identical: [{}]", shown.join(" "))));
    }
    Ok(if first.is_object() { Items::Objects } else { Items::Scalars })
}
