//! Errors of the API as `metav1.Status`, with upstream's codes, reasons and wording (`k8s.io/apimachinery/pkg/api/errors`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{FieldError, Gvk, Gvr};

/// Values of `Status.reason`.
pub mod reason {
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const FORBIDDEN: &str = "Forbidden";
    pub const NOT_FOUND: &str = "NotFound";
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    pub const CONFLICT: &str = "Conflict";
    pub const GONE: &str = "Gone";
    pub const INVALID: &str = "Invalid";
    pub const SERVER_TIMEOUT: &str = "ServerTimeout";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    pub const BAD_REQUEST: &str = "BadRequest";
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "UnsupportedMediaType";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const EXPIRED: &str = "Expired";
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
}

/// A failed (or, for deletions, successful) request. Serialises as the wire object, with `apiVersion: v1, kind: Status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub kind: StatusKind,
    pub api_version: StatusApiVersion,
    pub metadata: StatusListMeta,
    /// `Failure` or `Success`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    pub code: u16,
}

/// Always `Status` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusKind(String);
impl Default for StatusKind {
    fn default() -> Self {
        Self("Status".to_owned())
    }
}

/// Always `v1` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusApiVersion(String);
impl Default for StatusApiVersion {
    fn default() -> Self {
        Self("v1".to_owned())
    }
}

/// List metadata of a Status; only `continue` is ever set (with `Expired` lists).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusListMeta {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The kind for invalid objects, the resource elsewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(seconds: &i32) -> bool {
    *seconds == 0
}

impl Status {
    /// A failure with no details.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: "Failure".to_owned(),
            code,
            reason: reason.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }

    fn about(mut self, gvr: &Gvr, name: &str) -> Self {
        self.details = Some(StatusDetails {
            name: name.to_owned(),
            group: gvr.group.clone(),
            kind: gvr.resource.clone(),
            ..StatusDetails::default()
        });
        self
    }

    #[must_use]
    pub fn not_found(gvr: &Gvr, name: &str) -> Self {
        Self::failure(404, reason::NOT_FOUND, format!("{} {name:?} not found", gvr.group_resource())).about(gvr, name)
    }

    /// The path is not served at all.
    #[must_use]
    pub fn no_such_path() -> Self {
        let mut status = Self::failure(404, reason::NOT_FOUND, "the server could not find the requested resource");
        status.details = Some(StatusDetails::default());
        status
    }

    #[must_use]
    pub fn already_exists(gvr: &Gvr, name: &str) -> Self {
        Self::failure(409, reason::ALREADY_EXISTS, format!("{} {name:?} already exists", gvr.group_resource()))
            .about(gvr, name)
    }

    /// `why` is the part after the colon.
    #[must_use]
    pub fn conflict(gvr: &Gvr, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", gvr.group_resource());
        Self::failure(409, reason::CONFLICT, message).about(gvr, name)
    }

    /// The object changed since the client read it.
    #[must_use]
    pub fn stale(gvr: &Gvr, name: &str) -> Self {
        Self::conflict(
            gvr,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// `errors` must not be empty.
    #[must_use]
    pub fn invalid(gvk: &Gvk, name: &str, errors: &[FieldError]) -> Self {
        let text = match errors {
            [one] => one.to_string(),
            many => format!("[{}]", unique(many.iter().map(ToString::to_string)).join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {text}", gvk.group_kind());
        let mut status = Self::failure(422, reason::INVALID, message);
        status.details = Some(StatusDetails {
            name: name.to_owned(),
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..StatusDetails::default()
        });
        status
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, reason::BAD_REQUEST, message)
    }

    #[must_use]
    pub fn unauthorized() -> Self {
        Self::failure(401, reason::UNAUTHORIZED, "Unauthorized")
    }

    /// `why` is the part after the colon.
    #[must_use]
    pub fn forbidden(gvr: &Gvr, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", gvr.group_resource())
        } else {
            format!("{} {name:?} is forbidden: {why}", gvr.group_resource())
        };
        Self::failure(403, reason::FORBIDDEN, message).about(gvr, name)
    }

    #[must_use]
    pub fn method_not_allowed(gvr: &Gvr, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", gvr.group_resource());
        Self::failure(405, reason::METHOD_NOT_ALLOWED, message).about(gvr, "")
    }

    /// A `resourceVersion` or continue token that history no longer reaches.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, reason::EXPIRED, message)
    }

    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, reason::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(429, reason::TOO_MANY_REQUESTS, message);
        status.details = Some(StatusDetails { retry_after_seconds, ..StatusDetails::default() });
        status
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        let mut status = Self::failure(500, reason::INTERNAL_ERROR, format!("Internal error occurred: {message}"));
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        status.details = Some(StatusDetails { causes: vec![cause], ..StatusDetails::default() });
        status
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, reason::SERVICE_UNAVAILABLE, message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::failure(504, reason::TIMEOUT, message)
    }

    /// What a deletion answers when the object is gone at once.
    #[must_use]
    pub fn deleted(gvr: &Gvr, name: &str, uid: &str) -> Self {
        let mut status = Self { status: "Success".to_owned(), code: 200, ..Self::default() };
        status.details = Some(StatusDetails {
            name: name.to_owned(),
            group: gvr.group.clone(),
            kind: gvr.resource.clone(),
            uid: uid.to_owned(),
            ..StatusDetails::default()
        });
        status
    }

    #[must_use]
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a Status has string keys only")
    }
}

fn unique(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldPath;

    #[test]
    fn invalid_names_kind_object_and_fields() {
        let gvk = Gvk::new("apps", "v1", "Deployment");
        let path = FieldPath::new("spec");
        let one = [FieldError::required(&path, "x")];
        assert_eq!(
            Status::invalid(&gvk, "web", &one).message,
            r#"Deployment.apps "web" is invalid: spec: Required value: x"#
        );
        let two = [FieldError::required(&path, "x"), FieldError::forbidden(&path, "y")];
        assert_eq!(
            Status::invalid(&gvk, "web", &two).message,
            r#"Deployment.apps "web" is invalid: [spec: Required value: x, spec: Forbidden: y]"#
        );
    }

    #[test]
    fn wire_form() {
        let gvr = Gvr::new("", "v1", "pods");
        expect_test::expect![[r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"a\" not found","reason":"NotFound","details":{"name":"a","kind":"pods"},"code":404}"#]]
        .assert_eq(&String::from_utf8(Status::not_found(&gvr, "a").to_vec()).expect("utf-8"));
    }
}
