//! YAML as kubectl writes it. Source of the rules: the emitter of `sigs.k8s.io/yaml` (`goyaml.v2`).

use std::cmp::Ordering;

use coracle_api_meta::Value;

/// Source: `best_width`.
const WIDTH_BEST: usize = 80;

/// A document, keys in order.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => mapping(&mut out, value, 0, false),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0, false),
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

/// `inline`: the first line goes on where a dash stands.
fn mapping(out: &mut String, value: &Value, indent: usize, inline: bool) {
    let mut pairs: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
    pairs.sort_by(|a, b| natural(a.0, b.0));
    for (index, (key, value)) in pairs.into_iter().enumerate() {
        if index > 0 || !inline {
            spaces(out, indent);
        }
        text(out, key, indent, true);
        out.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                out.push('\n');
                mapping(out, value, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, indent, false);
            }
            other => {
                out.push(' ');
                scalar(out, other, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize, inline: bool) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !inline {
            spaces(out, indent);
        }
        out.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => mapping(out, item, indent + 2, true),
            Value::Array(inner) if !inner.is_empty() => sequence(out, inner, indent + 2, true),
            other => {
                scalar(out, other, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

fn scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(own) => text(out, own, indent, false),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
}

/// Numbers in keys count as numbers. Source: `keyList.Less`.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut at = 0;
    while let (Some(x), Some(y)) = (a.get(at), b.get(at)) {
        if x == y {
            at += 1;
            continue;
        }
        let number = |text: &[char]| {
            let before = text[..at].iter().rposition(|c| !c.is_ascii_digit()).map_or(0, |position| position + 1);
            let digits: String = text[before..].iter().take_while(|c| c.is_ascii_digit()).collect();
            digits.parse::<u64>().ok()
        };
        if (x.is_ascii_digit() || y.is_ascii_digit())
            && let (Some(x), Some(y)) = (number(&a), number(&b))
            && x != y
        {
            return x.cmp(&y);
        }
        return match (x.is_alphabetic(), y.is_alphabetic()) {
            (true, true) | (false, false) => x.cmp(y),
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
        };
    }
    a.len().cmp(&b.len())
}

fn text(out: &mut String, text: &str, indent: usize, key: bool) {
    let allowed = Allowed::of(text);
    if text.contains('\n') && !key && allowed.block {
        return literal(out, text, indent);
    }
    if text.contains('\n') || is_ambiguous(text) || !(allowed.plain || allowed.single) {
        return double(out, text);
    }
    let wrap = |text: &str, out: &mut String, quoted: bool| match key {
        true => out.push_str(text),
        false => wrapped(out, text, indent, quoted),
    };
    if allowed.plain {
        wrap(text, out, false);
    } else {
        out.push('\'');
        wrap(&text.replace('\'', "''"), out, true);
        out.push('\'');
    }
}

/// Breaks a line at the first single space beyond the best width.
fn wrapped(out: &mut String, text: &str, indent: usize, quoted: bool) {
    let line = out.rsplit('\n').next().unwrap_or_default();
    let mut column = line.chars().count();
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let near = |at: Option<usize>| at.and_then(|at| chars.get(at)) == Some(&' ');
        let single = *c == ' ' && !near(at.checked_sub(1)) && !near(Some(at + 1));
        let inside = !quoted || (at > 0 && at + 1 < chars.len());
        if single && inside && column > WIDTH_BEST {
            out.push('\n');
            spaces(out, indent);
            column = indent;
        } else {
            out.push(*c);
            column += 1;
        }
    }
}

fn literal(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    let bare = text.trim_end_matches('\n');
    match text.len() - bare.len() {
        0 => out.push('-'),
        1 if !bare.is_empty() => {}
        _ => out.push('+'),
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            spaces(out, indent);
            out.push_str(line);
        }
    }
}

fn double(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{feff}' => out.push_str("\\uFEFF"),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) <= 0xff => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
}

fn is_printable(c: char) -> bool {
    matches!(u32::from(c), 0x0a | 0x20..=0x7e | 0x85 | 0xa0..=0xd7ff | 0xe000..=0xfefe | 0xff00..=0xfffd | 0x1_0000..)
}

/// Which styles a text can have. Source: `yaml_emitter_analyze_scalar`.
struct Allowed {
    plain: bool,
    single: bool,
    block: bool,
}

