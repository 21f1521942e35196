//! What the administrator says about identity, rights and audit: upstream's configuration files, read and checked.
//!
//! Nothing here opens a file: texts come in, and where a configuration names a kubeconfig the caller is asked for it.

mod audit_policy;
mod authentication;
mod authorization;
mod expression;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use audit_policy::AuditPolicy;
pub(crate) use audit_policy::{Level, Stage};
pub(crate) use authentication::{Anonymous, Claim, Issuer, Mapping};
pub use authentication::{Authentication, OidcFlags};
pub use authorization::{Authorization, WebhookTimes};
pub(crate) use authorization::{Mode, OnFailure, WebhookMode};
pub(crate) use expression::Expression;

use coracle_api_meta::FieldError;

/// What is wrong with a configuration: one error, which names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AccessError(String);

impl AccessError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<FieldError> for AccessError {
    fn from(error: FieldError) -> Self {
        Self(error.to_string())
    }
}

/// The head of every configuration file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

/// Reads YAML or JSON of a kind. Unknown and duplicate fields are errors.
fn read<T: DeserializeOwned>(text: &str, kind: &str, versions: &[&str]) -> Result<T, AccessError> {
    let failed = |error: serde_saphyr::Error| {
        // The rest shows lines of the file.
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        AccessError::new(format!("read {kind}: {}", first.trim_start_matches("error: ")))
    };
    if text.trim().is_empty() {
        return Err(AccessError::new(format!("read {kind}: the file is empty")));
    }
    let head: Head = serde_saphyr::from_str(text).map_err(failed)?;
    if head.kind != kind || !versions.contains(&head.api_version.as_str()) {
        return Err(AccessError::new(format!(
            "read {kind}: apiVersion must be one of {versions:?} and kind {kind:?}, not {:?} and {:?}",
            head.api_version, head.kind
        )));
    }
    serde_saphyr::from_str(text).map_err(failed)
}
