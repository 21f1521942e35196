//! The fields that an object mentions.

use std::collections::BTreeMap;

use coracle_api_meta::{Map, Value};

use super::shape::{Atom, ListAtom, MapAtom, Shape, Types};
use crate::fields::{FieldSet, PathElement};

/// Every leaf and every item of an associative list.
pub(crate) fn fields_of(types: Types<'_>, shape: Shape, value: &Value) -> FieldSet {
    place(types, shape, value).1
}

/// Whether the place itself is a field of the set, and the fields below it.
fn place(types: Types<'_>, shape: Shape, value: &Value) -> (bool, FieldSet) {
    match (types.atom(shape, Some(value)), value) {
        (Atom::Scalar(_), _) => (true, FieldSet::new()),
        (Atom::List(list), _) if list.is_atomic() => (true, FieldSet::new()),
        (Atom::List(list), Value::Array(values)) => (false, items(types, list, values)),
        (Atom::Map(map), _) if map.atomic => (true, FieldSet::new()),
        (Atom::Map(map), Value::Object(values)) => (false, fields(types, map, values)),
        _ => (false, FieldSet::new()),
    }
}

fn items(types: Types<'_>, list: ListAtom<'_>, values: &[Value]) -> FieldSet {
    let mut counts: BTreeMap<PathElement, (usize, &Value)> = BTreeMap::new();
    for value in values {
        if let Ok(element) = types.item_element(list, value) {
            counts.entry(element).and_modify(|(count, _)| *count += 1).or_insert((1, value));
        }
    }
    let mut set = FieldSet::new();
    for (element, (count, value)) in counts {
        // What is there twice is owned as a whole.
        if count == 1 {
            let below = place(types, list.item, value).1;
            set.insert_member(element.clone());
            set.attach(element, below);
        } else {
            set.insert_member(element);
        }
    }
    set
}

fn fields(types: Types<'_>, map: MapAtom<'_>, values: &Map) -> FieldSet {
    let mut set = FieldSet::new();
    for (key, value) in values {
        let (field, shape) = map.lenient_child(key);
        let (is_leaf, below) = place(types, shape, value);
        let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if is_leaf || is_empty || field.is_none() {
            set.insert_member(PathElement::field(key));
        }
        set.attach(PathElement::field(key), below);
    }
    set
}
