//! What Go writes for fields that hold nothing: `omitempty`, `omitzero`, pointers and zero values.

use coracle_api_meta::{Map, Value};

use crate::model::{Field, ScalarKind, Schemas, StructType, Type, TypeId};

/// The JSON of a struct whose fields came as `slots`, in the order of the type's fields.
pub(crate) fn finish(schemas: &Schemas, ty: &StructType, slots: Vec<Option<Value>>) -> Map {
    let mut out = Map::new();
    for (field, slot) in ty.fields.iter().zip(slots) {
        if let Some(value) = finish_field(schemas, field, slot) {
            out.insert(field.name.clone(), value);
        }
    }
    out
}

/// What stands for a field, `None` when it is left out.
fn finish_field(schemas: &Schemas, field: &Field, slot: Option<Value>) -> Option<Value> {
    let Some(value) = slot else { return unset(schemas, field) };
    let empty = match &value {
        Value::String(text) => {
            text.is_empty() && matches!(scalar(schemas, field.ty), Some(ScalarKind::String | ScalarKind::Bytes))
        }
        Value::Bool(set) => !set,
        Value::Number(number) => {
            number.as_f64() == Some(0.0) && scalar(schemas, field.ty) != Some(ScalarKind::IntOrString)
        }
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && matches!(schemas.get(field.ty), Type::Map(_)),
        Value::Null => true,
    };
    let raw = schemas.special.contains_key(&field.ty) && matches!(schemas.get(field.ty), Type::Any);
    if field.omit_empty && !field.pointer && empty && !raw { None } else { Some(value) }
}

fn unset(schemas: &Schemas, field: &Field) -> Option<Value> {
    if field.pointer {
        return (!field.omit_empty).then_some(Value::Null);
    }
    // Structs, and what Go keeps in structs, are never empty.
    let is_struct = match schemas.get(field.ty) {
        Type::Struct(_) => true,
        Type::Any => schemas.special.contains_key(&field.ty),
        Type::Scalar(kind) => matches!(
            kind,
            ScalarKind::Time
                | ScalarKind::MicroTime
                | ScalarKind::Quantity
                | ScalarKind::IntOrString
                | ScalarKind::Duration
        ),
        Type::List(_) | Type::Map(_) => false,
    };
    if field.omit_zero || (field.omit_empty && !is_struct) {
        return None;
    }
    Some(zero(schemas, field.ty))
}

/// The JSON of Go's zero value.
pub(crate) fn zero(schemas: &Schemas, ty: TypeId) -> Value {
    match schemas.get(ty) {
        Type::Struct(ty) => Value::Object(finish(schemas, ty, vec![None; ty.fields.len()])),
        Type::List(_) | Type::Map(_) | Type::Any => Value::Null,
        Type::Scalar(kind) => match kind {
            ScalarKind::String => "".into(),
            ScalarKind::Boolean => false.into(),
            ScalarKind::Int32
            | ScalarKind::Int64
            | ScalarKind::Integer
            | ScalarKind::Double
            | ScalarKind::IntOrString => 0.into(),
            ScalarKind::Quantity => "0".into(),
            ScalarKind::Duration => "0s".into(),
            ScalarKind::Bytes | ScalarKind::Time | ScalarKind::MicroTime => Value::Null,
        },
    }
}

fn scalar(schemas: &Schemas, ty: TypeId) -> Option<ScalarKind> {
    match schemas.get(ty) {
        Type::Scalar(kind) => Some(*kind),
        _ => None,
    }
}
