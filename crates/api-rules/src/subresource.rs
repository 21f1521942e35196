//! Kinds that are sent to a subresource or a review endpoint and never stored.

use coracle_api_meta::{FieldError, ObjectExt, Value};

use crate::at::{At, Errors};

/// `Binding` of a pod to a node.
#[must_use]
pub fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let target = At::root(binding).get("target");
    if !matches!(target.text("kind"), "" | "Node") {
        target.get("kind").unsupported(&mut errors, &["Node", "<empty>"]);
    }
    if target.text("name").is_empty() {
        target.get("name").required(&mut errors, "");
    }
    errors
}

/// `authentication.k8s.io/v1 TokenRequest`: fills the lifetime that is left out.
pub fn default_token_request(request: &mut Value) {
    if let Some(spec) = crate::edit::make(request, "spec") {
        crate::edit::fill(spec, "expirationSeconds", 3600);
    }
}

const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

#[must_use]
pub fn validate_token_request(request: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let seconds = At::root(request).dig("spec.expirationSeconds");
    if seconds.int() < TOKEN_SECONDS_MIN {
        seconds.invalid(&mut errors, "may not specify a duration less than 10 minutes");
    } else if seconds.int() > TOKEN_SECONDS_MAX {
        seconds.invalid(&mut errors, "may not specify a duration larger than 2^32 seconds");
    }
    errors
}

/// `authorization.k8s.io/v1` reviews. `own` marks the kinds that ask about the caller.
#[must_use]
pub fn validate_access_review(review: &Value, own: bool) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let spec = At::root(review).get("spec");
    let (resource, other) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    if resource.exists() && other.exists() {
        other.invalid(&mut errors, "cannot be specified in combination with resourceAttributes");
    }
    if !resource.exists() && !other.exists() {
        resource.invalid_as(
            &mut errors,
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
    }
    if !own && review.str_at(&["spec", "user"]).is_empty() && spec.get("groups").is_empty() {
        spec.get("user").invalid(&mut errors, "at least one of user or group must be specified");
    }
    errors
}
