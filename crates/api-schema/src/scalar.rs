//! Scalars of the built-in kinds: what JSON they are read from and their canonical form.

use base64::{Engine, alphabet, engine};
use coracle_api_meta::{Quantity, Value};

use crate::{model::ScalarKind, time};

/// Go's standard encoding, which does not mind trailing bits.
const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why a JSON scalar does not do.
pub(crate) enum Refused {
    /// Of another kind than the field.
    Kind,
    /// Of another kind than the Go type inside the field's type.
    Inner(&'static str),
    /// A text that ends decoding.
    Value(String),
    /// A text that decoding remembers.
    Saved(String),
}

impl Refused {
    /// How a type refuses a boolean.
    pub fn of(kind: ScalarKind) -> Self {
        match kind {
            ScalarKind::Time | ScalarKind::MicroTime | ScalarKind::Duration => Self::Inner("string"),
            ScalarKind::IntOrString => Self::Inner("int32"),
            ScalarKind::Quantity => Self::Value(coracle_api_meta::quantity::ParseError::Format.to_string()),
            _ => Self::Kind,
        }
    }
}

pub(crate) fn from_string(kind: ScalarKind, text: &str) -> Result<Value, Refused> {
    match kind {
        ScalarKind::String => Ok(text.into()),
        ScalarKind::IntOrString => Ok(text.into()),
        ScalarKind::Bytes => bytes(text).map(|bytes| base64(&bytes).into()).map_err(Refused::Saved),
        ScalarKind::Quantity => quantity(text),
        ScalarKind::Time => {
            let (seconds, _) = time::parse(text, false).map_err(Refused::Value)?;
            Ok(if seconds == time::ZERO_SECONDS { Value::Null } else { time::seconds(seconds).into() })
        }
        ScalarKind::MicroTime => {
            let instant = time::parse(text, true).map_err(Refused::Value)?;
            Ok(if instant.0 == time::ZERO_SECONDS { Value::Null } else { time::micros(instant).into() })
        }
        ScalarKind::Duration => Ok(text.into()),
        ScalarKind::Boolean | ScalarKind::Int32 | ScalarKind::Int64 | ScalarKind::Integer | ScalarKind::Double => {
            Err(Refused::Kind)
        }
    }
}

pub(crate) fn from_number(kind: ScalarKind, text: &str) -> Result<Value, Refused> {
    match kind {
        ScalarKind::Int32 => text.parse::<i32>().map(Value::from).map_err(|_| Refused::Kind),
        ScalarKind::Int64 | ScalarKind::Integer => text.parse::<i64>().map(Value::from).map_err(|_| Refused::Kind),
        ScalarKind::Double => number(text).ok_or(Refused::Kind),
        ScalarKind::IntOrString => text.parse::<i32>().map(Value::from).map_err(|_| Refused::Inner("int32")),
        ScalarKind::Quantity => quantity(text),
        ScalarKind::Time | ScalarKind::MicroTime | ScalarKind::Duration => Err(Refused::Inner("string")),
        ScalarKind::String | ScalarKind::Boolean | ScalarKind::Bytes => Err(Refused::Kind),
    }
}

/// A number of no known type: an integer where it is one. `None` when it is too large for Go.
pub(crate) fn number(text: &str) -> Option<Value> {
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    let float: f64 = text.parse().ok()?;
    #[allow(clippy::cast_possible_truncation)]
    if float.fract() == 0.0 && float.abs() < 9.0e18 {
        return Some(Value::from(float as i64));
    }
    serde_json::Number::from_f64(float).map(Value::Number)
}

fn quantity(text: &str) -> Result<Value, Refused> {
    match Quantity::parse(text.trim()) {
        Ok(quantity) => Ok(quantity.to_string().into()),
        Err(error) => Err(Refused::Value(error.to_string())),
    }
}

/// Reads base64; the error is worded as Go's.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let clean: String;
    let text = if text.contains(['\r', '\n']) {
        clean = text.replace(['\r', '\n'], "");
        &clean
    } else {
        text
    };
    BASE64.decode(text).map_err(|error| {
        let at = match error {
            ::base64::DecodeError::InvalidByte(at, _) | ::base64::DecodeError::InvalidLastSymbol(at, _) => at,
            ::base64::DecodeError::InvalidLength(at) => at.saturating_sub(at % 4),
            ::base64::DecodeError::InvalidPadding => text.len(),
        };
        format!("illegal base64 data at input byte {at}")
    })
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}
