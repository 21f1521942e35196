//! Making strategic merge patches, for client-side apply and edits.

use coracle_api_meta::{Map, Value};
use coracle_api_schema::{Schemas, TypeId};

use super::conflict;
use super::list::{Items, identity, items_of};
use super::lookup::{FieldLookup, Lookup};
use super::{DELETE, DELETE_FROM_PRIMITIVE_LIST, DIRECTIVE, Mode, RETAIN_KEYS, SET_ELEMENT_ORDER, merge_map, order};
use crate::error::PatchError;
use crate::golang;

/// What [`create_three_way_merge_patch`] does about changes that others made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreeWay {
    /// Takes them back where the modified configuration says otherwise: `kubectl apply --overwrite`.
    Overwrite,
    /// Gives [`PatchError::Conflict`].
    Refuse,
}

/// The patch that makes `modified` of `original`; an empty object when they are equal.
///
/// # Errors
/// [`PatchError::Failed`] when a list's items lack their merge key or are not of one type, or the schema does not know a
/// changed field.
pub fn create_two_way_merge_patch(
    schemas: &Schemas,
    ty: TypeId,
    original: &Value,
    modified: &Value,
) -> Result<Value, PatchError> {
    let (original, modified) = (map_of(original)?, map_of(modified)?);
    diff_maps(&original, &modified, Lookup::of(schemas, ty), Options::ALL).map(Value::Object)
}

/// The patch of client-side apply: what `current` lacks of `modified`, and the deletion of what `original` (the last
/// applied configuration; null when there is none) had and `modified` no longer has.
///
/// # Errors
/// As [`create_two_way_merge_patch`]; [`PatchError::Conflict`] with [`ThreeWay::Refuse`].
pub fn create_three_way_merge_patch(
    schemas: &Schemas,
    ty: TypeId,
    original: &Value,
    modified: &Value,
    current: &Value,
    how: ThreeWay,
) -> Result<Value, PatchError> {
    let (original, modified, current) = (map_of(original)?, map_of(modified)?, map_of(current)?);
    let lookup = Lookup::of(schemas, ty);
    let changes = diff_maps(&current, &modified, lookup, Options { deletions: false, ..Options::ALL })?;
    let deletions = diff_maps(&original, &modified, lookup, Options { changes: false, ..Options::ALL })?;
    let patch = merge_map(deletions, changes, lookup, Mode::Combine)?;
    if how == ThreeWay::Refuse {
        let changed = diff_maps(&original, &current, lookup, Options { element_order: false, ..Options::ALL })?;
        if conflict::maps_conflict(&patch, &changed, lookup)? {
            return Err(PatchError::Conflict(format!(
                "patch:\n{}\nconflicts with changes made from original to current:\n{}\n",
                Value::Object(patch),
                Value::Object(changed)
            )));
        }
    }
    Ok(Value::Object(patch))
}

/// What client-side apply demands of a patch: it leaves `apiVersion`, `kind` and the name alone.
///
/// # Errors
/// [`PatchError::Precondition`].
pub fn check_preconditions(patch: &Value) -> Result<(), PatchError> {
    let renames = patch.get("metadata").is_some_and(|metadata| metadata.get("name").is_some());
    if patch.get("apiVersion").is_some() || patch.get("kind").is_some() || renames {
        return Err(PatchError::Precondition(format!("precondition failed for: {}", golang::plain(patch))));
    }
    Ok(())
}

fn map_of(value: &Value) -> Result<std::borrow::Cow<'_, Map>, PatchError> {
    match value {
        Value::Null => Ok(std::borrow::Cow::Owned(Map::new())),
        Value::Object(map) => Ok(std::borrow::Cow::Borrowed(map)),
        _ => Err(PatchError::BadRequest("invalid JSON document".to_owned())),
    }
}

