//! Values as Go's `fmt` prints them, because upstream's error texts contain them.

use std::fmt::Write as _;

use coracle_api_meta::{Map, Value};

/// The Go type that a decoded value has: `%T`, and `%s` of `reflect.TypeOf`.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What `encoding/json` calls the value in its errors.
pub(crate) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `%v`.
pub(crate) fn plain(value: &Value) -> String {
    let mut text = String::new();
    write_plain(&mut text, value);
    text
}

/// `%v` of a map: `map[a:1 b:[x y]]`, keys sorted.
pub(crate) fn plain_map(map: &Map) -> String {
    let mut text = String::new();
    write_plain_map(&mut text, map);
    text
}

/// `%v` of a list: `[a b]`.
pub(crate) fn plain_list(list: &[Value]) -> String {
    let mut text = String::new();
    write_plain_list(&mut text, list);
    text
}

fn write_plain(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => text.push_str(string),
        Value::Array(list) => write_plain_list(text, list),
        Value::Object(map) => write_plain_map(text, map),
    }
}

fn write_plain_list(text: &mut String, list: &[Value]) {
    text.push('[');
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        write_plain(text, item);
    }
    text.push(']');
}

fn write_plain_map(text: &mut String, map: &Map) {
    text.push_str("map[");
    for (index, (key, value)) in sorted(map).into_iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(key);
        text.push(':');
        write_plain(text, value);
    }
    text.push(']');
}

fn sorted(map: &Map) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| key.as_str());
    entries
}

fn write_number(text: &mut String, number: &serde_json::Number) {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) if float != 0.0 && !(1e-4..1e21).contains(&float.abs()) => {
            let shown = format!("{float:e}");
            let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            let _ = write!(text, "{mantissa}e{sign}{digits:0>2}");
        }
        Some(float) => {
            let _ = write!(text, "{float}");
        }
        None => {
            let _ = write!(text, "{number}");
        }
    }
}

/// `%#v`.
pub(crate) fn source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(string) => quoted(string),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(source).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<String> =
                sorted(map).into_iter().map(|(key, value)| format!("{}:{}", quoted(key), source(value))).collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        Value::Bool(_) | Value::Number(_) => plain(value),
    }
}

/// `%q`.
pub(crate) fn quoted(string: &str) -> String {
    let mut text = String::with_capacity(string.len() + 2);
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{7}' => text.push_str("\\a"),
            '\u{8}' => text.push_str("\\b"),
            '\u{b}' => text.push_str("\\v"),
            '\u{c}' => text.push_str("\\f"),
            control if (control as u32) < 0x20 || control == '\u{7f}' => {
                let _ = write!(text, "\\x{:02x}", control as u32);
            }
            control if control.is_control() => {
                let _ = write!(text, "\\u{:04x}", control as u32);
            }
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prints_as_go() {
        let value = json!({"b": [1, "x", null], "a": {"c": 1.5, "d": true}, "e": 1e21, "f": 1e-7});
        assert_eq!(plain(&value), "map[a:map[c:1.5 d:true] b:[1 x <nil>] e:1e+21 f:1e-07]");
        assert_eq!(
            source(&json!({"a": ["x", 1], "b": null})),
            r#"map[string]interface {}{"a":[]interface {}{"x", 1}, "b":interface {}(nil)}"#
        );
        assert_eq!(quoted("a\"\n\u{1}é"), r#""a\"\n\x01é""#);
    }
}
