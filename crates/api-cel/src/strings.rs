//! Functions on strings, regular expressions and formats.

use std::sync::OnceLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use regex::Regex;

use crate::{
    error::EvalError,
    functions::{place, shown, texts},
    val::{Result, Val},
};

/// Longest text that a function makes.
const TEXT_BYTES_MAX: usize = 10 << 20;

pub(crate) fn call<'a>(name: &str, args: &[Val<'a>]) -> Option<Result<Val<'a>>> {
    if let Some(result) = formats(name, args) {
        return Some(result);
    }
    if name == "join" {
        return Some(join(args));
    }
    if let ("base64.encode", [Val::Bytes(bytes)]) = (name, args) {
        return Some(Ok(Val::text(BASE64_STANDARD.encode(bytes))));
    }
    let Val::Str(text) = args.first()? else { return None };
    let text: &str = text;
    Some(match (name, &args[1..]) {
        ("contains", [Val::Str(part)]) => Ok(Val::Bool(text.contains(part.as_ref()))),
        ("startsWith", [Val::Str(part)]) => Ok(Val::Bool(text.starts_with(part.as_ref()))),
        ("endsWith", [Val::Str(part)]) => Ok(Val::Bool(text.ends_with(part.as_ref()))),
        ("matches", [Val::Str(pattern)]) => regex(pattern).map(|regex| Val::Bool(regex.is_match(text))),
        ("find", [Val::Str(pattern)]) => {
            regex(pattern).map(|regex| Val::text(regex.find(text).map(|found| found.as_str()).unwrap_or_default()))
        }
        ("findAll", [Val::Str(pattern), rest @ ..]) => find_all(text, pattern, rest),
        ("charAt", [Val::Int(at)]) => char_at(text, *at),
        ("indexOf", [Val::Str(part), rest @ ..]) => index_of(text, part, rest.first(), false),
        ("lastIndexOf", [Val::Str(part), rest @ ..]) => index_of(text, part, rest.first(), true),
        ("lowerAscii", []) => Ok(Val::text(text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Val::text(text.to_ascii_uppercase())),
        ("trim", []) => Ok(Val::text(text.trim())),
        ("reverse", []) => Ok(Val::text(text.chars().rev().collect::<String>())),
        ("replace", [Val::Str(from), Val::Str(to)]) => bounded(text.replace(from.as_ref(), to)),
        ("replace", [Val::Str(from), Val::Str(to), Val::Int(count)]) => match usize::try_from(*count) {
            Ok(count) => bounded(text.replacen(from.as_ref(), to, count)),
            Err(_) => bounded(text.replace(from.as_ref(), to)),
        },
        ("split", [Val::Str(by), rest @ ..]) => split(text, by, rest.first()),
        ("substring", [Val::Int(start)]) => substring(text, *start, text.chars().count() as i64),
        ("substring", [Val::Int(start), Val::Int(end)]) => substring(text, *start, *end),
        ("format", [list]) => format_text(text, &list.items()?),
        ("strings.quote" | "quote", []) => Ok(Val::text(format!("{text:?}"))),
        ("base64.decode", []) => BASE64_STANDARD
            .decode(text)
            .map(|bytes| Val::Bytes(bytes.into()))
            .map_err(|error| EvalError::other(error.to_string())),
        ("jsonpatch.escapeKey", []) => Ok(Val::text(text.replace('~', "~0").replace('/', "~1"))),
        _ => return None,
    })
}

fn bounded<'a>(text: String) -> Result<Val<'a>> {
    if text.len() > TEXT_BYTES_MAX { Err(EvalError::other("text too long")) } else { Ok(Val::text(text)) }
}

/// Compiles a pattern.
pub(crate) fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| EvalError::other(format!("error parsing regexp: {error}")))
}

