//! Values against a schema, in the words of kube-openapi's validation.

use coracle_api_meta::{FieldError, FieldErrorKind, FieldPath, Map, Value};

use super::{
    format,
    node::{Additional, Checks, Node},
};

/// The errors of a value at a path. Parts equal to their counterpart in `old` are taken as valid.
pub(super) fn value(node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath) -> Vec<FieldError> {
    let mut found = Outcome::default();
    check(node, value, old, "", &mut found);
    found.findings.into_iter().map(|finding| finding.at(path)).collect()
}

/// What was found, and how many checks were made: among alternatives the one with the most is reported.
#[derive(Default)]
struct Outcome {
    findings: Vec<Finding>,
    checks: usize,
}

enum Finding {
    Field {
        name: String,
        kind: FieldErrorKind,
        value: Value,
        detail: String,
    },
    /// About alternatives; upstream gives it no path.
    Loose(String),
}

impl Finding {
    fn at(self, base: &FieldPath) -> FieldError {
        match self {
            Self::Loose(detail) => FieldError::invalid(base, "", detail),
            Self::Field { name, kind, value, detail } => {
                let name = name.trim_start_matches('.');
                let path = if name.is_empty() { base.clone() } else { base.child(name) };
                FieldError { path, kind, value, detail }
            }
        }
    }
}

impl Outcome {
    fn push(&mut self, path: &str, kind: FieldErrorKind, value: impl Into<Value>, detail: impl Into<String>) {
        self.findings.push(Finding::Field { name: path.to_owned(), kind, value: value.into(), detail: detail.into() });
    }

    /// `spec.x in body <what>`.
    fn invalid(&mut self, path: &str, value: impl Into<Value>, what: &str) {
        self.push(path, FieldErrorKind::Invalid, value, format!("{path} in body {what}"));
    }

    fn wrong_type(&mut self, path: &str, wanted: &str, found: &str) {
        let detail = format!("{path} in body must be of type {wanted}: {found:?}");
        self.push(path, FieldErrorKind::TypeInvalid, found, detail);
    }

    fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.checks += other.checks;
    }
}

fn check(node: &Node, value: &Value, old: Option<&Value>, path: &str, out: &mut Outcome) {
    if old.is_some_and(|old| old == value) {
        return;
    }
    types(node, value, path, out);
    if value.is_null() {
        if let Some(checks) = &node.checks {
            allowed(checks, value, path, out);
        }
        return;
    }
    let nothing = Checks::default();
    let checks = node.checks.as_deref().unwrap_or(&nothing);
    junctors(checks, value, old, path, out);
    match value {
        Value::String(text) => {
            string(checks, text, path, out);
            if !node.format.is_empty() && !format::matches(&node.format, text) {
                let format = &node.format;
                let detail = format!("{path} in body must be of type {format}: {text:?}");
                out.push(path, FieldErrorKind::TypeInvalid, text.clone(), detail);
            }
        }
        Value::Number(number) => numbers(node, checks, number, path, out),
        Value::Array(items) => list(node, checks, items, old, path, out),
        _ => {}
    }
    allowed(checks, value, path, out);
    if let Value::Object(object) = value {
        fields(node, checks, object, old, path, out);
    }
    out.checks += 1;
}

fn types(node: &Node, value: &Value, path: &str, out: &mut Outcome) {
    let wanted = node.types();
    out.checks += 1;
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = wanted.is_empty()
        || wanted.contains(&found)
        || (found == "integer" && wanted.contains(&"number"))
        || (found == "null" && node.nullable)
        || (found == "number"
            && wanted.contains(&"integer")
            && value.as_f64().is_some_and(|float| float.fract() == 0.0));
    if !fits {
        out.wrong_type(path, &wanted.join(","), found);
    }
}

