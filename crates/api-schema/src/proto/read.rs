//! Messages to object trees.

use coracle_api_meta::{Map, Quantity, Value};

use super::{
    ProtoError, Unknown, recognise, set_kind,
    wire::{self, Fields, Payload, WireError},
};
use crate::{
    decode::{Limits, TOO_MANY_VALUES, VALUES_MAX, decode_json},
    model::{ScalarKind, Schemas, Special, StructType, Type, TypeId},
    scalar, time, zero,
};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

pub(super) struct Reader<'s> {
    schemas: &'s Schemas,
    limits: Limits,
    depth_left: usize,
    values_left: usize,
}

/// The inlined message that is being read: the numbers that lead to it.
type Via = [u16; 2];

impl<'s> Reader<'s> {
    pub fn new(schemas: &'s Schemas, limits: Limits) -> Self {
        Self { schemas, limits, depth_left: limits.depth_max, values_left: VALUES_MAX }
    }

    pub fn message(&mut self, ty: TypeId, bytes: &[u8]) -> Result<Value, ProtoError> {
        let schemas = self.schemas;
        let Some(ty) = schemas.as_struct(ty) else { return Err(ProtoError::NoKind) };
        let mut slots = vec![None; ty.fields.len()];
        self.fill(ty, [0, 0], bytes, &mut slots)?;
        Ok(Value::Object(zero::finish(schemas, ty, slots)))
    }

