//! Who may do what, and what becomes of it, decided from values alone: RBAC, escalation, the node authorizer, built-in admission.
//!
//! [`Rbac`] is an index of roles and bindings that answers [`Attributes`]; [`node`] says what a node's identity may reach.
//! [`admission`] runs the built-in plugins over a write. This crate never knows HTTP, storage or time.

pub mod admission;
pub mod node;
mod rbac;
mod rule;

pub use rbac::{Rbac, RbacObjects};
pub use rule::{PolicyRule, covers, rules_of};

use coracle_api_meta::UserInfo;

/// What a request wants to do. Source: `k8s.io/apiserver/pkg/authorization/authorizer.Attributes`.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Of the resource, where known.
    pub version: &'a str,
    /// Set for requests that are about no resource, such as `/healthz`.
    pub path: Option<&'a str>,
    /// What a list, watch or deletion of a collection is limited to.
    pub selectors: Option<&'a Selectors>,
}

/// The selectors of a request, as far as they could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    pub field: Vec<Requirement>,
    pub label: Vec<Requirement>,
}

/// One term of a selector. Source: `metav1.FieldSelectorRequirement`, `metav1.LabelSelectorRequirement`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: &'static str,
    pub values: Vec<String>,
}

impl Selectors {
    /// Whether only objects with this value in a field are meant.
    #[must_use]
    pub fn requires(&self, field: &str, value: &str) -> bool {
        self.field.iter().any(|term| term.operator == "In" && term.key == field && term.values == [value])
    }
}

impl<'a> Attributes<'a> {
    #[must_use]
    pub fn resource(user: &'a UserInfo, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            group,
            resource,
            subresource: "",
            namespace: "",
            name: "",
            version: "",
            path: None,
            selectors: None,
        }
    }

    /// The words after `is forbidden:`. Source: `responsewriters.ForbiddenStatusError`.
    #[must_use]
    pub fn refusal(&self) -> String {
        let user = &self.user.username;
        if let Some(path) = self.path {
            return format!("User {user:?} cannot {} path {path:?}", self.verb);
        }
        let resource = if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!("User {user:?} cannot {} resource {resource:?} in API group {:?} {scope}", self.verb, self.group)
    }
}
