//! Objects without some of their fields.

use coracle_api_meta::{Map, Value};

use super::shape::{Atom, ListAtom, MapAtom, Shape, Types};
use crate::fields::FieldSet;

/// The value without the fields of the set. Objects and lists that become empty stay, as empty.
pub(crate) fn remove_items(types: Types<'_>, shape: Shape, value: &Value, set: &FieldSet) -> Value {
    if set.is_empty() {
        return value.clone();
    }
    place(types, shape, value, set)
}

/// `Null` when nothing is left to keep.
fn place(types: Types<'_>, shape: Shape, value: &Value, set: &FieldSet) -> Value {
    match (types.atom(shape, Some(value)), value) {
        (Atom::Scalar(_), value) => value.clone(),
        (Atom::List(list), Value::Array(values)) if !list.is_atomic() => items(types, list, values, set),
        (Atom::Map(map), Value::Object(values)) if !map.atomic => fields(types, map, values, set),
        _ => Value::Null,
    }
}

fn below(types: Types<'_>, shape: Shape, value: &Value, set: &FieldSet) -> Value {
    match (place(types, shape, value, set), value) {
        (Value::Null, Value::Object(_)) => Value::Object(Map::new()),
        (Value::Null, Value::Array(_)) => Value::Array(Vec::new()),
        (kept, _) => kept,
    }
}

fn items(types: Types<'_>, list: ListAtom<'_>, values: &[Value], set: &FieldSet) -> Value {
    let mut kept = Vec::with_capacity(values.len());
    let mut had_matches = false;
    for value in values {
        let Ok(element) = types.item_element(list, value) else {
            kept.push(value.clone());
            continue;
        };
        if set.has_member(&element) {
            continue;
        }
        match set.child(&element).filter(|set| !set.is_empty()) {
            Some(set) => {
                had_matches = true;
                kept.push(below(types, list.item, value, set));
            }
            None => kept.push(value.clone()),
        }
    }
    if kept.is_empty() && !had_matches { Value::Null } else { Value::Array(kept) }
}

fn fields(types: Types<'_>, map: MapAtom<'_>, values: &Map, set: &FieldSet) -> Value {
    let mut kept = Map::with_capacity(values.len());
    let mut had_matches = false;
    for (key, value) in values {
        if set.has_field(key) {
            continue;
        }
        match set.child_field(key).filter(|set| !set.is_empty()) {
            Some(set) => {
                had_matches = true;
                kept.insert(key.clone(), below(types, map.lenient_child(key).1, value, set));
            }
            None => {
                kept.insert(key.clone(), value.clone());
            }
        }
    }
    if kept.is_empty() && !had_matches { Value::Null } else { Value::Object(kept) }
}