fn find_all<'a>(text: &str, pattern: &str, rest: &[Val<'a>]) -> Result<Val<'a>> {
    let limit = match rest.first() {
        Some(Val::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
        Some(_) => return Err(EvalError::Overload),
        None => usize::MAX,
    };
    let regex = regex(pattern)?;
    Ok(texts(regex.find_iter(text).take(limit).map(|found| found.as_str().to_owned())))
}

fn char_at<'a>(text: &str, at: i64) -> Result<Val<'a>> {
    let length = text.chars().count();
    match usize::try_from(at) {
        Ok(at) if at < length => Ok(Val::text(text.chars().skip(at).take(1).collect::<String>())),
        Ok(at) if at == length => Ok(Val::text("")),
        _ => Err(EvalError::other(format!("index out of range: {at}"))),
    }
}

fn index_of<'a>(text: &str, part: &str, from: Option<&Val<'a>>, last: bool) -> Result<Val<'a>> {
    let text: Vec<char> = text.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let length = text.len();
    let from = match from {
        Some(Val::Int(from)) => match usize::try_from(*from) {
            Ok(from) if from <= length => Some(from),
            _ => return Err(EvalError::other(format!("index out of range: {from}"))),
        },
        Some(_) => return Err(EvalError::Overload),
        None => None,
    };
    let Some(end) = length.checked_sub(part.len()) else { return Ok(place(None)) };
    let here = |at: &usize| text[*at..].starts_with(&part);
    Ok(place(if last {
        (0..=end.min(from.unwrap_or(end))).rev().find(here)
    } else {
        (from.unwrap_or(0)..=end).find(here)
    }))
}

fn split<'a>(text: &str, by: &str, limit: Option<&Val<'a>>) -> Result<Val<'a>> {
    let parts: Vec<String> = match limit {
        None => pieces(text, by, usize::MAX),
        Some(Val::Int(limit)) => match usize::try_from(*limit) {
            Ok(0) => Vec::new(),
            Ok(limit) => pieces(text, by, limit),
            Err(_) => pieces(text, by, usize::MAX),
        },
        Some(_) => return Err(EvalError::Overload),
    };
    Ok(texts(parts.into_iter()))
}

fn pieces(text: &str, by: &str, limit: usize) -> Vec<String> {
    if by.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.splitn(limit, by).map(str::to_owned).collect()
}

fn substring<'a>(text: &str, start: i64, end: i64) -> Result<Val<'a>> {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if start < 0 || end > length || start > end {
        return Err(EvalError::other(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let (start, count) = (usize::try_from(start), usize::try_from(end - start));
    Ok(Val::text(text.chars().skip(start.unwrap_or(0)).take(count.unwrap_or(0)).collect::<String>()))
}

fn join<'a>(args: &[Val<'a>]) -> Result<Val<'a>> {
    let by = match args.get(1) {
        Some(by) => by.as_str()?,
        None => "",
    };
    let items = args.first().and_then(Val::items).ok_or(EvalError::Overload)?;
    let texts: Vec<&str> = items.iter().map(Val::as_str).collect::<Result<_>>()?;
    bounded(texts.join(by))
}

/// `"%s is %d".format([name, count])`.
fn format_text<'a>(template: &str, args: &[Val<'a>]) -> Result<Val<'a>> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let precision = rest[..digits].strip_prefix('.').and_then(|digits| digits.parse::<usize>().ok());
        let verb = rest[digits..].chars().next().ok_or_else(|| EvalError::other("unexpected end of string"))?;
        let arg = args.next().ok_or_else(|| EvalError::other("index out of bounds in format"))?;
        out.push_str(&formatted(verb, precision.map(|precision| precision.min(100)), arg)?);
        rest = &rest[digits + verb.len_utf8()..];
    }
    out.push_str(rest);
    bounded(out)
}

