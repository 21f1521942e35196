//! Sets that were written under an older schema, in which a list, map or struct was granular that is atomic now.

use super::shape::{Atom, Shape, Types};
use crate::fields::{FieldSet, PathElement};

/// The set under today's schema; `None` when it is the same.
pub(crate) fn reconcile(types: Types<'_>, shape: Shape, set: &FieldSet) -> Option<FieldSet> {
    let atom = types.atom(shape, None);
    let mut changed = false;
    let mut out = FieldSet::new();
    for (element, below) in set.children() {
        let child = match (&atom, element) {
            (Atom::Map(map), PathElement::Field(name)) => map.child(name).1,
            (Atom::Map(map), _) => map.rest,
            (Atom::List(list), _) => Some(list.item),
            (Atom::Scalar(_), _) => None,
        };
        let is_atomic = child.is_some_and(|child| match types.atom(child, None) {
            Atom::Map(map) => map.atomic,
            Atom::List(list) => list.is_atomic(),
            Atom::Scalar(_) => false,
        });
        if is_atomic && !below.is_empty() {
            changed = true;
            out.insert_member(element.clone());
            continue;
        }
        let reconciled = child.and_then(|child| reconcile(types, child, below));
        changed |= reconciled.is_some();
        out.attach(element.clone(), reconciled.unwrap_or_else(|| below.clone()));
    }
    if !changed {
        return None;
    }
    for member in set.members() {
        out.insert_member(member.clone());
    }
    Some(out)
}
