//! The order of merged lists: `$setElementOrder` first, then the patch's own order, then the order of the object.

use std::collections::HashMap;

use coracle_api_meta::{Map, Value};

use super::list::{self, Items, identities, identity, items_of};
use super::lookup::Lookup;
use super::{
    DELETE, DIRECTIVE, Mode, SET_ELEMENT_ORDER, directive_field, malformed_directive, without_directives, wrong_type,
};
use crate::error::PatchError;
use crate::golang;

/// Merges the lists that a patch orders with `$setElementOrder`, and takes them and the directive out of the patch.
pub(crate) fn merge_ordered_lists(
    original: &mut Map,
    patch: &mut Map,
    lookup: Lookup<'_>,
    mode: Mode,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.shift_remove(&directive) else { continue };
        if mode == Mode::Combine {
            keep_directive(original, &directive, &order)?;
        }
        let Value::Array(order) = &order else { return Err(wrong_type("[]interface {}", &order)) };
        let field = directive_field(&directive, SET_ELEMENT_ORDER)?;
        merge_ordered_list(original, patch, &field, order, lookup, mode)?;
    }
    Ok(())
}

fn keep_directive(original: &mut Map, directive: &str, order: &Value) -> Result<(), PatchError> {
    match original.get(directive) {
        Some(before) if before != order => Err(malformed_directive(SET_ELEMENT_ORDER)),
        Some(_) => Ok(()),
        None => {
            original.insert(directive.to_owned(), order.clone());
            Ok(())
        }
    }
}

fn merge_ordered_list(
    original: &mut Map,
    patch: &mut Map,
    field: &str,
    order: &[Value],
    lookup: Lookup<'_>,
    mode: Mode,
) -> Result<(), PatchError> {
    let before = as_list(original.get(field))?.map(<[Value]>::to_vec);
    let given = as_list(patch.get(field))?.map(<[Value]>::to_vec);
    let found = lookup.list(field)?;
    let key = found.strategy.merge_key.as_str();
    check_order(given.as_deref().unwrap_or_default(), order, key)?;
    let merged = match (&before, &given) {
        (None, None) => return Ok(()),
        (Some(before), None) => before.clone(),
        (None, Some(given)) => given.iter().cloned().filter_map(without_directives).collect(),
        (Some(before), Some(given)) if found.strategy.merge => {
            list::merge_lists(before.clone(), given.clone(), &found, mode, false)?
        }
        (Some(_), Some(given)) => given.clone(),
    };
    let before = before.unwrap_or_default();
    let order = identities(order, key)?;
    let (named, others) = list::partition(merged, &order, key)?;
    let items = items_of(&[&before, given.as_deref().unwrap_or_default()])?;
    let arranged = interleave(named, others, &order, &identities(&before, key)?, key, items)?;
    original.insert(field.to_owned(), Value::Array(arranged));
    patch.shift_remove(field);
    Ok(())
}

fn as_list(value: Option<&Value>) -> Result<Option<&[Value]>, PatchError> {
    match value {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(wrong_type("[]interface {}", other)),
    }
}

/// The patch's items must be among those of the order, and in that order; deletions do not count.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    if !key.is_empty()
        && let Some(item) = patch.iter().find(|item| !item.is_object())
    {
        return Err(wrong_type("map[string]interface {}", item));
    }
    let mut wanted = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let value = identity(item, key)?;
        loop {
            let Some(place) = wanted.next() else {
                return Err(PatchError::Failed(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ELEMENT_ORDER} list:\n{}\n",
                    golang::plain_list(patch),
                    golang::plain_list(order)
                )));
            };
            if identity(place, key)? == value {
                break;
            }
        }
    }
    Ok(())
}

/// Puts `named` into the order of the patch and `others` into that of the object, then interleaves them: each of `others`
/// stands before the first of `named` that follows it in the object.
pub(crate) fn interleave(
    named: Vec<Value>,
    others: Vec<Value>,
    patch_order: &[Value],
    original_order: &[Value],
    key: &str,
    items: Items,
) -> Result<Vec<Value>, PatchError> {
    let key = if items == Items::Objects { key } else { "" };
    let places = places(original_order);
    let named = sorted(named, &self::places(patch_order), key, items)?;
    let others = sorted(others, &places, key, items)?;
    let place = |item: Option<&Value>| item.and_then(|item| identity(item, key).ok()).and_then(|id| places.get(id));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(out),
            (other @ Some(_), wanted @ Some(_)) => match (place(other), place(wanted)) {
                (Some(left), Some(right)) => left < right,
                _ => false,
            },
            (other, None) => other.is_some(),
            (None, Some(_)) => false,
        };
        out.extend(if other_first { others.next() } else { named.next() });
    }
}

/// Where each item stands first.
fn places(order: &[Value]) -> HashMap<&Value, usize> {
    let mut places = HashMap::with_capacity(order.len());
    for (place, item) in order.iter().enumerate() {
        places.entry(item).or_insert(place);
    }
    places
}

/// Items that carry `$patch: delete` go last.
fn sorted(
    list: Vec<Value>,
    places: &HashMap<&Value, usize>,
    key: &str,
    items: Items,
) -> Result<Vec<Value>, PatchError> {
    let mut keyed = Vec::with_capacity(list.len());
    for item in list {
        let deletion = items == Items::Objects && item.get(DIRECTIVE).and_then(Value::as_str) == Some(DELETE);
        let place = places.get(identity(&item, key)?).copied().unwrap_or(usize::MAX);
        keyed.push((deletion, if deletion { 0 } else { place }, item));
    }
    keyed.sort_by_key(|(deletion, place, _)| (*deletion, *place));
    Ok(keyed.into_iter().map(|(_, _, item)| item).collect())
}

/// Sorts what a made patch holds of a list as the list itself is sorted.
pub(crate) fn sort_like(list: Vec<Value>, model: &[Value], key: &str, items: Items) -> Result<Vec<Value>, PatchError> {
    let order = identities(model, if items == Items::Objects { key } else { "" })?;
    sorted(list, &places(&order), if items == Items::Objects { key } else { "" }, items)
}
