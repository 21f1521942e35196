//! Owning a field of a struct means owning the struct's field that leads to it, for pruning.

use super::shape::{Atom, Shape, Types};
use crate::fields::{FieldSet, PathElement};

/// The set with every named field that leads to one of its fields: with `a.b.c` also `a` where `a` is a field of a struct,
/// but not `a.b` where `b` is a key of a map.
pub(crate) fn with_named_fields(types: Types<'_>, shape: Option<Shape>, set: &FieldSet) -> FieldSet {
    let atom = shape.map(|shape| types.atom(shape, None));
    let mut out = FieldSet::new();
    for member in set.members() {
        out.insert_member(member.clone());
    }
    for (element, below) in set.children() {
        let child = match (&atom, element) {
            (Some(Atom::Map(map)), PathElement::Field(name)) => {
                let (field, shape) = map.child(name);
                if field.is_some() {
                    out.insert_member(element.clone());
                }
                shape
            }
            (Some(Atom::List(list)), PathElement::Key(_)) => Some(list.item),
            _ => None,
        };
        out.attach(element.clone(), with_named_fields(types, child, below));
    }
    out
}