#[derive(Clone, Copy)]
struct Options {
    /// Makes `$setElementOrder`.
    element_order: bool,
    /// Keeps changes and additions.
    changes: bool,
    /// Keeps deletions.
    deletions: bool,
    /// Makes `$retainKeys`.
    retain_keys: bool,
}

impl Options {
    const ALL: Self = Self { element_order: true, changes: true, deletions: true, retain_keys: false };
}

fn diff_maps(original: &Map, modified: &Map, lookup: Lookup<'_>, options: Options) -> Result<Map, PatchError> {
    let mut patch = Map::new();
    for (key, after) in modified {
        let before = original.get(key);
        match (before, after) {
            (Some(before), _) if key == DIRECTIVE => {
                if before != after {
                    patch.insert(key.clone(), after.clone());
                }
            }
            (Some(Value::Object(before)), Value::Object(after)) => {
                diff_field(&mut patch, key, before, after, lookup, options)?;
            }
            (Some(Value::Array(before)), Value::Array(after)) => {
                diff_list_field(&mut patch, key, before, after, lookup, options)?;
            }
            (before, after) => {
                if options.changes && before != Some(after) {
                    patch.insert(key.clone(), after.clone());
                }
            }
        }
    }
    if options.deletions {
        for key in original.keys().filter(|key| !modified.contains_key(*key)) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    if options.retain_keys {
        add_retain_keys(&mut patch, original, modified);
    }
    Ok(patch)
}

fn add_retain_keys(patch: &mut Map, original: &Map, modified: &Map) {
    let mut keys: Vec<&String> = modified.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key).collect();
    let clears = original.iter().any(|(key, value)| !value.is_null() && !modified.contains_key(key));
    if !keys.is_empty() && (!patch.is_empty() || clears) {
        keys.sort();
        patch.insert(RETAIN_KEYS.to_owned(), keys.into_iter().cloned().map(Value::String).collect());
    }
}

fn diff_field(
    patch: &mut Map,
    key: &str,
    before: &Map,
    after: &Map,
    lookup: Lookup<'_>,
    options: Options,
) -> Result<(), PatchError> {
    if before == after {
        return Ok(());
    }
    let field = lookup.field(key)?;
    let options = Options { retain_keys: field.strategy.retain_keys, ..options };
    let nested = diff_maps(before, after, field.lookup, options)?;
    if !nested.is_empty() {
        patch.insert(key.to_owned(), Value::Object(nested));
    }
    Ok(())
}

fn diff_list_field(
    patch: &mut Map,
    key: &str,
    before: &[Value],
    after: &[Value],
    lookup: Lookup<'_>,
    options: Options,
) -> Result<(), PatchError> {
    if before == after {
        return Ok(());
    }
    let field = lookup.list(key)?;
    if !field.strategy.merge {
        if options.changes {
            patch.insert(key.to_owned(), Value::Array(after.to_vec()));
        }
        return Ok(());
    }
    let options = Options { retain_keys: field.strategy.retain_keys, ..options };
    let diff = diff_lists(before, after, &field, options)?;
    let mut put = |key: String, list: Vec<Value>| {
        if !list.is_empty() {
            patch.insert(key, Value::Array(list));
        }
    };
    put(key.to_owned(), diff.patch);
    put(format!("{DELETE_FROM_PRIMITIVE_LIST}/{key}"), diff.deletions);
    put(format!("{SET_ELEMENT_ORDER}/{key}"), diff.order);
    Ok(())
}

#[derive(Default)]
struct ListDiff {
    patch: Vec<Value>,
    deletions: Vec<Value>,
    order: Vec<Value>,
}

fn diff_lists(
    before: &[Value],
    after: &[Value],
    field: &FieldLookup<'_>,
    options: Options,
) -> Result<ListDiff, PatchError> {
    if before.is_empty() {
        let patch = if options.changes { after.to_vec() } else { Vec::new() };
        return Ok(ListDiff { patch, ..ListDiff::default() });
    }
    match items_of(&[before, after])? {
        Items::Objects => diff_object_lists(before, after, field, options),
        Items::Scalars => diff_scalar_lists(before, after, options),
    }
}

