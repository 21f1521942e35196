//! Label and field selectors, as written in query strings and in `LabelSelector` fields.
//! Source: `k8s.io/apimachinery/pkg/{labels,fields}`.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Map, Value, names};

/// Terms of one selector that are read at most.
pub const SELECTOR_TERMS_MAX: usize = 1000;

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

/// One term of a label selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    Equals(String, String),
    /// Also true where the label is absent.
    NotEquals(String, String),
    In(String, BTreeSet<String>),
    /// Also true where the label is absent.
    NotIn(String, BTreeSet<String>),
    Exists(String),
    NotExists(String),
    GreaterThan(String, i64),
    LessThan(String, i64),
}

/// All requirements must hold; with none, everything matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    /// Matches nothing: what a nil `LabelSelector` field means.
    nothing: bool,
}

impl LabelSelector {
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads the form of query strings: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { rest: text.trim() };
        let mut requirements = Vec::new();
        while !parser.rest.is_empty() {
            if requirements.len() == SELECTOR_TERMS_MAX {
                return Err(ParseError(format!("a selector has at most {SELECTOR_TERMS_MAX} terms")));
            }
            requirements.push(parser.requirement()?);
            parser.skip_space();
            if parser.rest.is_empty() {
                break;
            }
            parser.expect(',')?;
            parser.skip_space();
            if parser.rest.is_empty() {
                return Err(ParseError("found '', expected: identifier after ','".to_owned()));
            }
        }
        Ok(Self { requirements, nothing: false })
    }

    /// From a map of equalities (`Service.spec.selector`).
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let requirements =
            pairs.into_iter().map(|(key, value)| Requirement::Equals(key.to_owned(), value.to_owned())).collect();
        Self { requirements, nothing: false }
    }

    /// From a `metav1.LabelSelector`: null matches nothing, `{}` everything.
    pub fn from_value(selector: &Value) -> Result<Self, ParseError> {
        let Some(selector) = selector.as_object() else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            requirements.push(Requirement::Equals(key.clone(), value.as_str().unwrap_or_default().to_owned()));
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(expression_requirement(expression)?);
        }
        Ok(Self { requirements, nothing: false })
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// `get` looks a label up.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.holds(&get))
    }

    #[must_use]
    pub fn matches(&self, labels: Option<&Map>) -> bool {
        self.matches_with(|key| labels?.get(key)?.as_str())
    }
}

fn expression_requirement(expression: &Value) -> Result<Requirement, ParseError> {
    let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let values = || -> BTreeSet<String> {
        let list = expression.get("values").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let key = text("key");
    match text("operator").as_str() {
        "In" => Ok(Requirement::In(key, values())),
        "NotIn" => Ok(Requirement::NotIn(key, values())),
        "Exists" => Ok(Requirement::Exists(key)),
        "DoesNotExist" => Ok(Requirement::NotExists(key)),
        other => Err(ParseError(format!("{other:?} is not a valid label selector operator"))),
    }
}

impl Requirement {
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Equals(key, _)
            | Self::NotEquals(key, _)
            | Self::In(key, _)
            | Self::NotIn(key, _)
            | Self::Exists(key)
            | Self::NotExists(key)
            | Self::GreaterThan(key, _)
            | Self::LessThan(key, _) => key,
        }
    }

    fn holds<'a>(&self, get: &impl Fn(&str) -> Option<&'a str>) -> bool {
        let value = get(self.key());
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::Equals(_, wanted) => value == Some(wanted),
            Self::NotEquals(_, unwanted) => value != Some(unwanted),
            Self::In(_, set) => value.is_some_and(|value| set.contains(value)),
            Self::NotIn(_, set) => value.is_none_or(|value| !set.contains(value)),
            Self::Exists(_) => value.is_some(),
            Self::NotExists(_) => value.is_none(),
            Self::GreaterThan(_, limit) => number().is_some_and(|value| value > *limit),
            Self::LessThan(_, limit) => number().is_some_and(|value| value < *limit),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        match self {
            Self::Equals(key, value) => write!(f, "{key}={value}"),
            Self::NotEquals(key, value) => write!(f, "{key}!={value}"),
            Self::In(key, set) => write!(f, "{key} in ({})", join(set)),
            Self::NotIn(key, set) => write!(f, "{key} notin ({})", join(set)),
            Self::Exists(key) => f.write_str(key),
            Self::NotExists(key) => write!(f, "!{key}"),
            Self::GreaterThan(key, limit) => write!(f, "{key}>{limit}"),
            Self::LessThan(key, limit) => write!(f, "{key}<{limit}"),
        }
    }
}

