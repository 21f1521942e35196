//! Webhooks: which are asked about a write, what they are asked, and what their answers mean. The call itself is not here.
//! Source: `k8s.io/apiserver/pkg/admission/plugin/webhook`.

mod matching;
mod review;
#[cfg(test)]
mod tests;

pub use matching::{Matched, matches};
pub use review::{Answer, Asked, denied, no_dry_run, read, review};

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::list;

/// Source: `SetDefaults_ValidatingWebhook`.
const TIMEOUT_SECONDS: u64 = 10;
const TIMEOUT_SECONDS_MAX: u64 = 30;

/// One webhook of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Hook<'a>(&'a Value);

/// The webhooks of a configuration, in their order.
pub fn hooks(configuration: &Value) -> impl Iterator<Item = Hook<'_>> {
    list(configuration, &["webhooks"]).map(Hook)
}

impl<'a> Hook<'a> {
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.0.str_at(&["name"])
    }

    #[must_use]
    pub fn client_config(&self) -> &'a Value {
        self.0.get("clientConfig").unwrap_or(&Value::Null)
    }

    /// CEL that has to hold for the hook to be asked.
    #[must_use]
    pub fn match_conditions(&self) -> Option<&'a Value> {
        self.0.get("matchConditions").filter(|conditions| conditions.as_array().is_some_and(|all| !all.is_empty()))
    }

    /// A failed call does not matter.
    #[must_use]
    pub fn ignores_failures(&self) -> bool {
        self.0.str_at(&["failurePolicy"]) == "Ignore"
    }

    #[must_use]
    pub fn timeout_seconds(&self) -> u64 {
        let asked = self.0.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(TIMEOUT_SECONDS);
        asked.clamp(1, TIMEOUT_SECONDS_MAX)
    }

    /// May be asked about writes that are only tried.
    #[must_use]
    pub fn is_free_of_side_effects(&self) -> bool {
        matches!(self.0.str_at(&["sideEffects"]), "None" | "NoneOnDryRun")
    }

    /// Wants to be asked again when others change the object after it.
    #[must_use]
    pub fn is_reinvoked(&self) -> bool {
        self.0.str_at(&["reinvocationPolicy"]) == "IfNeeded"
    }

    /// The version of reviews to send: the first that is known here. Source: `admissionReviewVersions`.
    #[must_use]
    pub fn review_version(&self) -> Option<&'a str> {
        let mut versions = list(self.0, &["admissionReviewVersions"]).filter_map(Value::as_str);
        versions.find(|version| matches!(*version, "v1" | "v1beta1"))
    }
}
