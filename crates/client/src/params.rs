//! Options of calls, as they stand in query strings and bodies.

use std::fmt::Write as _;

use serde::Serialize;

/// Options of list and watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListParams {
    /// `app=web,tier!=back`
    pub label_selector: String,
    /// `spec.nodeName=n1`
    pub field_selector: String,
    /// Objects of one answer; 0: no limit.
    pub limit: u32,
    pub continue_token: String,
    pub resource_version: String,
    /// `Exact` or `NotOlderThan`.
    pub resource_version_match: String,
}

impl ListParams {
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        selector.clone_into(&mut self.label_selector);
        self
    }

    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        selector.clone_into(&mut self.field_selector);
        self
    }

    pub(crate) fn query(&self) -> Query {
        let mut query = Query::default();
        query.add("labelSelector", &self.label_selector);
        query.add("fieldSelector", &self.field_selector);
        if self.limit > 0 {
            query.add("limit", &self.limit.to_string());
        }
        query.add("continue", &self.continue_token);
        query.add("resourceVersion", &self.resource_version);
        query.add("resourceVersionMatch", &self.resource_version_match);
        query
    }
}

/// Options of create and update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteParams {
    pub dry_run: bool,
    pub field_manager: String,
    /// `Strict`, `Warn`, `Ignore` or empty.
    pub field_validation: String,
}

impl WriteParams {
    pub(crate) fn query(&self) -> Query {
        let mut query = Query::default();
        query.add("dryRun", if self.dry_run { "All" } else { "" });
        query.add("fieldManager", &self.field_manager);
        query.add("fieldValidation", &self.field_validation);
        query
    }
}

/// The body of a patch.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    Json(serde_json::Value),
    Merge(serde_json::Value),
    Strategic(serde_json::Value),
    Apply(serde_json::Value),
}

impl Patch {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json-patch+json",
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Apply(_) => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let (Self::Json(value) | Self::Merge(value) | Self::Strategic(value) | Self::Apply(value)) = self;
        serde_json::to_vec(value).expect("JSON values have string keys")
    }
}

/// Options of patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchParams {
    pub write: WriteParams,
    /// Take fields over from other managers; for apply only.
    pub force: bool,
}

impl PatchParams {
    /// Server-side apply as `manager`, taking over what conflicts.
    #[must_use]
    pub fn apply(manager: &str) -> Self {
        let write = WriteParams { field_manager: manager.to_owned(), ..WriteParams::default() };
        Self { write, force: true }
    }

    pub(crate) fn query(&self) -> Query {
        let mut query = self.write.query();
        query.add("force", if self.force { "true" } else { "" });
        query
    }
}

/// Options of delete. Source: `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteParams {
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl DeleteParams {
    /// Only the object with this uid.
    #[must_use]
    pub fn uid(uid: &str) -> Self {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        Self { preconditions, ..Self::default() }
    }

    #[must_use]
    pub fn grace(mut self, seconds: i64) -> Self {
        self.grace_period_seconds = Some(seconds);
        self
    }

    #[must_use]
    pub fn propagation(mut self, policy: &str) -> Self {
        self.propagation_policy = Some(policy.to_owned());
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut value = serde_json::to_value(self).expect("options have string keys");
        if let Some(fields) = value.as_object_mut() {
            fields.insert("kind".to_owned(), "DeleteOptions".into());
            fields.insert("apiVersion".to_owned(), "v1".into());
        }
        value.to_string().into_bytes()
    }
}

/// A query string in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(String);

impl Query {
    /// Adds a pair unless the value is empty.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                write!(self.0, "%{byte:02X}").expect("writing to a String cannot fail");
            }
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
