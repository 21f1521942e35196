//! A read cursor over an object that knows where it is, so that a rule can report without carrying paths around.

use std::borrow::Cow;
use std::rc::Rc;

use coracle_api_meta::{FieldError, FieldPath, Value};

/// Findings, in the order upstream reports them.
pub type Errors = Vec<FieldError>;

static NULL: Value = Value::Null;

#[derive(Debug)]
enum Step<'v> {
    Root(FieldPath),
    Field(Cow<'v, str>),
    Index(usize),
    Key(Cow<'v, str>),
}

#[derive(Debug)]
struct Link<'v> {
    parent: Option<Rc<Link<'v>>>,
    step: Step<'v>,
}

/// A value and its path. A missing field and `null` are the same.
#[derive(Debug, Clone)]
pub struct At<'v> {
    value: &'v Value,
    link: Rc<Link<'v>>,
}

impl<'v> At<'v> {
    /// The whole object: the path is empty.
    #[must_use]
    pub fn root(value: &'v Value) -> Self {
        Self::placed(value, FieldPath::default())
    }

    /// A value that stands at `path`.
    #[must_use]
    pub fn placed(value: &'v Value, path: FieldPath) -> Self {
        Self { value, link: Rc::new(Link { parent: None, step: Step::Root(path) }) }
    }

    fn to(&self, value: &'v Value, step: Step<'v>) -> Self {
        Self { value, link: Rc::new(Link { parent: Some(self.link.clone()), step }) }
    }

    #[must_use]
    pub fn get(&self, field: &'v str) -> Self {
        self.to(self.value.get(field).unwrap_or(&NULL), Step::Field(Cow::Borrowed(field)))
    }

    /// A dotted path of fields.
    #[must_use]
    pub fn dig(&self, fields: &'static str) -> Self {
        fields.split('.').fold(self.clone(), |at, field| at.get(field))
    }

    /// Another value at this place: what a field was before, or a part that upstream reports by a different name.
    #[must_use]
    pub fn with(&self, value: &'v Value) -> Self {
        Self { value, link: self.link.clone() }
    }

    /// The place of map key `key`.
    #[must_use]
    pub fn key(&self, key: &'v str) -> Self {
        self.to(self.value.get(key).unwrap_or(&NULL), Step::Key(Cow::Borrowed(key)))
    }