    /// Reads the fields of a message, or of a message whose fields JSON has inline, into the slots of a struct.
    fn fill(
        &mut self,
        ty: &'s StructType,
        via: Via,
        bytes: &[u8],
        slots: &mut [Option<Value>],
    ) -> Result<(), ProtoError> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(WireError::Depth)?;
        for field in Fields::new(bytes) {
            let (number, payload) = field?;
            let known = ty.fields.iter().position(|field| field.protobuf == number && field.inlined == via);
            if let Some(index) = known {
                if let Some(slot) = slots.get_mut(index) {
                    self.field(ty.fields[index].ty, &payload, slot)?;
                }
            } else if let (Some(inner), Payload::Bytes(message)) = (inlined(ty, via, number), &payload) {
                self.fill(ty, inner, message, slots)?;
            }
        }
        self.depth_left += 1;
        Ok(())
    }

    fn field(&mut self, ty: TypeId, payload: &Payload<'_>, slot: &mut Option<Value>) -> Result<(), ProtoError> {
        match self.schemas.get(ty) {
            Type::List(list) if !self.schemas.special.contains_key(&ty) => {
                let packed = matches!(self.schemas.get(list.item), Type::Scalar(kind) if is_varint(*kind));
                let Value::Array(items) = slot.get_or_insert_with(|| Value::Array(Vec::new())) else { return Ok(()) };
                match payload {
                    Payload::Bytes(bytes) if packed => {
                        for value in unpack(bytes) {
                            items.push(self.single(list.item, &Payload::Varint(value?))?);
                        }
                    }
                    payload => items.push(self.single(list.item, payload)?),
                }
            }
            Type::Map(map) => {
                let Value::Object(entries) = slot.get_or_insert_with(|| Value::Object(Map::new())) else {
                    return Ok(());
                };
                let (key, value) = self.entry(map.value, payload)?;
                entries.insert(key, value);
            }
            _ => {
                let value = self.single(ty, payload)?;
                *slot = (!value.is_null()).then_some(value);
            }
        }
        Ok(())
    }

    fn entry(&mut self, ty: TypeId, payload: &Payload<'_>) -> Result<(String, Value), ProtoError> {
        let (mut key, mut value) = (String::new(), Value::Null);
        if let Payload::Bytes(message) = payload {
            for field in Fields::new(message) {
                match field? {
                    (1, Payload::Bytes(text)) => key = wire::text(text),
                    (2, payload) => value = self.single(ty, &payload)?,
                    _ => {}
                }
            }
        }
        let value = if value.is_null() { zero::zero(self.schemas, ty) } else { value };
        Ok((key, value))
    }

    /// One value of a type. `Null` stands for unset.
    fn single(&mut self, ty: TypeId, payload: &Payload<'_>) -> Result<Value, ProtoError> {
        let left = self.values_left.checked_sub(1);
        self.values_left = left.ok_or_else(|| ProtoError::Inner(TOO_MANY_VALUES.to_owned()))?;
        match (self.schemas.get(ty), payload) {
            (Type::Struct(_), Payload::Bytes(bytes)) => self.message(ty, bytes),
            (Type::Scalar(kind), payload) => scalar_of(*kind, payload),
            (Type::List(list), Payload::Bytes(bytes)) => self.repeated(list.item, 1, bytes).map(Value::Array),
            (Type::Any, Payload::Bytes(bytes)) => self.any(ty, bytes),
            _ => Ok(Value::Null),
        }
    }

    fn repeated(&mut self, item: TypeId, wanted: u32, bytes: &[u8]) -> Result<Vec<Value>, ProtoError> {
        let mut items = Vec::new();
        for field in Fields::new(bytes) {
            let (number, payload) = field?;
            if number == wanted {
                items.push(self.single(item, &payload)?);
            }
        }
        Ok(items)
    }

    fn any(&mut self, ty: TypeId, bytes: &[u8]) -> Result<Value, ProtoError> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(WireError::Depth)?;
        let value = match self.schemas.special.get(&ty) {
            Some(Special::RawExtension | Special::FieldsV1 | Special::Json) => self.raw(first_bytes(bytes, 1)?),
            Some(Special::SchemaOrArray) => {
                self.schema_or(bytes, |reader, schema| Ok(Value::Array(reader.repeated(schema, 2, bytes)?)))
            }
            Some(Special::SchemaOrBool) => self.schema_or(bytes, |_, _| {
                let allows = Fields::new(bytes).any(|field| matches!(field, Ok((1, Payload::Varint(1)))));
                Ok(Value::Bool(allows))
            }),
            Some(Special::SchemaOrStringArray) => self.schema_or(bytes, |_, _| strings(bytes)),
            Some(Special::Wrapped) | None => Ok(Value::Null),
        };
        self.depth_left += 1;
        value
    }

    /// A choice of schema and something else, in which `other` is asked when there is no schema.
    fn schema_or(
        &mut self,
        bytes: &[u8],
        other: impl FnOnce(&mut Self, TypeId) -> Result<Value, ProtoError>,
    ) -> Result<Value, ProtoError> {
        let Some(schema) = self.schemas.named(SCHEMA) else { return Ok(Value::Null) };
        // Schema is field 2 beside a boolean, field 1 otherwise; beside schemas field 2 is the list.
        for field in Fields::new(bytes) {
            match field? {
                (1, Payload::Bytes(message)) => return self.message(schema, message),
                (1, _) => break,
                _ => {}
            }
        }
        if matches!(Fields::new(bytes).next(), Some(Ok((1, Payload::Varint(_)))))
            && let Some(message) = first_bytes(bytes, 2)?
        {
            return self.message(schema, message);
        }
        other(self, schema)
    }

    fn raw(&mut self, json: Option<&[u8]>) -> Result<Value, ProtoError> {
        let Some(json) = json.filter(|json| !json.is_empty()) else { return Ok(Value::Null) };
        if recognise(json) {
            let unknown = Unknown::read(json)?;
            let gvk = unknown.gvk().ok_or(ProtoError::NoKind)?;
            let mut value = self.message(super::form_of(self.schemas, &gvk)?, unknown.raw)?;
            if let Value::Object(object) = &mut value {
                set_kind(object, &gvk);
            }
            return Ok(value);
        }
        let limits = Limits { depth_max: self.depth_left, ..self.limits };
        // A list is no object but may stand here.
        let mut wrapped = b"{\"raw\":".to_vec();
        wrapped.extend_from_slice(json);
        wrapped.push(b'}');
        let limits = Limits { body_bytes_max: wrapped.len(), ..limits };
        let decoded =
            decode_json(&wrapped, limits, self.schemas, None).map_err(|error| ProtoError::Inner(error.to_string()))?;
        Ok(decoded.value.get("raw").cloned().unwrap_or_default())
    }
}

/// The message inlined under `number`, when the struct has fields in it.
fn inlined(ty: &StructType, via: Via, number: u32) -> Option<Via> {
    let number = u16::try_from(number).ok()?;
    let inner = match via {
        [0, 0] => [number, 0],
        [outer, 0] => [outer, number],
        _ => return None,
    };
    let within =
        |field: &crate::model::Field| field.inlined == inner || (inner[1] == 0 && field.inlined[0] == inner[0]);
    ty.fields.iter().any(within).then_some(inner)
}

