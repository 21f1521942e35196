//! What the schema says of one place of an object.

use coracle_api_meta::Value;
use coracle_api_schema::model::StructType;
use coracle_api_schema::{Field, ListKind, MapKind, ScalarKind, Schemas, Special, Type, TypeId};

static ATOMIC: ListKind = ListKind::Atomic;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The type of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Typed(TypeId),
    /// An object without a schema, of which only the metadata is known.
    Custom,
    /// No schema: maps are granular, lists atomic.
    Deduced,
    /// No schema, and all of it is one value.
    Opaque,
}

/// What a place is once its value is known.
pub(crate) enum Atom<'s> {
    Scalar(Scalar),
    List(ListAtom<'s>),
    Map(MapAtom<'s>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Numeric,
    String,
    Boolean,
    Untyped,
}

#[derive(Clone, Copy)]
pub(crate) struct ListAtom<'s> {
    pub kind: &'s ListKind,
    pub item: Shape,
}

#[derive(Clone, Copy)]
pub(crate) struct MapAtom<'s> {
    /// The named fields.
    pub ty: Option<&'s StructType>,
    /// All other fields; `None` where there may be none.
    pub rest: Option<Shape>,
    /// Of objects without a schema.
    pub metadata: Option<TypeId>,
    pub atomic: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Types<'s> {
    pub schemas: &'s Schemas,
}

impl<'s> Types<'s> {
    pub(crate) fn atom(self, shape: Shape, value: Option<&Value>) -> Atom<'s> {
        let id = match shape {
            Shape::Typed(id) => id,
            Shape::Custom => return self.custom_atom(value),
            free => return free_atom(free, value),
        };
        match self.schemas.get(id) {
            Type::Any => free_atom(self.resolve(shape), value),
            Type::Scalar(kind) => Atom::Scalar(scalar(*kind)),
            Type::List(list) => Atom::List(ListAtom { kind: &list.kind, item: Shape::Typed(list.item) }),
            Type::Map(map) => Atom::Map(MapAtom {
                ty: None,
                rest: Some(Shape::Typed(map.value)),
                metadata: None,
                atomic: map.kind == MapKind::Atomic,
            }),
            Type::Struct(ty) => Atom::Map(MapAtom {
                ty: Some(ty),
                rest: (ty.preserve_unknown || ty.fields.is_empty()).then_some(Shape::Deduced),
                metadata: None,
                atomic: ty.atomic,
            }),
        }
    }

    fn custom_atom(self, value: Option<&Value>) -> Atom<'s> {
        match free_atom(Shape::Deduced, value) {
            Atom::Map(map) => Atom::Map(MapAtom { metadata: self.schemas.named(OBJECT_META), ..map }),
            other => other,
        }
    }

    /// Whether two values of one place are of different atoms; only places without a schema can hold such.
    pub(crate) fn atoms_differ(self, shape: Shape, left: &Value, right: &Value) -> bool {
        match self.resolve(shape) {
            Shape::Typed(_) => false,
            _ => atom_kind(left) != atom_kind(right),
        }
    }

    /// Types that hold anything become [`Shape::Deduced`] or [`Shape::Opaque`].
    pub(crate) fn resolve(self, shape: Shape) -> Shape {
        match shape {
            Shape::Typed(id) if matches!(self.schemas.get(id), Type::Any) => match self.schemas.special.get(&id) {
                Some(Special::RawExtension) => Shape::Opaque,
                _ => Shape::Deduced,
            },
            other => other,
        }
    }
}

impl<'s> MapAtom<'s> {
    /// The named field, if it is one, and the shape of the value; `None` for fields that may not be.
    pub(crate) fn child(&self, key: &str) -> (Option<&'s Field>, Option<Shape>) {
        match self.ty.and_then(|ty| ty.field(key)) {
            Some(field) => (Some(field), Some(Shape::Typed(field.ty))),
            None => match self.metadata.filter(|_| key == "metadata") {
                Some(metadata) => (None, Some(Shape::Typed(metadata))),
                None => (None, self.rest),
            },
        }
    }

    /// As [`MapAtom::child`]; fields that may not be are taken as they come.
    pub(crate) fn lenient_child(&self, key: &str) -> (Option<&'s Field>, Shape) {
        let (field, shape) = self.child(key);
        (field, shape.unwrap_or(Shape::Deduced))
    }
}

impl ListAtom<'_> {
    pub(crate) fn is_atomic(&self) -> bool {
        *self.kind == ListKind::Atomic
    }
}

fn free_atom(shape: Shape, value: Option<&Value>) -> Atom<'static> {
    let atomic = shape == Shape::Opaque;
    match value {
        Some(Value::Array(_)) => Atom::List(ListAtom { kind: &ATOMIC, item: Shape::Opaque }),
        Some(Value::Object(_) | Value::Null) | None => {
            Atom::Map(MapAtom { ty: None, rest: Some(shape), metadata: None, atomic })
        }
        Some(_) => Atom::Scalar(Scalar::Untyped),
    }
}

fn atom_kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Object(_) => 1,
        Value::Array(_) => 2,
        _ => 3,
    }
}

fn scalar(kind: ScalarKind) -> Scalar {
    match kind {
        ScalarKind::String | ScalarKind::Bytes | ScalarKind::Duration => Scalar::String,
        ScalarKind::Boolean => Scalar::Boolean,
        ScalarKind::Int32 | ScalarKind::Int64 | ScalarKind::Integer | ScalarKind::Double => Scalar::Numeric,
        ScalarKind::Quantity | ScalarKind::IntOrString | ScalarKind::Time | ScalarKind::MicroTime => Scalar::Untyped,
    }
}
