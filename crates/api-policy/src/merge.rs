//! Merging what an apply configuration sets into an object.
//!
//! Source: `k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch/smd.go`.

use coracle_api_meta::Value;
use coracle_api_schema::{ListKind, Schemas, Type, TypeId, model::MapKind};

/// Merges a configuration into an object. The error names lists, maps or structs that may only change as a whole.
pub(crate) fn merge(schemas: &Schemas, ty: TypeId, object: &mut Value, patch: &Value) -> Result<(), String> {
    let mut atomics = Vec::new();
    merge_into(schemas, Some(ty), object, patch, "", &mut atomics);
    if atomics.is_empty() {
        return Ok(());
    }
    Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}", atomics.join(", ")))
}

fn merge_into(
    schemas: &Schemas,
    ty: Option<TypeId>,
    object: &mut Value,
    patch: &Value,
    path: &str,
    atomics: &mut Vec<String>,
) {
    let known = ty.map(|ty| schemas.get(ty));
    let atomic = match known {
        Some(Type::Struct(ty)) => ty.atomic,
        Some(Type::Map(map)) => map.kind == MapKind::Atomic,
        Some(Type::List(list)) => list.kind == ListKind::Atomic,
        _ => false,
    };
    if atomic {
        atomics.push(path.to_owned());
        return;
    }
    match (known, patch) {
        (Some(Type::List(list)), Value::Array(items)) => {
            if !object.is_array() {
                *object = Value::Array(Vec::new());
            }
            let Value::Array(live) = object else { return };
            for item in items {
                let found = match &list.kind {
                    ListKind::Map { keys } => {
                        live.iter_mut().find(|live| keys.iter().all(|key| live.get(key) == item.get(key)))
                    }
                    _ => live.iter_mut().find(|live| *live == item),
                };
                match found {
                    Some(live) => merge_into(schemas, Some(list.item), live, item, &format!("{path}[]"), atomics),
                    None => live.push(item.clone()),
                }
            }
        }
        (Some(Type::Struct(_) | Type::Map(_)) | None, Value::Object(fields)) => {
            if !object.is_object() {
                *object = Value::Object(coracle_api_meta::Map::new());
            }
            let Value::Object(live) = object else { return };
            for (name, value) in fields {
                let inner = ty.and_then(|ty| schemas.child(ty, name));
                let slot = live.entry(name.clone()).or_insert(Value::Null);
                merge_into(schemas, inner, slot, value, &format!("{path}.{name}"), atomics);
            }
        }
        (_, patch) => *object = patch.clone(),
    }
}
