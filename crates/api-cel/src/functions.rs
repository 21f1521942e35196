//! Operators, conversions and functions on values.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use coracle_api_meta::Quantity;
use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::{
    error::EvalError,
    net, semver, strings,
    val::{Result, Val, format_duration, parse_duration, timestamp},
};

/// Calls a function; of methods the target comes first.
pub(crate) fn call<'a>(name: &str, member: bool, args: &[Val<'a>]) -> Result<Val<'a>> {
    let result = match args {
        [a, b] => binary(name, a, b),
        [a] => unary(name, a),
        _ => None,
    };
    result
        .or_else(|| strings::call(name, args))
        .or_else(|| lists(name, args))
        .or_else(|| net::call(name, args))
        .or_else(|| versions(name, args))
        .or_else(|| optional(name, args))
        .or_else(|| dates(name, member, args))
        .unwrap_or(Err(EvalError::Overload))
}

type Maybe<'a> = Option<Result<Val<'a>>>;

fn binary<'a>(name: &str, a: &Val<'a>, b: &Val<'a>) -> Maybe<'a> {
    let ordered = |wanted: fn(Ordering) -> bool| Some(a.compare(b).map(|order| Val::Bool(wanted(order))));
    match name {
        "_==_" => Some(Ok(Val::Bool(a.equals(b)))),
        "_!=_" => Some(Ok(Val::Bool(!a.equals(b)))),
        "_<_" => ordered(Ordering::is_lt),
        "_<=_" => ordered(Ordering::is_le),
        "_>_" => ordered(Ordering::is_gt),
        "_>=_" => ordered(Ordering::is_ge),
        "@in" => Some(contains(a, b)),
        "_+_" | "_-_" | "_*_" | "_/_" | "_%_" => Some(arithmetic(name, a, b)),
        _ => None,
    }
}

fn contains<'a>(item: &Val<'a>, container: &Val<'a>) -> Result<Val<'a>> {
    if let Some(items) = container.items() {
        return Ok(Val::Bool(items.iter().any(|known| known.equals(item))));
    }
    if let (Val::Json(..), Val::Str(key)) = (container, item) {
        return Ok(Val::Bool(container.field(key).is_some()));
    }
    let entries = container.entries().ok_or(EvalError::Overload)?;
    Ok(Val::Bool(entries.iter().any(|(key, _)| key.equals(item))))
}

fn arithmetic<'a>(name: &str, a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>> {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => integers(name, *a, *b).map(Val::Int),
        (Val::Uint(a), Val::Uint(b)) => unsigned(name, *a, *b).map(Val::Uint),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(match name {
            "_+_" => a + b,
            "_-_" => a - b,
            "_*_" => a * b,
            "_/_" => a / b,
            _ => return Err(EvalError::Overload),
        })),
        (Val::Str(a), Val::Str(b)) if name == "_+_" => Ok(Val::text(format!("{a}{b}"))),
        (Val::Bytes(a), Val::Bytes(b)) if name == "_+_" => Ok(Val::Bytes([a.as_ref(), b.as_ref()].concat().into())),
        (Val::Duration(a), Val::Duration(b)) => {
            let sum = if name == "_+_" { a.checked_add(*b) } else { a.checked_sub(*b) };
            sum.map(Val::Duration).ok_or(EvalError::Overflow)
        }
        (Val::Timestamp(at), Val::Duration(by)) => shift(*at, if name == "_-_" { -by } else { *by }),
        (Val::Duration(by), Val::Timestamp(at)) if name == "_+_" => shift(*at, *by),
        (Val::Timestamp(a), Val::Timestamp(b)) if name == "_-_" => {
            i64::try_from(a.as_nanosecond() - b.as_nanosecond()).map(Val::Duration).map_err(|_| EvalError::Overflow)
        }
        _ => match (a.items(), b.items()) {
            (Some(mut a), Some(b)) if name == "_+_" => {
                a.extend(b);
                Ok(Val::list(a))
            }
            _ => Err(EvalError::Overload),
        },
    }
}

fn shift<'a>(at: Timestamp, by: i64) -> Result<Val<'a>> {
    let moved = Timestamp::from_nanosecond(at.as_nanosecond() + i128::from(by));
    moved.map(Val::Timestamp).map_err(|_| EvalError::other("timestamp overflow"))
}