/// Sorted by key, as upstream writes it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Requirement> = self.requirements.iter().collect();
        sorted.sort_by(|a, b| a.key().cmp(b.key()));
        let texts: Vec<String> = sorted.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), ParseError> {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => {
                let found: String = self.word().to_owned();
                Err(ParseError(format!("found '{found}', expected: '{token}'")))
            }
        }
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let end = self.rest.find(|c: char| c.is_whitespace() || "=!(),<>".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn key(&mut self) -> Result<String, ParseError> {
        let key = self.word();
        if key.is_empty() {
            let found: String = self.rest.chars().take(1).collect();
            return Err(ParseError(format!("found '{found}', expected: !, identifier, or 'end of string'")));
        }
        match names::is_qualified_name(key).first() {
            Some(why) => Err(ParseError(format!("key: Invalid value: {key:?}: {why}"))),
            None => Ok(key.to_owned()),
        }
    }

    fn value(&mut self, key: &str) -> Result<String, ParseError> {
        let value = self.word();
        match names::is_label_value(value).first() {
            Some(why) => Err(ParseError(format!("values[0][{key}]: Invalid value: {value:?}: {why}"))),
            None => Ok(value.to_owned()),
        }
    }

    fn set(&mut self, key: &str) -> Result<BTreeSet<String>, ParseError> {
        self.expect('(')?;
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value(key)?);
            if self.take(",") {
                continue;
            }
            self.expect(')')?;
            return Ok(values);
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, ParseError> {
        let value = self.word();
        value.parse().map_err(|_| {
            ParseError(format!(
                "values[0][{key}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ))
        })
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        if self.take("!") {
            return Ok(Requirement::NotExists(self.key()?));
        }
        let key = self.key()?;
        if self.take("==") || self.take("=") {
            let value = self.value(&key)?;
            return Ok(Requirement::Equals(key, value));
        }
        if self.take("!=") {
            let value = self.value(&key)?;
            return Ok(Requirement::NotEquals(key, value));
        }
        if self.take(">") {
            let limit = self.number(&key)?;
            return Ok(Requirement::GreaterThan(key, limit));
        }
        if self.take("<") {
            let limit = self.number(&key)?;
            return Ok(Requirement::LessThan(key, limit));
        }
        self.skip_space();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(Requirement::Exists(key));
        }
        match self.word() {
            "in" => Ok(Requirement::In(key.clone(), self.set(&key)?)),
            "notin" => Ok(Requirement::NotIn(key.clone(), self.set(&key)?)),
            other => Err(ParseError(format!(
                "unable to parse requirement: found '{other}', expected: in, notin, =, ==, !=, gt, lt"
            ))),
        }
    }
}

/// Conjunction of `field=value` and `field!=value`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub value: String,
    /// False for `!=`.
    pub equal: bool,
}

impl FieldSelector {
    /// Reads `a=b,c!=d`; `\,`, `\=` and `\\` stand for themselves in values.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            if terms.len() == SELECTOR_TERMS_MAX {
                return Err(ParseError(format!("a selector has at most {SELECTOR_TERMS_MAX} terms")));
            }
            let (field, value, equal) = split_term(part)
                .ok_or_else(|| ParseError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            terms.push(FieldTerm { field: field.trim().to_owned(), value: unescape(value)?, equal });
        }
        Ok(Self { terms })
    }

    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// `get` gives the value of a field, empty where it is absent.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> std::borrow::Cow<'a, str>) -> bool {
        self.terms.iter().all(|term| (get(&term.field) == term.value.as_str()) == term.equal)
    }

    /// The value that `field` must have, if the selector says so.
    #[must_use]
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            ',' if !escaped => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => escaped = false,
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(part: &str) -> Option<(&str, &str, bool)> {
    let at = part.find('=')?;
    let (left, right) = (&part[..at], &part[at + 1..]);
    if let Some(field) = left.strip_suffix('!') {
        return Some((field, right, false));
    }
    Some((left, right.strip_prefix('=').unwrap_or(right), true))
}

fn unescape(value: &str) -> Result<String, ParseError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(next @ ('\\' | ',' | '=')) => out.push(next),
            other => {
                let sequence: String = std::iter::once('\\').chain(other).collect();
                return Err(ParseError(format!("invalid field selector: invalid escape sequence: {sequence}")));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &Value) -> bool {
        LabelSelector::parse(selector).expect("selector").matches(labels.as_object())
    }

    #[test]
    fn label_selectors_match() {
        let labels = serde_json::json!({"app": "web", "tier": "front", "n": "5"});
        for yes in [
            "",
            "app=web",
            "app==web",
            "app!=x",
            "missing!=x",
            "app in (a, web)",
            "x notin (y)",
            "app",
            "!x",
            "n>4",
            "n<6,app=web",
        ] {
            assert!(matches(yes, &labels), "{yes}");
        }
        for no in ["app=x", "app!=web", "app in (a)", "app notin (web)", "!app", "x", "n>5", "app=web,x"] {
            assert!(!matches(no, &labels), "{no}");
        }
    }

    #[test]
    fn bad_selectors_are_refused() {
        for bad in ["=", "a=b,", "a in", "a in (b", "a b", "-a", "a=b c", "a,,b", "a=-", "(", "a>x"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn printed_sorted() {
        assert_eq!(LabelSelector::parse("b in (z,y),a=1").expect("selector").to_string(), "a=1,b in (y,z)");
    }

    #[test]
    fn field_selectors() {
        let selector = FieldSelector::parse(r"metadata.name=a\,b,status.phase!=Running").expect("selector");
        let get = |field: &str| match field {
            "metadata.name" => "a,b".into(),
            _ => "Pending".into(),
        };
        assert!(selector.matches_with(get));
        assert_eq!(selector.required("metadata.name"), Some("a,b"));
        assert!(FieldSelector::parse("x").is_err());
        assert!(FieldSelector::parse(r"a=\x").is_err());
    }
}