impl Allowed {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let blank = |c: Option<&char>| c.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        let mut indicator = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut space_break, mut break_space) = (false, false, false);
        for (at, c) in chars.iter().enumerate() {
            let next_blank = blank(chars.get(at + 1));
            indicator |= match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if at == 0 =>
                {
                    true
                }
                '?' | ':' | '-' if at == 0 => next_blank,
                ':' => next_blank,
                '#' => at > 0 && blank(chars.get(at - 1)),
                _ => false,
            };
            special |= !is_printable(*c);
            let before = at.checked_sub(1).and_then(|before| chars.get(before));
            space_break |= *c == '\n' && before == Some(&' ');
            break_space |= *c == ' ' && before == Some(&'\n');
        }
        let edge = |c: Option<&char>| matches!(c, Some(' ' | '\n'));
        let edges = edge(chars.first()) || edge(chars.last());
        let broken = space_break || special;
        Self {
            plain: !(indicator || edges || broken || break_space || text.contains('\n')),
            single: !(broken || break_space),
            block: !broken && chars.last() != Some(&' '),
        }
    }
}

/// Whether the text would be read as something else than text.
fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 14] =
        ["", "~", "null", "true", "false", ".nan", ".inf", "+.inf", "-.inf", "<<", "y", "n", "yes", "no"];
    let lower = text.to_ascii_lowercase();
    // Only whole words in one of three ways of writing: `true`, `True`, `TRUE`.
    let uniform = text == lower
        || text == text.to_ascii_uppercase()
        || text.get(1..).is_some_and(|rest| rest == rest.to_ascii_lowercase());
    if uniform && (WORDS.contains(&lower.as_str()) || lower == "on" || lower == "off") {
        return true;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return false;
    }
    is_number(text) || is_time(text) || is_base60(text)
}

fn is_number(text: &str) -> bool {
    let bare = text.replace('_', "");
    let unsigned = bare.strip_prefix(['+', '-']).unwrap_or(&bare);
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).is_ok();
        }
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    !(whole.is_empty() && fraction.is_empty())
        && digits(whole)
        && digits(fraction)
        && !exponent.is_empty()
        && digits(exponent)
}

fn is_time(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(3, '-').collect();
    let [year, month, rest] = parts.as_slice() else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (day, clock) = match rest.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => rest.split_at(end),
        None => (*rest, ""),
    };
    let clock_is_good = clock.is_empty() || (clock.starts_with(['T', 't', ' ']) && clock.matches(':').count() >= 2);
    year.len() == 4
        && digits(year)
        && digits(month)
        && month.len() <= 2
        && digits(day)
        && day.len() <= 2
        && clock_is_good
}

/// `190:20:30` was a number once.
fn is_base60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let minute = |text: &&str| {
        let whole = text.split('.').next().unwrap_or_default();
        digits(whole) && whole.parse::<u8>().is_ok_and(|number| number < 60)
    };
    !rest.is_empty() && digits(first) && rest.iter().all(minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_kubectl_writes_it() {
        let value = json!({
            "kind": "X", "a10": 1, "a9": null, "empty": {}, "none": [], "list": [{"b": 1, "a": [1, ["x", "y"]]}, "z"],
            "time": "2026-01-01T00:00:00Z", "number": "50", "float": "1e3", "bool": "true", "yes": "Yes", "ip": "10.0.0.1",
            "text": "two words", "colon": "a: b", "url": "http://x:80/", "hash": "a #b", "star": "*", "dash": "- a", "quote": "it's",
            "lines": "a\nb", "ended": "a\nb\n", "more": "a\n\n", "spaced": "a \nb", "lead": " x", "tab": "a\tb", "cron": "0 0 1 1 *",
            "clock": "12:30", "long": "x".repeat(100), "lead2": "  a\n  b\n", "none2": "",
            "words": "word ".repeat(30).trim(),
        });
        expect_test::expect![[r#"
            a9: null
            a10: 1
            bool: "true"
            clock: "12:30"
            colon: 'a: b'
            cron: 0 0 1 1 *
            dash: '- a'
            empty: {}
            ended: |
              a
              b
            float: "1e3"
            hash: 'a #b'
            ip: 10.0.0.1
            kind: X
            lead: ' x'
            lead2: |2
                a
                b
            lines: |-
              a
              b
            list:
            - a:
              - 1
              - - x
                - "y"
              b: 1
            - z
            long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
            more: |+
              a

            none: []
            none2: ""
            number: "50"
            quote: it's
            spaced: "a \nb"
            star: '*'
            tab: "a\tb"
            text: two words
            time: "2026-01-01T00:00:00Z"
            url: http://x:80/
            words: word word word word word word word word word word word word word word word
              word word word word word word word word word word word word word word word
            "yes": "Yes"
        "#]]
        .assert_eq(&to_yaml(&value));
    }
}
