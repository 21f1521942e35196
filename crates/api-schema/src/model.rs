//! The model of types that decoding, patching, applying, defaulting and OpenAPI rendering share.

use std::collections::HashMap;

use coracle_api_meta::{Gvk, Value};

/// Kinds that every group and version has (`metav1.AddToGroupVersion`); they are kept under `v1` alone.
const EVERYWHERE: [&str; 8] = [
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "ApplyOptions",
    "WatchEvent",
];

/// Index of a type in its [`Schemas`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// Types that refer to each other. Built-in kinds share one; each version of a custom resource has its own.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    pub types: Vec<Type>,
    pub by_name: HashMap<String, TypeId>,
    pub by_gvk: HashMap<Gvk, TypeId>,
    /// Types whose JSON or protobuf form their model does not show.
    pub special: HashMap<TypeId, Special>,
}

/// Types with encodings of their own. All but [`Special::Wrapped`] are [`Type::Any`] in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    RawExtension,
    FieldsV1,
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStringArray,
    /// A list that is a protobuf message with the items in field 1 (`ExtraValue`, `Verbs`).
    Wrapped,
}

#[derive(Debug, Clone)]
pub enum Type {
    Struct(StructType),
    List(ListType),
    Map(MapType),
    Scalar(ScalarKind),
    /// Anything: `RawExtension`, `JSON`, `x-kubernetes-preserve-unknown-fields`. Atomic for apply.
    Any,
}

/// An object with named fields.
#[derive(Debug, Clone, Default)]
pub struct StructType {
    /// `io.k8s.api.core.v1.Container`; empty for anonymous types of custom resources.
    pub name: String,
    pub fields: Vec<Field>,
    /// Applied and merged as one value (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// Fields that are not named here are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// Holds a whole object with `apiVersion`, `kind` and `metadata` (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Field {
    pub name: String,
    pub ty: TypeId,
    pub required: bool,
    /// The schema's own default, as in OpenAPI. Defaults that depend on other fields belong to the kind's rules.
    pub default: Option<Value>,
    /// How strategic merge patch treats the field (`patchStrategy`, `patchMergeKey`).
    pub patch: PatchStrategy,
    /// Number in the protobuf message, 0 where there is none.
    pub protobuf: u32,
    /// Numbers of the messages that the field is nested in on the wire while JSON has it inline, outermost first; 0 is none.
    pub inlined: [u16; 2],
    pub nullable: bool,
    /// Go leaves the field out when it is empty; without this an empty one is written.
    pub omit_empty: bool,
    /// Go leaves the field out when it is zero, structs included.
    pub omit_zero: bool,
    /// Unset and zero differ.
    pub pointer: bool,
}

/// Source: `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists merge instead of being replaced.
    pub merge: bool,
    /// Only the keys named by the patch's `$retainKeys` stay.
    pub retain_keys: bool,
    /// For lists of objects that merge; empty for lists of scalars.
    pub merge_key: String,
}

#[derive(Debug, Clone)]
pub struct ListType {
    pub item: TypeId,
    pub kind: ListKind,
}

/// Source: `x-kubernetes-list-type` and `x-kubernetes-list-map-keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    Map {
        keys: Vec<String>,
    },
}

#[derive(Debug, Clone)]
pub struct MapType {
    pub value: TypeId,
    pub kind: MapKind,
}

/// Source: `x-kubernetes-map-type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MapKind {
    #[default]
    Granular,
    Atomic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    String,
    Boolean,
    Int32,
    Int64,
    /// An integer of no named format.
    Integer,
    Double,
    /// Base64 text.
    Bytes,
    Quantity,
    IntOrString,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    Duration,
}

impl Schemas {
    /// The type of an id of this arena.
    ///
    /// # Panics
    /// When the id belongs to another arena.
    #[must_use]
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    #[must_use]
    pub fn kind(&self, gvk: &Gvk) -> Option<TypeId> {
        let everywhere = || {
            let known = EVERYWHERE.contains(&gvk.kind.as_str());
            known.then(|| self.by_gvk.get(&Gvk::new("", "v1", gvk.kind.clone()))).flatten()
        };
        self.by_gvk.get(gvk).or_else(everywhere).copied()
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    #[must_use]
    pub fn as_struct(&self, id: TypeId) -> Option<&StructType> {
        match self.get(id) {
            Type::Struct(ty) => Some(ty),
            _ => None,
        }
    }

    /// The field of a struct, or the value type of a map, that `key` leads to.
    #[must_use]
    pub fn child(&self, id: TypeId, key: &str) -> Option<TypeId> {
        match self.get(id) {
            Type::Struct(ty) => ty.field(key).map(|field| field.ty),
            Type::Map(map) => Some(map.value),
            _ => None,
        }
    }

    pub fn add(&mut self, ty: Type) -> TypeId {
        let id = TypeId(u32::try_from(self.types.len()).expect("fewer types than 2^32"));
        self.types.push(ty);
        id
    }
}

impl StructType {
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}
