//! Which fields differ between two objects.

use std::collections::BTreeMap;

use coracle_api_meta::{Map, Value};
use coracle_api_schema::{Field, ScalarKind, Type};

use super::shape::{Atom, ListAtom, MapAtom, Shape, Types};
use crate::fields::{FieldSet, PathElement};
use crate::values;

/// The fields that two objects differ in. No field is in two of the sets.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub removed: FieldSet,
    pub modified: FieldSet,
    pub added: FieldSet,
}

/// Where an object of a built-in kind comes from, which tells what an empty field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Upstream has it as a Go struct: empty fields that its type omits are absent.
    Stored,
    /// As it is written.
    Plain,
}

pub(crate) fn compare(
    types: Types<'_>,
    shape: Shape,
    (left, left_form): (&Value, Form),
    (right, right_form): (&Value, Form),
) -> Delta {
    Comparer { types, left_form, right_form }.place(shape, Some(left), Some(right)).below
}

struct Comparer<'s> {
    types: Types<'s>,
    left_form: Form,
    right_form: Form,
}

/// The change of one place: whether the place itself changed, and what changed below it.
#[derive(Default)]
struct Change {
    removed: bool,
    modified: bool,
    added: bool,
    below: Delta,
}

impl Change {
    /// Notes the change of the child that `element` leads to.
    fn attach(&mut self, element: impl Fn() -> PathElement, child: Change) {
        let below = &mut self.below;
        let sides = [
            (&mut below.removed, child.removed, child.below.removed),
            (&mut below.modified, child.modified, child.below.modified),
            (&mut below.added, child.added, child.below.added),
        ];
        for (set, is_member, nested) in sides {
            if is_member {
                set.insert_member(element());
            }
            if !nested.children().is_empty() || !nested.members().is_empty() {
                set.attach(element(), nested);
            }
        }
    }
}

impl Comparer<'_> {
    fn place(&self, shape: Shape, left: Option<&Value>, right: Option<&Value>) -> Change {
        let mut change = Change::default();
        if let (Some(one), Some(other)) = (left, right)
            && self.types.atoms_differ(shape, one, other)
        {
            self.atom(self.types.atom(shape, left), left, right, &mut change);
        }
        let is_leaf = self.atom(self.types.atom(shape, right.or(left)), left, right, &mut change);
        if !is_leaf {
            change.added |= left.is_none();
            change.removed |= left.is_some() && right.is_none();
        }
        change
    }

    /// Compares both sides as one atom; true when the place is a leaf.
    fn atom(&self, atom: Atom<'_>, left: Option<&Value>, right: Option<&Value>, change: &mut Change) -> bool {
        match atom {
            Atom::List(list) if !list.is_atomic() => {
                let (one, other) = (as_list(left), as_list(right));
                if !(one.is_empty() && other.is_empty()) {
                    self.items(list, one, other, change);
                    return false;
                }
            }
            Atom::Map(map) if !map.atomic => {
                let (one, other) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
                if one.is_some_and(|one| !one.is_empty()) || other.is_some_and(|other| !other.is_empty()) {
                    self.fields(map, one, other, change);
                    return false;
                }
            }
            _ => {}
        }
        match (left, right) {
            (None, _) => change.added = true,
            (_, None) => change.removed = true,
            (Some(left), Some(right)) => change.modified |= !values::equal(left, right),
        }
        true
    }

    fn items(&self, list: ListAtom<'_>, left: &[Value], right: &[Value], change: &mut Change) {
        let mut sides: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for value in left {
            if let Ok(element) = self.types.item_element(list, value) {
                sides.entry(element).or_default().0.push(value);
            }
        }
        for value in right {
            if let Ok(element) = self.types.item_element(list, value) {
                sides.entry(element).or_default().1.push(value);
            }
        }
        for (element, (left, right)) in sides {
            let child = match (left.as_slice(), right.as_slice()) {
                ([] | [_], [] | [_]) => self.place(list.item, left.first().copied(), right.first().copied()),
                ([_, _, ..], [_, _, ..]) => {
                    let same = left.len() == right.len() && left.iter().zip(&right).all(|(l, r)| values::equal(l, r));
                    Change { modified: !same, ..Change::default() }
                }
                // What was there twice was owned as a whole; now it is owned field by field, or gone.
                ([_, _, ..], rest) => {
                    let one = rest.first().map(|value| self.place(list.item, None, Some(value)));
                    Change { removed: true, ..one.unwrap_or_default() }
                }
                (rest, _) => {
                    let one = rest.first().map(|value| self.place(list.item, Some(value), None));
                    Change { added: true, ..one.unwrap_or_default() }
                }
            };
            change.attach(|| element.clone(), child);
        }
    }

    fn fields(&self, map: MapAtom<'_>, left: Option<&Map>, right: Option<&Map>, change: &mut Change) {
        let only_right =
            right.into_iter().flat_map(Map::keys).filter(|key| left.is_none_or(|left| !left.contains_key(*key)));
        for key in left.into_iter().flat_map(Map::keys).chain(only_right) {
            let (field, shape) = map.lenient_child(key);
            let (mut one, mut other) = (left.and_then(|left| left.get(key)), right.and_then(|right| right.get(key)));
            // The same text is the same field, whatever its form; for lists this spares telling the items apart.
            if let (Some(one), Some(other)) = (one, other)
                && !one.is_object()
                && one == other
            {
                continue;
            }
            if let Some(field) = field.filter(|_| map.ty.is_some_and(|ty| !ty.name.is_empty())) {
                one = as_go(self.types, field, one, self.left_form, left.is_some());
                other = as_go(self.types, field, other, self.right_form, right.is_some());
            }
            if one.is_some() || other.is_some() {
                change.attach(|| PathElement::field(key), self.place(shape, one, other));
            }
        }
    }
}

