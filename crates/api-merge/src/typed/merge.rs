//! An applied configuration laid over a live object.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coracle_api_meta::{Map, Value};

use super::shape::{Atom, ListAtom, MapAtom, Shape, Types};
use crate::fields::PathElement;

/// All fields of both; where both have a leaf, that of `applied`. Lists are ordered as `applied` orders them.
pub(crate) fn merge(types: Types<'_>, shape: Shape, live: &Value, applied: &Value) -> Value {
    both(types, shape, live, applied).unwrap_or_else(|| Value::Object(Map::new()))
}

fn place(types: Types<'_>, shape: Shape, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    match (live, applied) {
        (Some(live), Some(applied)) => both(types, shape, live, applied),
        (one, other) => one.or(other).cloned(),
    }
}

/// `None` when nothing is left.
fn both(types: Types<'_>, shape: Shape, live: &Value, applied: &Value) -> Option<Value> {
    let atom = match types.atom(shape, Some(applied)) {
        // Null is a wildcard that takes the form of the other.
        Atom::Map(_) if applied.is_null() => types.atom(shape, Some(live)),
        atom => atom,
    };
    match atom {
        Atom::Map(map) if !map.atomic => match (live.as_object(), applied.as_object()) {
            (Some(live), applied) if !live.is_empty() => fields(types, map, Some(live), applied),
            (live, Some(applied)) if !applied.is_empty() => fields(types, map, live, Some(applied)),
            _ => Some(applied.clone()),
        },
        Atom::List(list) if !list.is_atomic() => match (live.as_array(), applied.as_array()) {
            (Some(live), None) if !live.is_empty() => Some(Value::Array(live.clone())),
            (None, Some(applied)) if !applied.is_empty() => Some(Value::Array(applied.clone())),
            (Some(live), Some(applied)) if !(live.is_empty() && applied.is_empty()) => {
                items(types, list, live, applied)
            }
            _ => Some(applied.clone()),
        },
        _ => Some(applied.clone()),
    }
}

fn fields(types: Types<'_>, map: MapAtom<'_>, live: Option<&Map>, applied: Option<&Map>) -> Option<Value> {
    let mut out = Map::with_capacity(live.map_or(0, Map::len).max(applied.map_or(0, Map::len)));
    for (key, value) in live.into_iter().flatten() {
        let other = applied.and_then(|applied| applied.get(key));
        let merged = match other {
            None => Some(value.clone()),
            Some(other) => both(types, map.lenient_child(key).1, value, other),
        };
        out.extend(merged.map(|merged| (key.clone(), merged)));
    }
    let new = applied.into_iter().flatten().filter(|(key, _)| live.is_none_or(|live| !live.contains_key(*key)));
    out.extend(new.map(|(key, value)| (key.clone(), value.clone())));
    (!out.is_empty()).then_some(Value::Object(out))
}

/// The items of a list by their path elements.
struct Indexed<'v> {
    elements: Vec<(PathElement, &'v Value)>,
    /// What is there twice merges with nothing: null.
    by_element: BTreeMap<PathElement, &'v Value>,
}

fn index<'v>(types: Types<'_>, list: ListAtom<'_>, values: &'v [Value]) -> Indexed<'v> {
    let mut indexed = Indexed { elements: Vec::with_capacity(values.len()), by_element: BTreeMap::new() };
    for value in values {
        let Ok(element) = types.item_element(list, value) else { continue };
        indexed.by_element.entry(element.clone()).and_modify(|value| *value = &Value::Null).or_insert(value);
        indexed.elements.push((element, value));
    }
    indexed
}

fn items(types: Types<'_>, list: ListAtom<'_>, live: &[Value], applied: &[Value]) -> Option<Value> {
    let (live, applied) = (index(types, list, live), index(types, list, applied));
    let mut out = Vec::with_capacity(live.elements.len().max(applied.elements.len()));
    for step in interleave(&live, &applied) {
        match step {
            Step::Live(value) => out.push(value.clone()),
            Step::Merged(element) => {
                let (left, right) = (live.by_element.get(element), applied.by_element.get(element));
                out.extend(place(types, list.item, left.copied(), right.copied()));
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

enum Step<'i> {
    /// An item that only the live object has.
    Live(&'i Value),
    /// An item of the applied configuration, with that of the live object if there is one.
    Merged(&'i PathElement),
}

/// Shared items stand in the applied order, items of the live object alone stay near their neighbours.
fn interleave<'i>(live: &'i Indexed<'_>, applied: &'i Indexed<'_>) -> Vec<Step<'i>> {
    let shared = applied.elements.iter().map(|(element, _)| element);
    let mut shared: VecDeque<&PathElement> = shared.filter(|element| live.by_element.contains_key(*element)).collect();
    let mut next_shared = shared.pop_front();
    let mut merged = BTreeSet::new();
    let mut steps = Vec::with_capacity(live.elements.len().max(applied.elements.len()));
    let (mut left, mut right) = (0, 0);
    while left < live.elements.len() || right < applied.elements.len() {
        let (one, other) = (live.elements.get(left), applied.elements.get(right));
        if let (Some((one, _)), Some((other, _))) = (one, other) {
            if one == other {
                merged.insert(one);
                steps.push(Step::Merged(other));
                left += 1;
                right += 1;
                next_shared = shared.pop_front();
                continue;
            }
            if applied.by_element.contains_key(one) && next_shared.is_some_and(|next| next != one) {
                // Shared, but not the one wanted now.
                left += 1;
                continue;
            }
        }
        if let Some((one, value)) = one {
            if !applied.by_element.contains_key(one) {
                steps.push(Step::Live(value));
                left += 1;
                continue;
            }
            if merged.contains(one) {
                left += 1;
            }
        }
        if let Some((other, _)) = other {
            merged.insert(other);
            steps.push(Step::Merged(other));
            right += 1;
            if next_shared == Some(other) {
                next_shared = shared.pop_front();
            }
        }
    }
    steps
}
