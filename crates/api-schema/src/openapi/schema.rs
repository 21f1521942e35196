//! Built-in types as JSON schemas, with the extensions that clients merge, apply and explain by.

use std::collections::{BTreeSet, VecDeque};

use coracle_api_meta::{GroupVersion, Map, Value};
use serde_json::json;

use super::{Dialect, describe};
use crate::model::{Field, ListKind, MapKind, ScalarKind, Schemas, StructType, Type, TypeId};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// What operations of every group refer to.
pub(super) const SHARED: [&str; 5] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// Adds types and all they refer to.
pub(super) fn add(schemas: &Schemas, dialect: Dialect, gv: &GroupVersion, roots: &[String], out: &mut Map) {
    let renderer = Renderer { schemas, dialect, gv };
    let mut queue: VecDeque<String> = roots.iter().cloned().collect();
    let mut fresh = BTreeSet::new();
    while let Some(name) = queue.pop_front() {
        if !out.contains_key(&name) && fresh.insert(name.clone()) {
            renderer.refers_to(&name, &mut queue);
        }
    }
    let described = describe::of(&fresh.iter().map(String::as_str).collect::<Vec<_>>());
    for name in fresh {
        let mut schema = renderer.named(&name);
        match described.get(&name) {
            Some(described) => describe::apply(described, &mut schema),
            None => describe::list(&name, &described, &mut schema),
        }
        out.insert(name, Value::Object(schema));
    }
    let patch = json!({ "description": "A patch in the format that the content type names.", "type": "object" });
    out.entry(format!("{META}.Patch")).or_insert(patch);
}

struct Renderer<'s> {
    schemas: &'s Schemas,
    dialect: Dialect,
    gv: &'s GroupVersion,
}

