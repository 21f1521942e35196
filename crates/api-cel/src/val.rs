//! Values. Objects and lists of JSON are looked at in place.

use std::{borrow::Cow, cmp::Ordering, fmt, net::IpAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use coracle_api_meta::{Map, Quantity, Value};
use jiff::Timestamp;

use crate::{
    error::EvalError,
    eval::Meter,
    names,
    ty::{ObjectType, Ty},
};

/// A value whose fields and methods the caller supplies, such as `variables` and `authorizer`.
pub trait Host<'a>: fmt::Debug + Send + Sync {
    fn field(&self, name: &str, meter: &mut Meter) -> std::result::Result<Val<'a>, EvalError>;
    fn call(&self, name: &str, args: &[Val<'a>], meter: &mut Meter) -> std::result::Result<Val<'a>, EvalError>;
}

#[derive(Debug, Clone)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Cow<'a, str>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    List(Arc<Vec<Val<'a>>>),
    Map(Arc<Vec<(Val<'a>, Val<'a>)>>),
    /// An array or object, and what its schema says it is.
    Json(&'a Value, Ty),
    /// `Object.spec{...}`: name and fields.
    Object(Arc<(String, Vec<(String, Val<'a>)>)>),
    Optional(Option<Box<Val<'a>>>),
    Type(String),
    Quantity(Quantity),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Url(Arc<str>),
    Semver(Arc<crate::semver::Semver>),
    Format(&'static str),
    Host(Arc<dyn Host<'a> + 'a>),
}

pub(crate) type Result<T> = std::result::Result<T, EvalError>;

impl<'a> Val<'a> {
    /// JSON as a value of a type.
    #[must_use]
    pub fn of(value: &'a Value, ty: &Ty) -> Self {
        match (value, ty) {
            (Value::Null, _) => Self::Null,
            (Value::Bool(set), _) => Self::Bool(*set),
            (Value::Number(number), Ty::Double) => Self::Double(number.as_f64().unwrap_or_default()),
            (Value::Number(number), _) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => Self::Int(integer),
                (None, Some(integer)) => Self::Uint(integer),
                _ => Self::Double(number.as_f64().unwrap_or_default()),
            },
            (Value::String(text), Ty::Bytes(_)) => match BASE64_STANDARD.decode(text) {
                Ok(bytes) => Self::Bytes(bytes.into()),
                Err(_) => Self::Str(Cow::Borrowed(text)),
            },
            (Value::String(text), Ty::Timestamp) => match timestamp(text) {
                Some(timestamp) => Self::Timestamp(timestamp),
                None => Self::Str(Cow::Borrowed(text)),
            },
            (Value::String(text), Ty::Duration) => match parse_duration(text) {
                Some(duration) => Self::Duration(duration),
                None => Self::Str(Cow::Borrowed(text)),
            },
            (Value::String(text), _) => Self::Str(Cow::Borrowed(text)),
            (Value::Array(_) | Value::Object(_), ty) => Self::Json(value, ty.clone()),
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Str(Cow::Owned(text.into()))
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    pub(crate) fn some(value: Self) -> Self {
        Self::Optional(Some(Box::new(value)))
    }

    pub(crate) fn as_str(&self) -> Result<&str> {
        match self {
            Self::Str(text) => Ok(text),
            _ => Err(EvalError::Overload),
        }
    }

    pub(crate) fn as_int(&self) -> Result<i64> {
        match self {
            Self::Int(value) => Ok(*value),
            _ => Err(EvalError::Overload),
        }
    }

    /// The truth of a value; only booleans have one.
    pub fn as_bool(&self) -> Result<bool> {
        match self {
            Self::Bool(set) => Ok(*set),
            _ => Err(EvalError::Overload),
        }
    }

    /// How many elements or characters.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Self::Str(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
            Self::Json(Value::Array(items), _) => items.len(),
            Self::Json(Value::Object(fields), _) => fields.len(),
            _ => 1,
        };
        size as u64
    }

    /// One item of a list.
    pub(crate) fn item(&self, at: usize) -> Option<Self> {
        match self {
            Self::List(items) => items.get(at).cloned(),
            Self::Json(Value::Array(items), ty) => items.get(at).map(|value| Self::of(value, &item_type(ty))),
            _ => None,
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.to_vec()),
            Self::Json(Value::Array(items), ty) => {
                let item = item_type(ty);
                Some(items.iter().map(|value| Self::of(value, &item)).collect())
            }
            _ => None,
        }
    }

    /// The entries of a map.
    pub(crate) fn entries(&self) -> Option<Vec<(Self, Self)>> {
        match self {
            Self::Map(entries) => Some(entries.to_vec()),
            Self::Json(Value::Object(fields), ty) => {
                let entry = |(key, value): (&'a String, &'a Value)| {
                    (Self::Str(Cow::Borrowed(key.as_str())), Self::of(value, &field_type(ty, key)))
                };
                Some(fields.iter().map(entry).collect())
            }
            Self::Object(object) => {
                Some(object.1.iter().map(|(name, value)| (Self::text(name.clone()), value.clone())).collect())
            }
            _ => None,
        }
    }

    /// The field of an object, or the entry of a map.
    pub(crate) fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Json(Value::Object(fields), ty) => {
                let name = if matches!(ty, Ty::Map(..)) { name.to_owned() } else { names::unescape(name) };
                fields.get(&name).map(|value| Self::of(value, &field_type(ty, &name)))
            }
            Self::Map(entries) => {
                let found = entries.iter().find(|(key, _)| matches!(key, Self::Str(text) if text == name));
                found.map(|(_, value)| value.clone())
            }
            Self::Object(object) => object.1.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
            _ => None,
        }
    }

    pub(crate) fn type_name(&self) -> String {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Str(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) | Self::Json(Value::Array(_), _) => "list",
            Self::Map(_) | Self::Json(..) => "map",
            Self::Object(object) => return object.0.clone(),
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Host(_) => "kubernetes.authorization.Authorizer",
        }
        .to_owned()
    }

    /// The value as JSON, for patches and messages. `None` for what has no JSON.
    #[must_use]
    pub fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(set) => (*set).into(),
            Self::Int(value) => (*value).into(),
            Self::Uint(value) => (*value).into(),
            Self::Double(value) => (*value).into(),
            Self::Str(text) => text.as_ref().into(),
            Self::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
            Self::Duration(nanos) => format_duration(*nanos).into(),
            Self::Timestamp(timestamp) => timestamp.to_string().into(),
            Self::Json(value, _) => (*value).clone(),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect::<Option<_>>()?),
            Self::Map(_) | Self::Object(_) => {
                let mut object = Map::new();
                for (key, value) in self.entries()? {
                    object.insert(key.as_str().ok()?.to_owned(), value.to_json()?);
                }
                Value::Object(object)
            }
            Self::Optional(inner) => inner.as_ref().map_or(Some(Value::Null), |inner| inner.to_json())?,
            Self::Quantity(quantity) => quantity.to_string().into(),
            Self::Ip(ip) => ip.to_string().into(),
            Self::Url(url) => url.as_ref().into(),
            _ => return None,
        })
    }

    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, x), Self::Cidr(b, y)) => a == b && x == y,
            (Self::Json(a, _), Self::Json(b, _)) if std::ptr::eq(*a, *b) => true,
            _ => match self.compare(other) {
                Ok(order) => order == Ordering::Equal,
                Err(_) => self.equals_in_parts(other),
            },
        }
    }

    fn equals_in_parts(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.items(), other.items()) {
            return a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equals(b));
        }
        let (Some(a), Some(b)) = (self.entries(), other.entries()) else { return false };
        a.len() == b.len() && a.iter().all(|(key, value)| b.iter().any(|(k, v)| key.equals(k) && value.equals(v)))
    }

    /// The order of two values of comparable types.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn compare(&self, other: &Self) -> Result<Ordering> {
        let doubles = |a: f64, b: f64| a.partial_cmp(&b).ok_or(EvalError::Overload);
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Ok(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Ok(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Ok(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Ok(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Ok(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Double(a), Self::Double(b)) => doubles(*a, *b),
            (Self::Double(a), Self::Int(b)) => doubles(*a, *b as f64),
            (Self::Int(a), Self::Double(b)) => doubles(*a as f64, *b),
            (Self::Double(a), Self::Uint(b)) => doubles(*a, *b as f64),
            (Self::Uint(a), Self::Double(b)) => doubles(*a as f64, *b),
            (Self::Str(a), Self::Str(b)) => Ok(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Ok(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Ok(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Ok(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Ok(a.cmp(b)),
            (Self::Semver(a), Self::Semver(b)) => Ok(a.cmp(b)),
            _ => Err(EvalError::Overload),
        }
    }
}

fn item_type(ty: &Ty) -> Ty {
    match ty {
        Ty::List(item, _) => item.as_ref().clone(),
        _ => Ty::Dyn,
    }
}

fn field_type(ty: &Ty, name: &str) -> Ty {
    match ty {
        Ty::Map(_, value, _) => value.as_ref().clone(),
        Ty::Object(object) => ObjectType::field(object.as_ref(), name).unwrap_or(Ty::Dyn),
        _ => Ty::Dyn,
    }
}

/// RFC 3339, or a date alone.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}T00:00:00Z").parse().ok())
}

/// Go's `time.ParseDuration`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: f64 = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if total >= 9.2e18 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)]
    let nanos = total.round() as i64;
    Some(if negative { -nanos } else { nanos })
}

/// Seconds, as CEL writes durations: `90s`, `1.5s`.
pub(crate) fn format_duration(nanos: i64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
    if rest == 0 {
        return format!("{whole}s");
    }
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    format!("{sign}{whole}.{}s", format!("{rest:09}").trim_end_matches('0'))
}
