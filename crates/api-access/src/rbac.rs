//! RBAC: which rules a user has through bindings. Source: `plugin/pkg/auth/authorizer/rbac`.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{UserInfo, Value};

use crate::{Attributes, PolicyRule, rules_of};

type Rules = Arc<Vec<PolicyRule>>;

/// The objects that an index is made of.
#[derive(Debug, Default)]
pub struct RbacObjects {
    pub cluster_roles: Vec<Value>,
    pub cluster_role_bindings: Vec<Value>,
    pub roles: Vec<Value>,
    pub role_bindings: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Debug, Clone)]
struct Grant {
    /// `ClusterRoleBinding "x" of ClusterRole "y" to User "z"`, for audit and reviews.
    origin: String,
    /// Otherwise the words for the role that does not exist.
    rules: Result<Rules, String>,
}

impl Grant {
    fn to(&self, subject: &str) -> Self {
        Self { origin: format!("{} to {subject}", self.origin), rules: self.rules.clone() }
    }
}

/// Roles and bindings, indexed by subject.
#[derive(Debug, Default)]
pub struct Rbac {
    cluster: HashMap<Subject, Vec<Grant>>,
    namespaced: HashMap<String, HashMap<Subject, Vec<Grant>>>,
    cluster_roles: HashMap<String, Rules>,
    roles: HashMap<(String, String), Rules>,
}

impl Rbac {
    #[must_use]
    pub fn new(objects: &RbacObjects) -> Self {
        let mut rbac = Self::default();
        for role in &objects.cluster_roles {
            rbac.cluster_roles.insert(role.name().to_owned(), Arc::new(rules_of(role)));
        }
        for role in &objects.roles {
            let key = (role.namespace().to_owned(), role.name().to_owned());
            rbac.roles.insert(key, Arc::new(rules_of(role)));
        }
        for binding in &objects.cluster_role_bindings {
            let grant = rbac.grant(binding, "ClusterRoleBinding");
            for (subject, words) in subjects(binding, "") {
                rbac.cluster.entry(subject).or_default().push(grant.to(&words));
            }
        }
        for binding in &objects.role_bindings {
            let grant = rbac.grant(binding, "RoleBinding");
            let in_namespace = rbac.namespaced.entry(binding.namespace().to_owned()).or_default();
            for (subject, words) in subjects(binding, binding.namespace()) {
                in_namespace.entry(subject).or_default().push(grant.to(&words));
            }
        }
        rbac
    }

    fn grant(&self, binding: &Value, kind: &str) -> Grant {
        let (role_kind, role) = (binding.str_at(&["roleRef", "kind"]), binding.str_at(&["roleRef", "name"]));
        let rules = self.role_rules(role_kind, binding.namespace(), role);
        let missing = || format!("{}.rbac.authorization.k8s.io {role:?} not found", role_kind.to_ascii_lowercase());
        let name = if binding.namespace().is_empty() {
            binding.name().to_owned()
        } else {
            format!("{}/{}", binding.name(), binding.namespace())
        };
        Grant { origin: format!("{kind} {name:?} of {role_kind} {role:?}"), rules: rules.ok_or_else(missing) }
    }

    /// The rules of a role by reference; `None` when there is no such role.
    #[must_use]
    pub fn role_rules(&self, kind: &str, namespace: &str, name: &str) -> Option<Rules> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name).cloned(),
            "Role" => self.roles.get(&(namespace.to_owned(), name.to_owned())).cloned(),
            _ => None,
        }
    }

    fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Grant> {
        let mut subjects = vec![Subject::User(user.username.clone())];
        subjects.extend(user.groups.iter().cloned().map(Subject::Group));
        let local = if namespace.is_empty() { None } else { self.namespaced.get(namespace) };
        subjects.into_iter().flat_map(move |subject| {
            let cluster = self.cluster.get(&subject).into_iter().flatten();
            cluster.chain(local.and_then(|local| local.get(&subject)).into_iter().flatten())
        })
    }

    /// Why the request is allowed, or `None`.
    #[must_use]
    pub fn allows(&self, attributes: &Attributes<'_>) -> Option<String> {
        self.decide(attributes).ok()
    }

    /// Why the request is allowed; otherwise what else is to be said, such as that a bound role does not exist.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Result<String, String> {
        let mut missing: Vec<&str> = Vec::new();
        for grant in self.grants(attributes.user, attributes.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Ok(format!("RBAC: allowed by {}", grant.origin));
                }
                Ok(_) => {}
                Err(why) if missing.contains(&why.as_str()) => {}
                Err(why) => missing.push(why),
            }
        }
        Err(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            all => format!("RBAC: [{}]", all.join(", ")),
        })
    }

    /// All rules a user has in a namespace (empty: cluster scope).
    #[must_use]
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        let rules = self.grants(user, namespace).filter_map(|grant| grant.rules.as_ref().ok());
        rules.flat_map(|rules| rules.iter().cloned()).collect()
    }

    /// Bound roles of a user that do not exist, in words.
    #[must_use]
    pub fn missing_for(&self, user: &UserInfo, namespace: &str) -> Vec<String> {
        self.grants(user, namespace).filter_map(|grant| grant.rules.as_ref().err().cloned()).collect()
    }
}

