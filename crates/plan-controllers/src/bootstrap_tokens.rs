//! Bootstrap tokens go when they expire. Source: `pkg/controller/bootstrap/tokencleaner.go`.

use coracle_plan_core::time::left;
use coracle_plan_core::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

/// Type of the secrets that hold them.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";

#[must_use]
pub fn plan(secret: &Secret, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if secret.type_.as_deref() != Some(TYPE) || secret.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let Some(text) = secret.data.as_ref().and_then(|data| data.get("expiration")) else { return plan };
    // A time that cannot be read counts as over: such a token is refused anyway.
    let expires = std::str::from_utf8(&text.0).ok().and_then(|text| text.trim().parse::<Timestamp>().ok());
    let span = expires.map(|expires| coracle_plan_core::time::since(now, expires)).unwrap_or_default();
    match left(now, span, now) {
        Some(left) => plan.requeue(left + std::time::Duration::from_millis(10)),
        None => {
            plan.because("delete the token", "it has expired");
            plan.push(Action::delete(secret));
        }
    }
    plan
}
