//! Object trees to messages.

use coracle_api_meta::{Map, Value};

use super::{ProtoError, wire};
use crate::{
    model::{ScalarKind, Schemas, Special, StructType, Type, TypeId},
    scalar, time,
};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
/// Objects inside each other that are written; what was decoded is never deeper.
const DEPTH_MAX: usize = 400;

pub(super) fn message(schemas: &Schemas, ty: TypeId, object: &Value, out: &mut Vec<u8>) -> Result<(), ProtoError> {
    Writer { schemas, depth_left: DEPTH_MAX }.message(ty, object, out)
}

struct Writer<'s> {
    schemas: &'s Schemas,
    depth_left: usize,
}

impl<'s> Writer<'s> {
    fn message(&mut self, ty: TypeId, object: &Value, out: &mut Vec<u8>) -> Result<(), ProtoError> {
        let schemas = self.schemas;
        match (schemas.as_struct(ty), object) {
            (_, Value::Null) => Ok(()),
            (Some(ty), Value::Object(object)) => {
                self.depth_left = self.depth_left.checked_sub(1).ok_or(wire::WireError::Depth)?;
                self.level(ty, [0, 0], object, out)?;
                self.depth_left += 1;
                Ok(())
            }
            _ => Err(ProtoError::Mismatch(String::new())),
        }
    }

    /// Writes the fields that stand in one message, then the messages that JSON has inline there.
    fn level(&mut self, ty: &'s StructType, via: [u16; 2], object: &Map, out: &mut Vec<u8>) -> Result<(), ProtoError> {
        let mut inner = Vec::new();
        for field in &ty.fields {
            if field.inlined == via {
                let value = object.get(&field.name).filter(|value| !value.is_null() && field.protobuf > 0);
                if let Some(value) = value {
                    self.field(field.ty, field.protobuf, value, out).map_err(|error| named(error, &field.name))?;
                }
            } else if let Some(number) = below(via, field.inlined)
                && !inner.contains(&number)
                && object.contains_key(&field.name)
            {
                inner.push(number);
            }
        }
        for number in inner {
            let mut message = Vec::new();
            let via = if via[0] == 0 { [number, 0] } else { [via[0], number] };
            self.level(ty, via, object, &mut message)?;
            wire::bytes(u32::from(number), &message, out);
        }
        Ok(())
    }

    fn field(&mut self, ty: TypeId, number: u32, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtoError> {
        match (self.schemas.get(ty), value) {
            (Type::List(list), Value::Array(items)) if !self.schemas.special.contains_key(&ty) => {
                items.iter().try_for_each(|item| self.single(list.item, number, item, out))
            }
            (Type::Map(map), Value::Object(entries)) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                entries.into_iter().try_for_each(|(key, value)| {
                    let mut entry = Vec::new();
                    wire::bytes(1, key.as_bytes(), &mut entry);
                    self.single(map.value, 2, value, &mut entry)?;
                    wire::bytes(number, &entry, out);
                    Ok(())
                })
            }
            _ => self.single(ty, number, value, out),
        }
    }