fn junctors(checks: &Checks, value: &Value, old: Option<&Value>, path: &str, out: &mut Outcome) {
    let outcome = |node: &Node| {
        let mut inner = Outcome::default();
        check(node, value, old, path, &mut inner);
        inner
    };
    if !checks.any_of.is_empty() {
        let (mut valid, failed) = split(checks.any_of.iter().map(outcome));
        if valid.is_empty() {
            out.findings.push(Finding::Loose(format!("{path:?} must validate at least one schema (anyOf)")));
        }
        out.merge(if valid.is_empty() { best(failed) } else { valid.swap_remove(0) });
    }
    if !checks.one_of.is_empty() {
        let (mut valid, failed) = split(checks.one_of.iter().map(outcome));
        if valid.len() == 1 {
            out.merge(valid.swap_remove(0));
        } else {
            let found = match valid.len() {
                0 => "Found none valid".to_owned(),
                count => format!("Found {count} valid alternatives"),
            };
            let text = format!("{path:?} must validate one and only one schema (oneOf). {found}");
            out.findings.push(Finding::Loose(text));
            if valid.is_empty() {
                out.merge(best(failed));
            }
        }
    }
    if !checks.all_of.is_empty() {
        let outcomes: Vec<Outcome> = checks.all_of.iter().map(outcome).collect();
        let valid = outcomes.iter().filter(|outcome| outcome.findings.is_empty()).count();
        let all = outcomes.len();
        outcomes.into_iter().for_each(|outcome| out.merge(outcome));
        if valid < all {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.findings.push(Finding::Loose(format!("{path:?} must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(not) = &checks.not
        && outcome(not).findings.is_empty()
    {
        out.findings.push(Finding::Loose(format!("{path:?} must not validate the schema (not)")));
    }
    out.checks += 1;
}

/// Valid outcomes and failures.
fn split(outcomes: impl Iterator<Item = Outcome>) -> (Vec<Outcome>, Vec<Outcome>) {
    outcomes.partition(|outcome| outcome.findings.is_empty())
}

/// The failure that got furthest, the first of equals.
fn best(failed: Vec<Outcome>) -> Outcome {
    failed.into_iter().reduce(|best, next| if next.checks > best.checks { next } else { best }).unwrap_or_default()
}

/// The first check that fails.
fn string(checks: &Checks, text: &str, path: &str, out: &mut Outcome) {
    out.checks += 1;
    let length = text.chars().count();
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        let unit = if max == 1 { "byte" } else { "bytes" };
        out.push(path, FieldErrorKind::TooLong, "", format!("may not be more than {max} {unit}"));
    } else if let Some(min) = checks.min_length.filter(|min| length < *min) {
        out.invalid(path, text, &format!("should be at least {min} chars long"));
    } else if checks.regex.as_ref().is_some_and(|regex| !regex.is_match(text)) {
        out.invalid(path, text, &format!("should match '{}'", checks.pattern));
    }
}

fn numbers(node: &Node, checks: &Checks, number: &serde_json::Number, path: &str, out: &mut Outcome) {
    out.checks += 1;
    let Some(float) = number.as_f64() else { return };
    let value = Value::Number(number.clone());
    let integer = number.as_i64();
    if node.ty == "integer" && node.format == "int32" && integer.is_none_or(|integer| i32::try_from(integer).is_err()) {
        let detail = format!("Checked value must be of type integer with format int32 in {path}");
        out.findings.push(Finding::Loose(detail));
    }
    if let Some(factor) = checks.multiple_of
        && !is_multiple(float, factor)
    {
        out.invalid(path, value.clone(), &format!("should be a multiple of {factor}"));
    }
    if let Some(min) = checks.minimum.filter(|min| float < *min || (checks.exclusive_minimum && float <= *min)) {
        let word = if checks.exclusive_minimum { "greater than" } else { "greater than or equal to" };
        out.invalid(path, value.clone(), &format!("should be {word} {min}"));
    }
    if let Some(max) = checks.maximum.filter(|max| float > *max || (checks.exclusive_maximum && float >= *max)) {
        let word = if checks.exclusive_maximum { "less than" } else { "less than or equal to" };
        out.invalid(path, value, &format!("should be {word} {max}"));
    }
}

fn is_multiple(value: f64, factor: f64) -> bool {
    if factor <= 0.0 {
        return true;
    }
    let times = if factor < 1.0 { 1.0 / factor * value } else { value / factor };
    (times - times.round()).abs() < 1e-9
}

fn list(node: &Node, checks: &Checks, items: &[Value], old: Option<&Value>, path: &str, out: &mut Outcome) {
    if let Some(inner) = &node.items {
        for (index, item) in items.iter().enumerate() {
            let old = old.and_then(Value::as_array).and_then(|old| counterpart(node, item, old));
            check(inner, item, old, &format!("{path}[{index}]"), out);
        }
    }
    let size = items.len();
    if let Some(min) = checks.min_items.filter(|min| size < *min) {
        out.invalid(path, size, &format!("should have at least {min} items"));
    }
    if let Some(max) = checks.max_items.filter(|max| size > *max) {
        out.push(path, FieldErrorKind::TooMany, size, too_many(max));
    }
    out.checks += 1;
}

fn too_many(max: usize) -> String {
    format!("must have at most {max} {}", if max == 1 { "item" } else { "items" })
}

/// The old item with the same keys, in lists that have keys.
pub(super) fn counterpart<'a>(node: &Node, item: &Value, old: &'a [Value]) -> Option<&'a Value> {
    if node.list_type != "map" {
        return None;
    }
    old.iter().find(|old| node.list_map_keys.iter().all(|key| old.get(key) == item.get(key)))
}

fn allowed(checks: &Checks, value: &Value, path: &str, out: &mut Outcome) {
    out.checks += 1;
    if checks.allowed.is_empty() || checks.allowed.contains(value) {
        return;
    }
    let text = |value: &Value| match value {
        Value::String(text) => format!("{text:?}"),
        other => format!("{:?}", other.to_string()),
    };
    let values: Vec<String> = checks.allowed.iter().map(text).collect();
    let detail = format!("supported values: {}", values.join(", "));
    out.push(path, FieldErrorKind::NotSupported, value.clone(), detail);
}

fn fields(node: &Node, checks: &Checks, object: &Map, old: Option<&Value>, path: &str, out: &mut Outcome) {
    let size = object.len();
    if let Some(min) = checks.min_properties.filter(|min| size < *min) {
        out.invalid(path, size, &format!("should have at least {min} properties"));
    }
    if let Some(max) = checks.max_properties.filter(|max| size > *max) {
        out.push(path, FieldErrorKind::TooMany, size, too_many(max));
    }
    let old_field = |key: &str| old.and_then(|old| old.get(key));
    for (key, value) in object.iter().filter(|(key, _)| !node.properties.contains_key(*key)) {
        match &node.additional {
            Some(Additional::Schema(inner)) => check(inner, value, old_field(key), &format!("{path}.{key}"), out),
            Some(Additional::Allowed(false)) => {
                let detail = format!("{path}.{key} in body is a forbidden property");
                out.push(path, FieldErrorKind::Invalid, "", detail);
            }
            _ => {}
        }
    }
    for (name, property) in &node.properties {
        if let Some(value) = object.get(name) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            check(property, value, old_field(name), &path, out);
        }
    }
    for name in checks.required.iter().filter(|name| !object.contains_key(*name)) {
        out.push(&format!("{path}.{name}"), FieldErrorKind::Required, "", "");
    }
    out.checks += 1;
}