fn formatted(verb: char, precision: Option<usize>, arg: &Val<'_>) -> Result<String> {
    let precision = precision.unwrap_or(6);
    Ok(match (verb, arg) {
        ('s', arg) => shown(arg),
        ('d', Val::Int(value)) => value.to_string(),
        ('d', Val::Uint(value)) => value.to_string(),
        ('d' | 'f', Val::Double(value)) => format!("{value:.precision$}"),
        ('f', Val::Int(value)) => format!("{value}.{}", "0".repeat(precision)),
        ('e', Val::Double(value)) => format!("{value:.precision$e}"),
        ('b', Val::Int(value)) => format!("{value:b}"),
        ('b', Val::Uint(value)) => format!("{value:b}"),
        ('b', Val::Bool(set)) => u8::from(*set).to_string(),
        ('o', Val::Int(value)) => format!("{value:o}"),
        ('o', Val::Uint(value)) => format!("{value:o}"),
        ('x', Val::Int(value)) => format!("{value:x}"),
        ('x', Val::Uint(value)) => format!("{value:x}"),
        ('X', Val::Int(value)) => format!("{value:X}"),
        ('X', Val::Uint(value)) => format!("{value:X}"),
        ('x', Val::Str(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Val::Str(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        _ => {
            return Err(EvalError::other(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            )));
        }
    })
}

const DNS_LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const DNS_LABEL_ERROR: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN_ERROR: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
/// Named formats: name, pattern, greatest length, what is said when it does not match.
const FORMATS: [(&str, &str, usize, &str); 13] = [
    ("dns1123Label", DNS_LABEL, 63, DNS_LABEL_ERROR),
    (
        "dns1123Subdomain",
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        253,
        DNS_SUBDOMAIN_ERROR,
    ),
    (
        "dns1035Label",
        r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
        63,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    ),
    (
        "qualifiedName",
        r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$",
        317,
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    ),
    ("dns1123LabelPrefix", r"^[a-z0-9]([-a-z0-9]*)?$", 63, DNS_LABEL_ERROR),
    ("dns1123SubdomainPrefix", r"^[a-z0-9]([-a-z0-9.]*)?$", 253, DNS_SUBDOMAIN_ERROR),
    ("dns1035LabelPrefix", r"^[a-z]([-a-z0-9]*)?$", 63, "a DNS-1035 label must start with an alphabetic character"),
    (
        "labelValue",
        r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        63,
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    ),
    ("uri", r"^([a-zA-Z][a-zA-Z0-9+.-]*:|/)\S*$", 65_536, "invalid URI"),
    (
        "uuid",
        r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
        36,
        "does not match the UUID format",
    ),
    ("byte", r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$", 10 << 20, "invalid base64"),
    ("date", r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", 10, "invalid date"),
    ("datetime", r"(?i)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$", 64, "invalid datetime"),
];

fn formats<'a>(name: &str, args: &[Val<'a>]) -> Option<Result<Val<'a>>> {
    let known = |name: &str| FORMATS.iter().find(|format| format.0 == name).map(|format| Val::Format(format.0));
    match (name, args) {
        ("format.named", [Val::Str(name)]) => Some(Ok(Val::Optional(known(name).map(Box::new)))),
        ("validate", [Val::Format(format), Val::Str(text)]) => Some(Ok(Val::Optional(violation(format, text)))),
        (name, []) => Some(Ok(known(name.strip_prefix("format.")?)?)),
        _ => None,
    }
}

fn violation<'a>(name: &str, text: &str) -> Option<Box<Val<'a>>> {
    static COMPILED: [OnceLock<Option<Regex>>; FORMATS.len()] = [const { OnceLock::new() }; FORMATS.len()];
    let index = FORMATS.iter().position(|format| format.0 == name)?;
    let (_, pattern, max, error) = FORMATS[index];
    let mut errors = Vec::new();
    if text.len() > max {
        errors.push(format!("must be no more than {max} bytes"));
    }
    let regex = COMPILED[index].get_or_init(|| Regex::new(pattern).ok());
    if regex.as_ref().is_some_and(|regex| !regex.is_match(text)) {
        errors.push(error.to_owned());
    }
    (!errors.is_empty()).then(|| Box::new(texts(errors.into_iter())))
}