    /// The place of element `index`.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.to(self.value.get(index).unwrap_or(&NULL), Step::Index(index))
    }

    #[must_use]
    pub fn value(&self) -> &'v Value {
        self.value
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        !self.value.is_null()
    }

    /// Missing, or an empty string, list or map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        }
    }

    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.value.get(field).is_some_and(|value| !value.is_null())
    }

    /// The string, or empty.
    #[must_use]
    pub fn str(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    /// The string of a field, or empty.
    #[must_use]
    pub fn text(&self, field: &str) -> &'v str {
        self.value.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// The integer, or 0.
    #[must_use]
    pub fn int(&self) -> i64 {
        self.value.as_i64().unwrap_or_default()
    }

    #[must_use]
    pub fn opt_int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    #[must_use]
    pub fn number(&self, field: &str) -> i64 {
        self.value.get(field).and_then(Value::as_i64).unwrap_or_default()
    }

    #[must_use]
    pub fn bool(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    #[must_use]
    pub fn flag(&self, field: &str) -> bool {
        self.value.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            Value::String(text) => text.len(),
            _ => 0,
        }
    }

    /// The elements of a list.
    #[must_use]
    pub fn items(&self) -> Vec<Self> {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(|(index, item)| self.to(item, Step::Index(index))).collect()
    }

    /// The entries of a map, each at `path[key]`.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'v str, Self)> {
        let Some(fields) = self.value.as_object() else { return Vec::new() };
        fields
            .iter()
            .map(|(key, value)| (key.as_str(), self.to(value, Step::Key(Cow::Borrowed(key.as_str())))))
            .collect()
    }

    /// The entries of a map sorted by key.
    #[must_use]
    pub fn sorted_entries(&self) -> Vec<(&'v str, Self)> {
        let mut entries = self.entries();
        entries.sort_by_key(|(key, _)| *key);
        entries
    }

    #[must_use]
    pub fn strings(&self) -> Vec<&'v str> {
        self.value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    #[must_use]
    pub fn path(&self) -> FieldPath {
        self.link.path()
    }

    pub fn invalid(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::invalid(&self.path(), self.shown(), detail));
    }

    pub fn invalid_as(&self, errors: &mut Errors, shown: impl Into<Value>, detail: impl Into<String>) {
        errors.push(FieldError::invalid(&self.path(), shown, detail));
    }

    pub fn invalid_unshown(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::invalid_unshown(&self.path(), detail));
    }

    /// One finding for each text.
    pub fn invalid_all(&self, errors: &mut Errors, details: Vec<String>) {
        for detail in details {
            self.invalid(errors, detail);
        }
    }

    pub fn required(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::required(&self.path(), detail));
    }

    pub fn forbidden(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::forbidden(&self.path(), detail));
    }

    pub fn unsupported(&self, errors: &mut Errors, supported: &[&str]) {
        errors.push(FieldError::not_supported(&self.path(), self.shown(), supported));
    }

    pub fn duplicate(&self, errors: &mut Errors) {
        errors.push(FieldError::duplicate(&self.path(), self.shown()));
    }

    pub fn duplicate_as(&self, errors: &mut Errors, shown: impl Into<Value>) {
        errors.push(FieldError::duplicate(&self.path(), shown));
    }

    pub fn not_found(&self, errors: &mut Errors) {
        errors.push(FieldError::not_found(&self.path(), self.shown()));
    }

    pub fn too_long(&self, errors: &mut Errors, max: usize) {
        errors.push(FieldError::too_long(&self.path(), max));
    }

    pub fn too_many(&self, errors: &mut Errors, max: usize) {
        errors.push(FieldError::too_many(&self.path(), self.len(), max));
    }

    /// `Unsupported value` unless the string is one of `supported`; a missing one is as bad as an empty one.
    pub fn one_of(&self, errors: &mut Errors, supported: &[&str]) {
        if !supported.contains(&self.str()) {
            self.unsupported(errors, supported);
        }
    }

    /// As [`Self::one_of`], for fields that may be left out.
    pub fn one_of_if_set(&self, errors: &mut Errors, supported: &[&str]) {
        if self.exists() {
            self.one_of(errors, supported);
        }
    }

    /// `Required value` for an empty one, else as [`Self::one_of`].
    pub fn required_one_of(&self, errors: &mut Errors, supported: &[&str]) {
        if self.is_empty() {
            self.required(errors, "");
        } else {
            self.one_of(errors, supported);
        }
    }

    pub fn non_negative(&self, errors: &mut Errors) {
        if self.int() < 0 {
            self.invalid(errors, NON_NEGATIVE);
        }
    }

    pub fn positive(&self, errors: &mut Errors) {
        if self.int() <= 0 {
            self.invalid_as(errors, self.int(), "must be greater than zero");
        }
    }

    /// `field is immutable` unless `old` means the same.
    pub fn immutable(&self, errors: &mut Errors, old: &Self) {
        if !crate::same::same(self.value, old.value) {
            self.invalid(errors, IMMUTABLE);
        }
    }

    fn shown(&self) -> Value {
        if self.value.is_null() { Value::from("") } else { self.value.clone() }
    }
}

pub const NON_NEGATIVE: &str = "must be greater than or equal to 0";
pub const IMMUTABLE: &str = "field is immutable";

impl Link<'_> {
    fn path(&self) -> FieldPath {
        let above = self.parent.as_ref().map(|parent| parent.path()).unwrap_or_default();
        match &self.step {
            Step::Root(path) => path.clone(),
            Step::Field(name) => above.child(name),
            Step::Index(index) => above.index(*index),
            Step::Key(key) => above.key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_carry_the_path() {
        let pod = serde_json::json!({"spec": {"containers": [{"image": ""}], "nodeSelector": {"a": "b"}}});
        let mut errors = Errors::new();
        let spec = At::root(&pod).get("spec");
        spec.get("containers").items()[0].get("image").required(&mut errors, "");
        spec.get("nodeSelector").entries()[0].1.invalid(&mut errors, "bad");
        spec.get("restartPolicy").one_of(&mut errors, &["Never", "Always"]);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.containers[0].image: Required value",
                r#"spec.nodeSelector[a]: Invalid value: "b": bad"#,
                r#"spec.restartPolicy: Unsupported value: "": supported values: "Always", "Never""#,
            ]
        );
    }
}