fn integers(name: &str, a: i64, b: i64) -> Result<i64> {
    let result = match name {
        "_+_" => a.checked_add(b),
        "_-_" => a.checked_sub(b),
        "_*_" => a.checked_mul(b),
        "_/_" if b == 0 => return Err(EvalError::DivideByZero),
        "_%_" if b == 0 => return Err(EvalError::ModulusByZero),
        "_/_" => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    result.ok_or(EvalError::Overflow)
}

fn unsigned(name: &str, a: u64, b: u64) -> Result<u64> {
    let result = match name {
        "_+_" => a.checked_add(b),
        "_-_" => a.checked_sub(b),
        "_*_" => a.checked_mul(b),
        "_/_" if b == 0 => return Err(EvalError::DivideByZero),
        "_%_" if b == 0 => return Err(EvalError::ModulusByZero),
        "_/_" => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    result.ok_or(EvalError::other("unsigned integer overflow"))
}

fn unary<'a>(name: &str, a: &Val<'a>) -> Maybe<'a> {
    Some(match name {
        "!_" => a.as_bool().map(|set| Val::Bool(!set)),
        "-_" => match a {
            Val::Int(value) => value.checked_neg().map(Val::Int).ok_or(EvalError::Overflow),
            Val::Double(value) => Ok(Val::Double(-value)),
            _ => Err(EvalError::Overload),
        },
        "size" => size(a),
        "type" => Ok(Val::Type(a.type_name())),
        "dyn" => Ok(a.clone()),
        "int" => to_int(a).map(Val::Int),
        "uint" => to_uint(a).map(Val::Uint),
        "double" => to_double(a).map(Val::Double),
        "string" => to_text(a).map(Val::text),
        "bytes" => match a {
            Val::Str(text) => Ok(Val::Bytes(text.as_bytes().into())),
            Val::Bytes(_) => Ok(a.clone()),
            _ => Err(EvalError::Overload),
        },
        "bool" => match a {
            Val::Bool(_) => Ok(a.clone()),
            Val::Str(text) => match text.as_ref() {
                "true" | "TRUE" | "True" | "t" | "1" => Ok(Val::Bool(true)),
                "false" | "FALSE" | "False" | "f" | "0" => Ok(Val::Bool(false)),
                _ => Err(EvalError::other("type conversion error from 'string' to 'bool'")),
            },
            _ => Err(EvalError::Overload),
        },
        "duration" => match a {
            Val::Duration(_) => Ok(a.clone()),
            Val::Int(seconds) => seconds.checked_mul(1_000_000_000).map(Val::Duration).ok_or(EvalError::Overflow),
            Val::Str(text) => parse_duration(text)
                .map(Val::Duration)
                .ok_or_else(|| EvalError::other(format!("time: invalid duration {text:?}"))),
            _ => Err(EvalError::Overload),
        },
        "timestamp" => match a {
            Val::Timestamp(_) => Ok(a.clone()),
            Val::Int(seconds) => Timestamp::from_second(*seconds).map(Val::Timestamp).map_err(|_| EvalError::Overflow),
            Val::Str(text) => timestamp(text)
                .map(Val::Timestamp)
                .ok_or_else(|| EvalError::other(format!("invalid timestamp {text:?}"))),
            _ => Err(EvalError::Overload),
        },
        _ => return None,
    })
}

fn size<'a>(value: &Val<'a>) -> Result<Val<'a>> {
    let size = match value {
        Val::Str(text) => text.chars().count() as u64,
        Val::Bytes(_) | Val::List(_) | Val::Map(_) | Val::Json(..) => value.size(),
        _ => return Err(EvalError::Overload),
    };
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