fn first_bytes(message: &[u8], wanted: u32) -> Result<Option<&[u8]>, WireError> {
    for field in Fields::new(message) {
        if let (number, Payload::Bytes(bytes)) = field?
            && number == wanted
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn strings(message: &[u8]) -> Result<Value, ProtoError> {
    let mut items = Vec::new();
    for field in Fields::new(message) {
        if let (2, Payload::Bytes(bytes)) = field? {
            items.push(Value::String(wire::text(bytes)));
        }
    }
    Ok(if items.is_empty() { Value::Null } else { Value::Array(items) })
}

fn is_varint(kind: ScalarKind) -> bool {
    matches!(kind, ScalarKind::Boolean | ScalarKind::Int32 | ScalarKind::Int64 | ScalarKind::Integer)
}

/// Packed varints, as the wire has them when they are the values of field after field.
fn unpack(bytes: &[u8]) -> impl Iterator<Item = Result<u64, WireError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|byte| *byte < 0x80);
        let Some((head, tail)) = end.and_then(|end| rest.split_at_checked(end + 1)) else {
            rest = &[];
            return Some(Err(WireError::Truncated));
        };
        rest = tail;
        let value = head
            .iter()
            .rev()
            .try_fold(0_u64, |value, byte| value.checked_mul(0x80).map(|value| value | u64::from(byte & 0x7f)));
        Some(value.ok_or(WireError::Overflow))
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
fn scalar_of(kind: ScalarKind, payload: &Payload<'_>) -> Result<Value, ProtoError> {
    Ok(match (kind, payload) {
        (ScalarKind::Boolean, Payload::Varint(value)) => (*value != 0).into(),
        (ScalarKind::Int32, Payload::Varint(value)) => (*value as i32).into(),
        (ScalarKind::Int64 | ScalarKind::Integer, Payload::Varint(value)) => (*value as i64).into(),
        (ScalarKind::Double, Payload::Fixed64(bytes)) => double(f64::from_le_bytes(*bytes)),
        (ScalarKind::Double, Payload::Fixed32(bytes)) => double(f64::from(f32::from_le_bytes(*bytes))),
        (ScalarKind::String, Payload::Bytes(bytes)) => wire::text(bytes).into(),
        (ScalarKind::Bytes, Payload::Bytes(bytes)) => scalar::base64(bytes).into(),
        (ScalarKind::Quantity, Payload::Bytes(message)) => quantity(message)?,
        (ScalarKind::IntOrString, Payload::Bytes(message)) => int_or_string(message)?,
        (ScalarKind::Time | ScalarKind::MicroTime, Payload::Bytes(message)) => {
            instant(message, kind == ScalarKind::MicroTime)?
        }
        _ => Value::Null,
    })
}

fn double(value: f64) -> Value {
    scalar::number(&format!("{value}")).unwrap_or_default()
}

fn quantity(message: &[u8]) -> Result<Value, ProtoError> {
    let text = first_bytes(message, 1)?.map(wire::text).unwrap_or_default();
    if text.is_empty() {
        return Ok("0".into());
    }
    let quantity = Quantity::parse(&text).map_err(|error| ProtoError::Inner(error.to_string()))?;
    Ok(quantity.to_string().into())
}

#[allow(clippy::cast_possible_truncation)]
fn int_or_string(message: &[u8]) -> Result<Value, ProtoError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields::new(message) {
        match field? {
            (1, Payload::Varint(kind)) => is_text = kind == 1,
            (2, Payload::Varint(value)) => number = value as i32,
            (3, Payload::Bytes(bytes)) => text = wire::text(bytes),
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Times that RFC 3339 can write; others are taken as unset.
#[allow(clippy::cast_possible_wrap)]
fn instant(message: &[u8], micro: bool) -> Result<Value, ProtoError> {
    const SECONDS_MAX: i64 = 253_402_300_799;
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_u32);
    for field in Fields::new(message) {
        match field? {
            (1, Payload::Varint(value)) => seconds = value as i64,
            (2, Payload::Varint(value)) => nanos = u32::try_from(value).unwrap_or(0).min(999_999_999),
            _ => {}
        }
    }
    if !(time::ZERO_SECONDS + 1..=SECONDS_MAX).contains(&seconds) {
        return Ok(Value::Null);
    }
    Ok(if micro { time::micros((seconds, nanos)) } else { time::seconds(seconds) }.into())
}