/// The subjects of a binding, with the words for each.
fn subjects(binding: &Value, default_namespace: &str) -> Vec<(Subject, String)> {
    let list = binding.get("subjects").and_then(Value::as_array);
    let read = |subject: &Value| {
        let name = subject.str_at(&["name"]).to_owned();
        match subject.str_at(&["kind"]) {
            "User" => Some((Subject::User(name.clone()), format!("User {name:?}"))),
            "Group" => Some((Subject::Group(name.clone()), format!("Group {name:?}"))),
            "ServiceAccount" => {
                let own = subject.str_at(&["namespace"]);
                let namespace = if own.is_empty() { default_namespace } else { own };
                let words = format!("ServiceAccount {:?}", format!("{name}/{namespace}"));
                Some((Subject::User(format!("system:serviceaccount:{namespace}:{name}")), words))
            }
            _ => None,
        }
    };
    list.into_iter().flatten().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covers;
    use serde_json::json;

    fn rbac() -> Rbac {
        Rbac::new(&RbacObjects {
            cluster_roles: vec![json!({"metadata": {"name": "view"}, "rules": [
                    {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
                    {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]},
                    {"verbs": ["update"], "apiGroups": [""], "resources": ["*/scale"], "resourceNames": ["a"]}]})],
            cluster_role_bindings: vec![
                json!({"metadata": {"name": "g"},
                "subjects": [{"kind": "User", "name": "late"}], "roleRef": {"kind": "ClusterRole", "name": "gone"}}),
                json!({"metadata": {"name": "b"},
                "subjects": [{"kind": "Group", "name": "viewers"}], "roleRef": {"kind": "ClusterRole", "name": "view"}}),
            ],
            role_bindings: vec![json!({"metadata": {"name": "b", "namespace": "n"},
                "subjects": [{"kind": "ServiceAccount", "name": "sa"}], "roleRef": {"kind": "ClusterRole", "name": "view"}})],
            ..RbacObjects::default()
        })
    }

    #[test]
    fn bindings_grant() {
        let rbac = rbac();
        let viewer = UserInfo::authenticated("v", &["viewers"]);
        let account = UserInfo::service_account("n", "sa", "");
        let ask = |user: &UserInfo, verb: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
            let attributes =
                Attributes { subresource, namespace, name, ..Attributes::resource(user, verb, "", resource) };
            rbac.allows(&attributes).is_some()
        };
        assert!(ask(&viewer, "get", "pods", "", "x", "p") && ask(&viewer, "list", "pods", "log", "", ""));
        assert!(ask(&account, "get", "pods", "", "n", "p") && !ask(&account, "get", "pods", "", "x", "p"));
        assert!(!ask(&viewer, "get", "pods", "exec", "x", "p") && !ask(&viewer, "delete", "pods", "", "x", "p"));
        assert!(
            ask(&viewer, "update", "things", "scale", "", "a") && !ask(&viewer, "update", "things", "scale", "", "b")
        );
        let path = |path| Attributes { path: Some(path), ..Attributes::resource(&viewer, "get", "", "") };
        assert!(rbac.allows(&path("/api/v1")).is_some() && rbac.allows(&path("/metrics")).is_none());
        let late = UserInfo::authenticated("late", &[]);
        let asked = Attributes::resource(&late, "get", "", "pods");
        assert_eq!(
            rbac.decide(&asked),
            Err(r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#.to_owned())
        );
    }

    #[test]
    fn escalation_is_seen() {
        let viewer = UserInfo::authenticated("v", &["viewers"]);
        let owned = rbac().rules_for(&viewer, "");
        let asked = |value: Value| [PolicyRule::from_value(&value)];
        let good = asked(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]}));
        assert!(covers(&owned, &good).is_empty());
        let bad = asked(json!({"verbs": ["get", "delete"], "apiGroups": ["", "apps"], "resources": ["pods"]}));
        assert_eq!(covers(&owned, &bad).len(), 3);
    }
}