#[allow(clippy::cast_possible_truncation)]
fn to_int(value: &Val<'_>) -> Result<i64> {
    match value {
        Val::Int(value) => Ok(*value),
        Val::Uint(value) => i64::try_from(*value).map_err(|_| EvalError::Overflow),
        Val::Double(value) if value.abs() < 9.223_372_036_854_775e18 => Ok(*value as i64),
        Val::Double(_) => Err(EvalError::Overflow),
        Val::Str(text) => text.parse().map_err(|_| EvalError::other("type conversion error from 'string' to 'int'")),
        Val::Timestamp(timestamp) => Ok(timestamp.as_second()),
        Val::Duration(nanos) => Ok(*nanos),
        _ => Err(EvalError::Overload),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_uint(value: &Val<'_>) -> Result<u64> {
    let overflow = || EvalError::other("unsigned integer overflow");
    match value {
        Val::Uint(value) => Ok(*value),
        Val::Int(value) => u64::try_from(*value).map_err(|_| overflow()),
        Val::Double(value) if *value >= 0.0 && *value < 1.844_674_407_370_955e19 => Ok(*value as u64),
        Val::Double(_) => Err(overflow()),
        Val::Str(text) => text.parse().map_err(|_| EvalError::other("type conversion error from 'string' to 'uint'")),
        _ => Err(EvalError::Overload),
    }
}

#[allow(clippy::cast_precision_loss)]
fn to_double(value: &Val<'_>) -> Result<f64> {
    match value {
        Val::Double(value) => Ok(*value),
        Val::Int(value) => Ok(*value as f64),
        Val::Uint(value) => Ok(*value as f64),
        Val::Str(text) => text.parse().map_err(|_| EvalError::other("type conversion error from 'string' to 'double'")),
        _ => Err(EvalError::Overload),
    }
}

fn to_text(value: &Val<'_>) -> Result<String> {
    Ok(match value {
        Val::Str(text) => text.to_string(),
        Val::Bool(set) => set.to_string(),
        Val::Int(value) => value.to_string(),
        Val::Uint(value) => value.to_string(),
        Val::Double(value) => value.to_string(),
        Val::Bytes(bytes) => std::str::from_utf8(bytes)
            .map_err(|_| EvalError::other("invalid UTF-8 in bytes, cannot convert to string"))?
            .to_owned(),
        Val::Timestamp(timestamp) => timestamp.to_string(),
        Val::Duration(nanos) => format_duration(*nanos),
        Val::Ip(ip) => ip.to_string(),
        Val::Cidr(ip, bits) => format!("{ip}/{bits}"),
        Val::Url(url) => url.to_string(),
        Val::Quantity(quantity) => quantity.to_string(),
        _ => return Err(EvalError::Overload),
    })
}

/// A value in an error or a formatted text.
pub(crate) fn shown(value: &Val<'_>) -> String {
    match value {
        Val::Null => "null".to_owned(),
        Val::Type(name) => name.clone(),
        value => match (to_text(value), value.items(), value.entries()) {
            (Ok(text), _, _) => text,
            (_, Some(items), _) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
            (_, _, Some(mut entries)) => {
                entries.sort_by_key(|(key, _)| shown(key));
                let pairs: Vec<String> = entries.iter().map(|(k, v)| format!("{}: {}", shown(k), shown(v))).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            _ => String::new(),
        },
    }
}

fn lists<'a>(name: &str, args: &[Val<'a>]) -> Maybe<'a> {
    if name == "lists.range" {
        return Some(
            args.first()?.as_int().map(|count| Val::list((0..count.clamp(0, 1_000_000)).map(Val::Int).collect())),
        );
    }
    if name == "math.greatest" || name == "math.least" {
        let all: Vec<Val<'a>> = if args.len() == 1 { args[0].items().unwrap_or(args.to_vec()) } else { args.to_vec() };
        return Some(extreme(&all, name == "math.greatest"));
    }
    let items = args.first()?.items()?;
    let equal = |left: &[Val<'a>], right: &[Val<'a>]| left.iter().all(|a| right.iter().any(|b| a.equals(b)));
    Some(match (name, args) {
        ("isSorted", [_]) => sorted(&items),
        ("sum", [_]) => {
            let mut rest = items.iter();
            let first = rest.next().cloned().unwrap_or(Val::Int(0));
            rest.try_fold(first, |sum, item| arithmetic("_+_", &sum, item))
        }
        ("min" | "max", [_]) => extreme(&items, name == "max"),
        ("first", [_]) => Ok(Val::Optional(items.into_iter().next().map(Box::new))),
        ("last", [_]) => Ok(Val::Optional(items.into_iter().next_back().map(Box::new))),
        ("reverse", [_]) => Ok(Val::list(items.into_iter().rev().collect())),
        ("distinct", [_]) => {
            let mut out: Vec<Val<'a>> = Vec::new();
            for item in items {
                if !out.iter().any(|known| known.equals(&item)) {
                    out.push(item);
                }
            }
            Ok(Val::list(out))
        }
        ("sort", [_]) => {
            let mut items = items;
            items.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
            Ok(Val::list(items))
        }
        ("flatten", [_]) => {
            Ok(Val::list(items.into_iter().flat_map(|item| item.items().unwrap_or(vec![item])).collect()))
        }
        ("slice", [_, Val::Int(start), Val::Int(end)]) => slice(items, *start, *end),
        ("indexOf", [_, wanted]) => Ok(place(items.iter().position(|item| item.equals(wanted)))),
        ("lastIndexOf", [_, wanted]) => Ok(place(items.iter().rposition(|item| item.equals(wanted)))),
        ("sets.contains", [_, other]) => Ok(Val::Bool(equal(&other.items()?, &items))),
        ("sets.equivalent", [_, other]) => {
            let other = other.items()?;
            Ok(Val::Bool(equal(&other, &items) && equal(&items, &other)))
        }
        ("sets.intersects", [_, other]) => {
            let other = other.items()?;
            Ok(Val::Bool(items.iter().any(|a| other.iter().any(|b| a.equals(b)))))
        }
        _ => return None,
    })
}

