//! Whether an object fits its schema, as far as owning its fields needs it.

use std::collections::BTreeSet;

use coracle_api_meta::Value;

use super::shape::{Atom, ListAtom, MapAtom, Scalar, Shape, Types};
use crate::fields::PathElement;
use crate::golang;

struct Finding {
    path: String,
    message: String,
}

/// # Errors
/// All findings in upstream's words: `.spec.replicas: expected numeric (int or float), got string`.
pub(crate) fn validate(types: Types<'_>, shape: Shape, value: &Value) -> Result<(), String> {
    let mut findings = Vec::new();
    Validator { types }.place(shape, value, &mut findings);
    let texts: Vec<String> = findings
        .into_iter()
        .map(|finding| match finding.path.as_str() {
            "" => finding.message,
            path => format!("{path}: {}", finding.message),
        })
        .collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

struct Validator<'s> {
    types: Types<'s>,
}

impl<'s> Validator<'s> {
    fn place(&self, shape: Shape, value: &Value, out: &mut Vec<Finding>) {
        match self.types.atom(shape, Some(value)) {
            Atom::Scalar(kind) => out.extend(check_scalar(kind, value).map(finding)),
            Atom::List(list) => match value {
                Value::Null => {}
                Value::Array(items) => self.items(list, items, out),
                other => out.push(finding(format!("expected list, got &{{{}}}", golang::plain(other)))),
            },
            Atom::Map(map) => match value {
                Value::Null => {}
                Value::Object(fields) => self.fields(map, fields, out),
                other => out.push(finding(format!("expected map, got &{{{}}}", golang::plain(other)))),
            },
        }
    }

    /// Findings below are about `element`.
    fn below(&self, shape: Shape, value: &Value, element: impl Fn() -> String, out: &mut Vec<Finding>) {
        let first = out.len();
        self.place(shape, value, out);
        for finding in out.iter_mut().skip(first) {
            finding.path.insert_str(0, &element());
        }
    }

    fn items(&self, list: ListAtom<'s>, items: &[Value], out: &mut Vec<Finding>) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            if list.is_atomic() {
                self.below(list.item, item, || format!("[{index}]"), out);
                continue;
            }
            let element = match self.types.item_element(list, item) {
                Ok(element) => element,
                Err(error) => {
                    out.push(finding(format!("element {index}: {error}")));
                    return;
                }
            };
            if seen.contains(&element) {
                out.push(finding(format!("duplicate entries for key {element}")));
            }
            self.below(list.item, item, || element.to_string(), out);
            seen.insert(element);
        }
    }

    fn fields(&self, map: MapAtom<'s>, fields: &coracle_api_meta::Map, out: &mut Vec<Finding>) {
        for (key, value) in fields {
            let Some(shape) = map.child(key).1 else {
                out.push(Finding { path: format!(".{key}"), message: "field not declared in schema".to_owned() });
                return;
            };
            self.below(shape, value, || PathElement::field(key).to_string(), out);
        }
    }
}

fn finding(message: String) -> Finding {
    Finding { path: String::new(), message }
}

fn check_scalar(kind: Scalar, value: &Value) -> Option<String> {
    let fits = match kind {
        _ if value.is_null() => true,
        Scalar::Numeric => value.is_number(),
        Scalar::String => value.is_string(),
        Scalar::Boolean => value.is_boolean(),
        Scalar::Untyped => !value.is_array() && !value.is_object(),
    };
    if fits {
        return None;
    }
    Some(match kind {
        Scalar::Numeric => format!("expected numeric (int or float), got {}", golang::type_name(value)),
        Scalar::String => format!("expected string, got &value.valueUnstructured{{Value:{}}}", golang::source(value)),
        Scalar::Boolean => format!("expected boolean, got &{{{}}}", golang::plain(value)),
        Scalar::Untyped => format!("expected any scalar, got &{{{}}}", golang::plain(value)),
    })
}