impl Renderer<'_> {
    fn refers_to(&self, name: &str, queue: &mut VecDeque<String>) {
        let Some(ty) = self.schemas.named(name).and_then(|id| self.schemas.as_struct(id)) else { return };
        for field in &ty.fields {
            let mut id = field.ty;
            loop {
                match self.schemas.get(id) {
                    Type::List(list) => id = list.item,
                    Type::Map(map) => id = map.value,
                    _ => break,
                }
            }
            queue.extend(self.component(id));
        }
    }

    /// Name of the component that stands for a type.
    fn component(&self, id: TypeId) -> Option<String> {
        match self.schemas.get(id) {
            Type::Struct(ty) => Some(ty.name.clone()),
            Type::Scalar(kind) => component_of(*kind).map(str::to_owned),
            Type::Any => {
                self.schemas.special.get(&id)?;
                self.schemas.by_name.iter().find(|(_, named)| **named == id).map(|(name, _)| name.clone())
            }
            Type::List(_) | Type::Map(_) => None,
        }
    }

    fn named(&self, name: &str) -> Map {
        let ty = self.schemas.named(name).and_then(|id| self.schemas.as_struct(id));
        let value = match (ty, name.rsplit('.').next()) {
            (Some(ty), _) => return self.structure(ty),
            (_, Some("Quantity")) if self.dialect == Dialect::V3 => {
                json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })
            }
            (_, Some("Quantity")) => json!({ "type": "string" }),
            (_, Some("IntOrString")) if self.dialect == Dialect::V3 => {
                json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
            }
            (_, Some("IntOrString")) => json!({ "format": "int-or-string", "type": "string" }),
            (_, Some("Time" | "MicroTime")) => json!({ "format": "date-time", "type": "string" }),
            (_, Some("Duration")) => json!({ "type": "string" }),
            (_, Some("RawExtension" | "FieldsV1")) => json!({ "type": "object" }),
            _ => json!({}),
        };
        match value {
            Value::Object(schema) => schema,
            _ => Map::new(),
        }
    }

    fn structure(&self, ty: &StructType) -> Map {
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        if !ty.fields.is_empty() {
            let properties: Map = ty.fields.iter().map(|field| (field.name.clone(), self.property(field))).collect();
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        let required: Vec<&str> = ty.fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        let kinds = self.kinds(ty);
        if !kinds.is_empty() {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
        }
        if ty.atomic {
            schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
        schema
    }

    fn kinds(&self, ty: &StructType) -> Vec<Value> {
        let own = ty.name.rsplit('.').next().unwrap_or_default();
        if matches!(own, "DeleteOptions" | "WatchEvent") && ty.name.starts_with(META) {
            let mut kinds = vec![json!({ "group": "", "version": "v1", "kind": own })];
            if !self.gv.group.is_empty() {
                kinds.push(json!({ "group": self.gv.group, "version": self.gv.version, "kind": own }));
            }
            return kinds;
        }
        let id = self.schemas.named(&ty.name);
        let mut kinds: Vec<_> = self.schemas.by_gvk.iter().filter(|(_, named)| Some(**named) == id).collect();
        kinds.sort();
        let kind =
            |gvk: &coracle_api_meta::Gvk| json!({ "group": gvk.group, "version": gvk.version, "kind": gvk.kind });
        kinds.into_iter().map(|(gvk, _)| kind(gvk)).collect()
    }

    fn property(&self, field: &Field) -> Value {
        let mut schema = self.typed(field.ty, true);
        if let Some(default) = field.default.clone().or_else(|| self.zero_default(field)) {
            schema.insert("default".to_owned(), default);
        }
        let strategies: Vec<&str> = [(field.patch.merge, "merge"), (field.patch.retain_keys, "retainKeys")]
            .into_iter()
            .filter_map(|(set, name)| set.then_some(name))
            .collect();
        if !strategies.is_empty() {
            schema.insert("x-kubernetes-patch-strategy".to_owned(), strategies.join(",").into());
        }
        if !field.patch.merge_key.is_empty() {
            schema.insert("x-kubernetes-patch-merge-key".to_owned(), field.patch.merge_key.clone().into());
        }
        if self.schemas.as_struct(field.ty).is_some_and(|ty| !ty.atomic && self.is_loosened(ty)) {
            schema.insert("x-kubernetes-map-type".to_owned(), "granular".into());
        }
        Value::Object(schema)
    }

    /// Whether a struct is a copy of an atomic one for a field that is not.
    fn is_loosened(&self, ty: &StructType) -> bool {
        self.schemas.named(&ty.name).and_then(|id| self.schemas.as_struct(id)).is_some_and(|named| named.atomic)
    }

    /// The default that stands for Go's zero value of a field that is always written.
    fn zero_default(&self, field: &Field) -> Option<Value> {
        if field.pointer || self.dialect == Dialect::V2 {
            return None;
        }
        match self.schemas.get(field.ty) {
            Type::Struct(_) => Some(json!({})),
            _ if field.omit_empty => None,
            Type::Scalar(ScalarKind::String) => Some("".into()),
            Type::Scalar(ScalarKind::Boolean) => Some(false.into()),
            Type::Scalar(ScalarKind::Int32 | ScalarKind::Int64 | ScalarKind::Integer | ScalarKind::Double) => {
                Some(0.into())
            }
            _ => None,
        }
    }

    /// A type where it is used. A property's reference is wrapped in v3, where siblings of `$ref` do not count.
    fn typed(&self, id: TypeId, property: bool) -> Map {
        if let Some(name) = self.component(id) {
            let reference = self.dialect.reference(&name);
            let wrapped = json!({ "allOf": [reference] });
            let value = if property && self.dialect == Dialect::V3 { wrapped } else { reference };
            return value.as_object().cloned().unwrap_or_default();
        }
        let value = match self.schemas.get(id) {
            Type::List(list) => {
                let mut schema = json!({ "type": "array", "items": self.typed(list.item, false) });
                match &list.kind {
                    ListKind::Atomic => {}
                    ListKind::Set => schema["x-kubernetes-list-type"] = "set".into(),
                    ListKind::Map { keys } => {
                        schema["x-kubernetes-list-type"] = "map".into();
                        schema["x-kubernetes-list-map-keys"] = json!(keys);
                    }
                }
                schema
            }
            Type::Map(map) => {
                let mut schema = json!({ "type": "object", "additionalProperties": self.typed(map.value, false) });
                if map.kind == MapKind::Atomic {
                    schema["x-kubernetes-map-type"] = "atomic".into();
                }
                schema
            }
            Type::Scalar(kind) => scalar(*kind),
            Type::Struct(_) | Type::Any => json!({ "type": "object" }),
        };
        value.as_object().cloned().unwrap_or_default()
    }
}

fn component_of(kind: ScalarKind) -> Option<&'static str> {
    Some(match kind {
        ScalarKind::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        ScalarKind::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        ScalarKind::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        ScalarKind::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        ScalarKind::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        _ => return None,
    })
}

fn scalar(kind: ScalarKind) -> Value {
    match kind {
        ScalarKind::Boolean => json!({ "type": "boolean" }),
        ScalarKind::Int32 => json!({ "format": "int32", "type": "integer" }),
        ScalarKind::Int64 => json!({ "format": "int64", "type": "integer" }),
        ScalarKind::Integer => json!({ "type": "integer" }),
        ScalarKind::Double => json!({ "format": "double", "type": "number" }),
        ScalarKind::Bytes => json!({ "format": "byte", "type": "string" }),
        _ => json!({ "type": "string" }),
    }
}