fn slice<'a>(items: Vec<Val<'a>>, start: i64, end: i64) -> Result<Val<'a>> {
    let bounds = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match bounds.and_then(|(start, end)| items.get(start..end)) {
        Some(slice) => Ok(Val::list(slice.to_vec())),
        None => Err(EvalError::other(format!("cannot slice({start}, {end}), list is length {}", items.len()))),
    }
}

fn sorted<'a>(items: &[Val<'a>]) -> Result<Val<'a>> {
    for pair in items.windows(2) {
        if pair[0].compare(&pair[1])?.is_gt() {
            return Ok(Val::Bool(false));
        }
    }
    Ok(Val::Bool(true))
}

fn extreme<'a>(items: &[Val<'a>], greatest: bool) -> Result<Val<'a>> {
    let mut rest = items.iter();
    let name = if greatest { "max" } else { "min" };
    let mut best = rest.next().ok_or_else(|| EvalError::other(format!("{name} called on empty list")))?;
    for item in rest {
        let order = item.compare(best)?;
        if (greatest && order.is_gt()) || (!greatest && order.is_lt()) {
            best = item;
        }
    }
    Ok(best.clone())
}

pub(crate) fn place<'a>(at: Option<usize>) -> Val<'a> {
    Val::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

fn versions<'a>(name: &str, args: &[Val<'a>]) -> Maybe<'a> {
    let quantity = |text: &str| Quantity::parse(text).map_err(|error| EvalError::other(error.to_string()));
    let version = |text: &str, lenient: bool| {
        let parsed = semver::Semver::parse(text, lenient);
        parsed.ok_or_else(|| EvalError::other(format!("invalid semver {text:?}")))
    };
    Some(match (name, args) {
        ("quantity", [Val::Str(text)]) => quantity(text).map(Val::Quantity),
        ("isQuantity", [Val::Str(text)]) => Ok(Val::Bool(quantity(text).is_ok())),
        ("sign", [Val::Quantity(q)]) => Ok(Val::Int(q.cmp(&Quantity::ZERO) as i64)),
        ("isInteger", [Val::Quantity(q)]) => Ok(Val::Bool(whole(q).is_some())),
        ("asInteger", [Val::Quantity(q)]) => {
            whole(q).map(Val::Int).ok_or_else(|| EvalError::other("cannot convert value to integer"))
        }
        #[allow(clippy::cast_precision_loss)]
        ("asApproximateFloat", [Val::Quantity(q)]) => Ok(Val::Double(q.milli_value() as f64 / 1000.0)),
        ("add", [Val::Quantity(a), b]) => operand(b).map(|b| Val::Quantity(a.plus(&b))),
        ("sub", [Val::Quantity(a), b]) => operand(b).map(|b| Val::Quantity(a.minus(&b))),
        ("isGreaterThan", [a @ (Val::Quantity(_) | Val::Semver(_)), b]) => a.compare(b).map(|o| Val::Bool(o.is_gt())),
        ("isLessThan", [a @ (Val::Quantity(_) | Val::Semver(_)), b]) => a.compare(b).map(|o| Val::Bool(o.is_lt())),
        ("compareTo", [a @ (Val::Quantity(_) | Val::Semver(_)), b]) => a.compare(b).map(|o| Val::Int(o as i64)),
        ("semver", [Val::Str(text)]) => version(text, false).map(|v| Val::Semver(Arc::new(v))),
        ("semver", [Val::Str(text), Val::Bool(lenient)]) => version(text, *lenient).map(|v| Val::Semver(Arc::new(v))),
        ("isSemver", [Val::Str(text)]) => Ok(Val::Bool(version(text, false).is_ok())),
        ("isSemver", [Val::Str(text), Val::Bool(lenient)]) => Ok(Val::Bool(version(text, *lenient).is_ok())),
        ("major", [Val::Semver(v)]) => Ok(Val::Int(i64::try_from(v.major).unwrap_or(i64::MAX))),
        ("minor", [Val::Semver(v)]) => Ok(Val::Int(i64::try_from(v.minor).unwrap_or(i64::MAX))),
        ("patch", [Val::Semver(v)]) => Ok(Val::Int(i64::try_from(v.patch).unwrap_or(i64::MAX))),
        _ => return None,
    })
}