    fn single(&mut self, ty: TypeId, number: u32, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtoError> {
        let mut message = Vec::new();
        match (self.schemas.get(ty), value) {
            (Type::Scalar(kind), value) => {
                return scalar_to(*kind, number, value, out).ok_or_else(|| ProtoError::Mismatch(String::new()));
            }
            (Type::Struct(_), value) => self.message(ty, value, &mut message)?,
            (Type::List(list), Value::Array(items)) => {
                items.iter().try_for_each(|item| self.single(list.item, 1, item, &mut message))?;
            }
            (Type::List(_), Value::Null) => {}
            (Type::Any, value) => self.any(ty, value, &mut message)?,
            _ => return Err(ProtoError::Mismatch(String::new())),
        }
        wire::bytes(number, &message, out);
        Ok(())
    }

    fn any(&mut self, ty: TypeId, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtoError> {
        let (Some(special), Some(schema)) = (self.schemas.special.get(&ty), self.schemas.named(SCHEMA)) else {
            return Err(ProtoError::Mismatch(String::new()));
        };
        let with_bool = *special == Special::SchemaOrBool;
        match (special, value) {
            (_, Value::Null) => {}
            (Special::RawExtension | Special::FieldsV1 | Special::Json, value) => {
                let json = serde_json::to_vec(value).map_err(|error| ProtoError::Inner(error.to_string()))?;
                wire::bytes(1, &json, out);
            }
            (Special::SchemaOrBool, Value::Bool(allows)) => wire::varint(1, u64::from(*allows), out),
            (_, Value::Object(_)) => {
                if with_bool {
                    wire::varint(1, 1, out);
                }
                let mut message = Vec::new();
                self.message(schema, value, &mut message)?;
                wire::bytes(if with_bool { 2 } else { 1 }, &message, out);
            }
            (Special::SchemaOrArray, Value::Array(items)) => {
                items.iter().try_for_each(|item| self.single(schema, 2, item, out))?;
            }
            (Special::SchemaOrStringArray, Value::Array(items)) => {
                for item in items {
                    wire::bytes(2, item.as_str().unwrap_or_default().as_bytes(), out);
                }
            }
            _ => return Err(ProtoError::Mismatch(String::new())),
        }
        Ok(())
    }
}

/// The number of the message directly under `via` that holds a field with these outer messages.
fn below(via: [u16; 2], inlined: [u16; 2]) -> Option<u16> {
    match (via, inlined) {
        ([0, _], [number, _]) if number > 0 => Some(number),
        ([outer, 0], [same, number]) if outer > 0 && outer == same && number > 0 => Some(number),
        _ => None,
    }
}

fn named(error: ProtoError, name: &str) -> ProtoError {
    match error {
        ProtoError::Mismatch(path) if path.is_empty() => ProtoError::Mismatch(name.to_owned()),
        ProtoError::Mismatch(path) => ProtoError::Mismatch(format!("{name}.{path}")),
        other => other,
    }
}

/// Writes a scalar; `None` when the value is of another type.
#[allow(clippy::cast_sign_loss)]
fn scalar_to(kind: ScalarKind, number: u32, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    let mut message = Vec::new();
    match kind {
        ScalarKind::Boolean => {
            wire::varint(number, u64::from(value.as_bool()?), out);
            return Some(());
        }
        ScalarKind::Int32 | ScalarKind::Int64 | ScalarKind::Integer => {
            wire::varint(number, value.as_i64()? as u64, out);
            return Some(());
        }
        ScalarKind::Double => {
            wire::fixed64(number, value.as_f64()?.to_le_bytes(), out);
            return Some(());
        }
        ScalarKind::String => message.extend_from_slice(value.as_str()?.as_bytes()),
        ScalarKind::Bytes if value.is_null() => {}
        ScalarKind::Bytes => message = scalar::bytes(value.as_str()?).ok()?,
        ScalarKind::Quantity => wire::bytes(1, value.as_str()?.as_bytes(), &mut message),
        ScalarKind::IntOrString => match value {
            Value::String(text) => {
                wire::varint(1, 1, &mut message);
                wire::varint(2, 0, &mut message);
                wire::bytes(3, text.as_bytes(), &mut message);
            }
            value => {
                wire::varint(1, 0, &mut message);
                wire::varint(2, value.as_i64()? as u64, &mut message);
                wire::bytes(3, b"", &mut message);
            }
        },
        ScalarKind::Time | ScalarKind::MicroTime if value.is_null() => {}
        ScalarKind::Time | ScalarKind::MicroTime => {
            let micro = kind == ScalarKind::MicroTime;
            let (seconds, nanos) = time::parse(value.as_str()?, micro).ok()?;
            wire::varint(1, seconds as u64, &mut message);
            wire::varint(2, if micro { u64::from(nanos) } else { 0 }, &mut message);
        }
        ScalarKind::Duration => return None,
    }
    wire::bytes(number, &message, out);
    Some(())
}