fn as_list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

static NULL: Value = Value::Null;
static FALSE: Value = Value::Bool(false);
static NOTHING: std::sync::LazyLock<(Value, Value, Value)> =
    std::sync::LazyLock::new(|| (Value::Object(Map::new()), Value::from(0), Value::from("")));

/// A field of a built-in type as upstream sees it, whose objects are Go structs: empty fields are absent when the type
/// omits them, and absent ones are present as zero when it does not. `inside` tells whether the struct itself is there.
fn as_go<'v>(types: Types<'_>, field: &Field, value: Option<&'v Value>, form: Form, inside: bool) -> Option<&'v Value> {
    let is_struct = matches!(types.schemas.get(field.ty), Type::Struct(_));
    let kept = value.filter(|value| match value {
        _ if form == Form::Plain => true,
        Value::Null => !field.omit_empty && (!is_struct || field.pointer),
        _ if field.pointer => true,
        Value::Object(map) if is_struct => !(field.omit_zero && map.is_empty()),
        Value::Object(map) => !(field.omit_empty && map.is_empty()),
        Value::Array(list) => !(field.omit_empty && list.is_empty()),
        Value::String(text) => !(field.omit_empty && text.is_empty()),
        Value::Number(number) => !(field.omit_empty && number.as_f64() == Some(0.0)),
        Value::Bool(flag) => !field.omit_empty || *flag,
    });
    kept.or_else(|| zero(types, field).filter(|_| inside))
}

fn zero(types: Types<'_>, field: &Field) -> Option<&'static Value> {
    let (empty, number, text) = &*NOTHING;
    match types.schemas.get(field.ty) {
        Type::Struct(_) => (!field.pointer && !field.omit_zero).then_some(empty),
        _ if field.pointer || field.omit_empty || field.omit_zero => None,
        Type::List(_) | Type::Map(_) => Some(&NULL),
        Type::Scalar(ScalarKind::String) => Some(text),
        Type::Scalar(ScalarKind::Boolean) => Some(&FALSE),
        Type::Scalar(ScalarKind::Int32 | ScalarKind::Int64 | ScalarKind::Integer | ScalarKind::IntOrString) => {
            Some(number)
        }
        Type::Scalar(_) => Some(&NULL),
        Type::Any => None,
    }
}