fn operand(value: &Val<'_>) -> Result<Quantity> {
    match value {
        Val::Quantity(quantity) => Ok(*quantity),
        Val::Int(units) => Ok(Quantity::from_units(*units, coracle_api_meta::quantity::Format::DecimalSi)),
        _ => Err(EvalError::Overload),
    }
}

fn whole(quantity: &Quantity) -> Option<i64> {
    let units = quantity.value();
    let same = Quantity::from_units(units, quantity.format()) == *quantity;
    same.then_some(units)
}

fn optional<'a>(name: &str, args: &[Val<'a>]) -> Maybe<'a> {
    Some(match (name, args) {
        ("optional.none", []) => Ok(Val::Optional(None)),
        ("optional.of", [value]) => Ok(Val::some(value.clone())),
        ("optional.ofNonZeroValue", [value]) => {
            let zero = match value {
                Val::Null => true,
                Val::Bool(set) => !set,
                Val::Int(value) => *value == 0,
                Val::Uint(value) => *value == 0,
                Val::Double(value) => *value == 0.0,
                Val::Str(_) | Val::Bytes(_) | Val::List(_) | Val::Map(_) | Val::Json(..) => value.size() == 0,
                _ => false,
            };
            Ok(if zero { Val::Optional(None) } else { Val::some(value.clone()) })
        }
        ("hasValue", [Val::Optional(inner)]) => Ok(Val::Bool(inner.is_some())),
        ("value", [Val::Optional(inner)]) => inner
            .as_ref()
            .map(|inner| inner.as_ref().clone())
            .ok_or_else(|| EvalError::other("optional.none() dereference")),
        _ => return None,
    })
}

/// Parts of timestamps and durations.
fn dates<'a>(name: &str, member: bool, args: &[Val<'a>]) -> Maybe<'a> {
    if !member || !name.starts_with("get") {
        return None;
    }
    if let [Val::Duration(nanos)] = args {
        let divisor = match name {
            "getHours" => 3_600_000_000_000,
            "getMinutes" => 60_000_000_000,
            "getSeconds" => 1_000_000_000,
            "getMilliseconds" => 1_000_000,
            _ => return None,
        };
        return Some(Ok(Val::Int(nanos / divisor)));
    }
    let (at, zone) = match args {
        [Val::Timestamp(at)] => (*at, TimeZone::UTC),
        [Val::Timestamp(at), Val::Str(zone)] => match time_zone(zone) {
            Some(zone) => (*at, zone),
            None => return Some(Err(EvalError::other(format!("unknown time zone {zone}")))),
        },
        _ => return None,
    };
    let local = Zoned::new(at, zone);
    Some(Ok(Val::Int(match name {
        "getFullYear" => i64::from(local.year()),
        "getMonth" => i64::from(local.month()) - 1,
        "getDate" => i64::from(local.day()),
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDayOfWeek" => i64::from(local.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getHours" => i64::from(local.hour()),
        "getMinutes" => i64::from(local.minute()),
        "getSeconds" => i64::from(local.second()),
        "getMilliseconds" => i64::from(local.millisecond()),
        _ => return None,
    })))
}

/// A zone by offset (`+02:00`) or UTC. Names of places would need a database, which pure code has not.
fn time_zone(name: &str) -> Option<TimeZone> {
    if matches!(name, "UTC" | "Z" | "") {
        return Some(TimeZone::UTC);
    }
    let (negative, rest) = match name.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, name.strip_prefix('+').unwrap_or(name)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
    let offset = jiff::tz::Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?;
    Some(TimeZone::fixed(offset))
}

pub(crate) fn texts<'a>(items: impl Iterator<Item = String>) -> Val<'a> {
    Val::list(items.map(|text| Val::Str(Cow::Owned(text))).collect())
}