fn diff_object_lists(
    before: &[Value],
    after: &[Value],
    field: &FieldLookup<'_>,
    options: Options,
) -> Result<ListDiff, PatchError> {
    let key = field.strategy.merge_key.as_str();
    if key.is_empty() {
        return Err(PatchError::Failed(format!("cannot merge lists without merge key for {}", field.lookup.name())));
    }
    let (mut patch, deletions) = diff_objects(before, after, key, field.lookup, options)?;
    patch = order::sort_like(patch, after, key, Items::Objects)?;
    let same_order =
        before.len() == after.len() && before.iter().zip(after).all(|(left, right)| left.get(key) == right.get(key));
    patch.extend(deletions);
    let ordered = options.element_order
        && ((options.changes && (!patch.is_empty() || !same_order)) || (options.deletions && !patch.is_empty()));
    let mut places = Vec::new();
    if ordered {
        for item in after {
            let place = Map::from_iter([(key.to_owned(), identity(item, key)?.clone())]);
            places.push(Value::Object(place));
        }
    }
    Ok(ListDiff { patch, deletions: Vec::new(), order: places })
}

/// Walks both lists sorted by merge key: what changed or is new, and the directives that delete the rest.
fn diff_objects(
    before: &[Value],
    after: &[Value],
    key: &str,
    lookup: Lookup<'_>,
    options: Options,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut patch, mut deletions) = (Vec::new(), Vec::new());
    let (before, after) = (sorted_by_key(before, key)?, sorted_by_key(after, key)?);
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
    loop {
        let side = match (before.peek(), after.peek()) {
            (None, None) => return Ok((patch, deletions)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => left.0.cmp(&right.0),
        };
        let left = if side.is_le() { before.next() } else { None };
        let right = if side.is_ge() { after.next() } else { None };
        match (left, right) {
            (Some((_, Value::Object(left))), Some((_, Value::Object(right)))) => {
                let mut nested = diff_maps(left, right, lookup, options)?;
                if !nested.is_empty() {
                    nested.insert(key.to_owned(), right.get(key).cloned().unwrap_or(Value::Null));
                    patch.push(Value::Object(nested));
                }
            }
            (Some((_, left)), None) if options.deletions => {
                let value = identity(left, key)?.clone();
                let directive = [(DIRECTIVE.to_owned(), Value::from(DELETE)), (key.to_owned(), value)];
                deletions.push(Value::Object(Map::from_iter(directive)));
            }
            (None, Some((_, right))) if options.changes => patch.push(right.clone()),
            _ => {}
        }
    }
}

fn sorted_by_key<'v>(list: &'v [Value], key: &str) -> Result<Vec<(String, &'v Value)>, PatchError> {
    let mut keyed = Vec::with_capacity(list.len());
    for item in list {
        keyed.push((golang::plain(identity(item, key)?), item));
    }
    keyed.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(keyed)
}

fn diff_scalar_lists(before: &[Value], after: &[Value], options: Options) -> Result<ListDiff, PatchError> {
    let has = |list: &[Value]| list.iter().cloned().collect::<std::collections::HashSet<Value>>();
    let (had, has) = (has(before), has(after));
    let mut diff = ListDiff::default();
    if options.deletions {
        let mut gone: Vec<Value> = had.iter().filter(|item| !has.contains(*item)).cloned().collect();
        gone.sort_by_key(golang::plain);
        diff.deletions = gone;
    }
    if options.changes {
        let new = after.iter().filter(|item| !had.contains(*item)).cloned().collect();
        diff.patch = order::sort_like(new, after, "", Items::Scalars)?;
    }
    if options.element_order && ((options.deletions && !diff.deletions.is_empty()) || options.changes) {
        diff.order = after.to_vec();
    }
    Ok(diff)
}
