//! Errors about one field of an object, worded as upstream words them (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt;

use crate::{Cause, Value};

/// Path of a field: `spec.containers[0].image`, `metadata.labels[app]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(String);

impl FieldPath {
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field; the wire names are in [`FieldErrorKind::reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    /// As `Invalid`, where the value would say nothing.
    InvalidUnshown,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// `CauseType` of the wire.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid | Self::InvalidUnshown => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::InvalidUnshown | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Self::InvalidUnshown | Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

/// One finding of validation.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    pub path: FieldPath,
    pub kind: FieldErrorKind,
    pub value: Value,
    pub detail: String,
}

impl FieldError {
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::with(FieldErrorKind::Invalid, path, value.into(), detail.into())
    }

    /// An error whose value is not shown.
    pub fn invalid_unshown(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::with(FieldErrorKind::InvalidUnshown, path, Value::Null, detail.into())
    }

    pub fn type_invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::with(FieldErrorKind::TypeInvalid, path, value.into(), detail.into())
    }

    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::with(FieldErrorKind::Required, path, Value::from(""), detail.into())
    }

    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::with(FieldErrorKind::Duplicate, path, value.into(), String::new())
    }

    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::with(FieldErrorKind::Forbidden, path, Value::from(""), detail.into())
    }

    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::with(FieldErrorKind::NotFound, path, value.into(), String::new())
    }

    /// `supported` is shown sorted, as upstream sorts it.
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        names.sort();
        let detail = if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self::with(FieldErrorKind::NotSupported, path, value.into(), detail)
    }

    pub fn too_long(path: &FieldPath, max: usize) -> Self {
        let detail = format!("may not be more than {max} {}", if max == 1 { "byte" } else { "bytes" });
        Self::with(FieldErrorKind::TooLong, path, Value::from(""), detail)
    }

    pub fn too_many(path: &FieldPath, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} {}", if max == 1 { "item" } else { "items" });
        Self::with(FieldErrorKind::TooMany, path, Value::from(actual), detail)
    }

    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::with(FieldErrorKind::Internal, path, Value::Null, detail.into())
    }

    fn with(kind: FieldErrorKind, path: &FieldPath, value: Value, detail: String) -> Self {
        Self { path: path.clone(), kind, value, detail }
    }

    /// The text without the path: `Invalid value: "x": must be ...`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if self.kind.shows_value() {
            text.push_str(": ");
            text.push_str(&shown(&self.value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause { reason: self.kind.reason().to_owned(), message: self.body(), field: self.path.as_str().to_owned() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Strings in quotes, all else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worded_as_upstream() {
        let path = FieldPath::new("spec").child("containers").index(0).child("image");
        assert_eq!(FieldError::required(&path, "").to_string(), "spec.containers[0].image: Required value");
        assert_eq!(
            FieldError::not_supported(&path, "x", &["B", "A"]).to_string(),
            r#"spec.containers[0].image: Unsupported value: "x": supported values: "A", "B""#
        );
        assert_eq!(
            FieldError::invalid(&path, -1, "must be greater than or equal to 0").to_string(),
            "spec.containers[0].image: Invalid value: -1: must be greater than or equal to 0"
        );
        assert_eq!(
            FieldError::too_many(&path, 3, 1).to_string(),
            "spec.containers[0].image: Too many: 3: must have at most 1 item"
        );
    }
}
