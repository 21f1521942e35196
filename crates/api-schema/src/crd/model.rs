//! The types of a custom resource, for patching and applying.

use std::collections::HashMap;

use super::node::{Additional, Node};
use crate::{
    builtin::builtin,
    model::{Field, ListKind, ListType, MapKind, MapType, ScalarKind, Schemas, StructType, Type, TypeId},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The arena of a version and the type of its object.
pub(super) fn build(node: &Node) -> (Schemas, TypeId) {
    let mut builder = Builder { schemas: Schemas::default(), copied: HashMap::new() };
    let root = builder.structure(node, true);
    (builder.schemas, root)
}

struct Builder {
    schemas: Schemas,
    /// Built-in types that were taken over, by their ids there.
    copied: HashMap<TypeId, TypeId>,
}

impl Builder {
    fn ty(&mut self, node: &Node) -> TypeId {
        if node.int_or_string {
            return self.schemas.add(Type::Scalar(ScalarKind::IntOrString));
        }
        let scalar = match (node.ty.as_str(), node.format.as_str()) {
            ("string", _) => ScalarKind::String,
            ("boolean", _) => ScalarKind::Boolean,
            ("integer", "int32") => ScalarKind::Int32,
            ("integer", "int64") => ScalarKind::Int64,
            ("integer", _) => ScalarKind::Integer,
            ("number", _) => ScalarKind::Double,
            ("array", _) => return self.list(node),
            ("object", _) => return self.object(node),
            _ => return self.schemas.add(Type::Any),
        };
        self.schemas.add(Type::Scalar(scalar))
    }

    fn list(&mut self, node: &Node) -> TypeId {
        let item = match &node.items {
            Some(items) => self.ty(items),
            None => self.schemas.add(Type::Any),
        };
        let kind = match node.list_type.as_str() {
            "set" => ListKind::Set,
            "map" => ListKind::Map { keys: node.list_map_keys.clone() },
            _ => ListKind::Atomic,
        };
        self.schemas.add(Type::List(ListType { item, kind }))
    }

    fn object(&mut self, node: &Node) -> TypeId {
        let value = match &node.additional {
            Some(Additional::Schema(schema)) if node.properties.is_empty() => self.ty(schema),
            Some(Additional::Allowed(true)) if node.properties.is_empty() => self.schemas.add(Type::Any),
            _ => return self.structure(node, node.embedded),
        };
        let kind = if node.map_type == "atomic" { MapKind::Atomic } else { MapKind::Granular };
        self.schemas.add(Type::Map(MapType { value, kind }))
    }

    fn structure(&mut self, node: &Node, whole: bool) -> TypeId {
        let mut fields = Vec::new();
        if whole {
            fields = self.type_meta();
        }
        for (name, property) in &node.properties {
            if whole && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let required = node.checks.as_ref().is_some_and(|checks| checks.required.contains(name));
            fields.push(Field {
                name: name.clone(),
                ty: self.ty(property),
                required,
                default: property.default.clone(),
                nullable: property.nullable,
                omit_empty: true,
                pointer: true,
                ..Field::default()
            });
        }
        self.schemas.add(Type::Struct(StructType {
            name: String::new(),
            fields,
            atomic: node.map_type == "atomic",
            preserve_unknown: node.preserve_unknown,
            embedded_resource: node.embedded,
        }))
    }

    fn type_meta(&mut self) -> Vec<Field> {
        let text = self.schemas.add(Type::Scalar(ScalarKind::String));
        let field = |name: &str, ty| Field { name: name.to_owned(), ty, omit_empty: true, ..Field::default() };
        let mut fields = vec![field("apiVersion", text), field("kind", text)];
        if let Some(meta) = builtin().named(OBJECT_META) {
            fields.push(field("metadata", self.copy(meta)));
        }
        fields
    }

    /// Takes a built-in type over, with all that it refers to. Types here do not recur.
    fn copy(&mut self, id: TypeId) -> TypeId {
        if let Some(&known) = self.copied.get(&id) {
            return known;
        }
        let mut ty = builtin().get(id).clone();
        match &mut ty {
            Type::Struct(ty) => ty.fields.iter_mut().for_each(|field| field.ty = self.copy(field.ty)),
            Type::List(list) => list.item = self.copy(list.item),
            Type::Map(map) => map.value = self.copy(map.value),
            Type::Scalar(_) | Type::Any => {}
        }
        let new = self.schemas.add(ty);
        if let Some(special) = builtin().special.get(&id) {
            self.schemas.special.insert(new, *special);
        }
        self.copied.insert(id, new);
        new
    }
}
