//! Which schema and which flow a request belongs to.

use std::sync::Arc;

use coracle_api_meta::UserInfo;

use crate::config::{CATCH_ALL, Config, Distinguisher, PathRule, ResourceRule, Rule, Schema, Subject};

/// What schemas look at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub user: &'a UserInfo,
    pub verb: &'a str,
    /// False for paths such as `/healthz`.
    pub is_resource: bool,
    pub path: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
}

/// Where a request belongs.
#[derive(Debug, Clone)]
pub struct Classified {
    pub schema: Arc<Schema>,
    /// Of the schema and the flow in it.
    pub hash: u64,
}

impl Config {
    #[must_use]
    pub fn classify(&self, request: &Request<'_>) -> Option<Classified> {
        let matching = self.schemas.iter().find(|schema| schema.rules.iter().any(|rule| rule_holds(rule, request)));
        let schema = matching.or_else(|| self.schemas.iter().find(|schema| &*schema.name == CATCH_ALL))?;
        let flow = match schema.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => request.user.username.as_str(),
            Distinguisher::Namespace => request.namespace,
        };
        Some(Classified { schema: Arc::clone(schema), hash: hash(&schema.name, flow) })
    }
}

fn rule_holds(rule: &Rule, request: &Request<'_>) -> bool {
    rule.subjects.iter().any(|subject| subject_holds(subject, request.user))
        && if request.is_resource {
            rule.resources.iter().any(|rule| resource_holds(rule, request))
        } else {
            rule.paths.iter().any(|rule| path_holds(rule, request))
        }
}

fn subject_holds(subject: &Subject, user: &UserInfo) -> bool {
    match subject {
        Subject::User(name) => name == "*" || *name == user.username,
        Subject::Group(name) => name == "*" || user.in_group(name),
        Subject::Account(namespace, name) => {
            let rest = user.username.strip_prefix("system:serviceaccount:");
            let own = rest.and_then(|rest| rest.strip_prefix(namespace.as_str())?.strip_prefix(':'));
            own.is_some_and(|own| name == "*" || own == name)
        }
    }
}

fn resource_holds(rule: &ResourceRule, request: &Request<'_>) -> bool {
    let scope = if request.namespace.is_empty() { rule.cluster_scope } else { rule.namespaces.hold(request.namespace) };
    scope
        && rule.verbs.hold(request.verb)
        && rule.groups.hold(request.group)
        && rule.resources.hold_resource(request.resource, request.subresource)
}

fn path_holds(rule: &PathRule, request: &Request<'_>) -> bool {
    let below = |path: &str| {
        let start = path.strip_suffix('*').unwrap_or(path);
        let start = start.strip_suffix('/').unwrap_or(start);
        request.path == path || request.path.strip_prefix(start).is_some_and(|rest| rest.starts_with('/'))
    };
    rule.verbs.hold(request.verb) && (rule.paths.hold(request.path) || rule.paths.iter().any(below))
}

/// FNV-1a with a finish that spreads it over all bits: hands are dealt from the whole of it.
fn hash(schema: &str, flow: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in schema.bytes().chain([0]).chain(flow.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Config {
        let levels = [json!({"metadata": {"name": "some"}, "spec": {"type": "Limited", "limited": {}}})];
        let schema = |name: &str, precedence: i64, subjects, rules: serde_json::Value| {
            json!({"metadata": {"name": name}, "spec": {"priorityLevelConfiguration": {"name": "some"},
                "matchingPrecedence": precedence, "distinguisherMethod": {"type": "ByUser"},
                "rules": [{"subjects": [subjects], "resourceRules": rules["resources"], "nonResourceRules": rules["paths"]}]}})
        };
        let account = json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}});
        let user = json!({"kind": "User", "user": {"name": "alice"}});
        let any = json!({"resources": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]});
        let scale = json!({"resources": [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments/scale"],
            "namespaces": ["a"], "clusterScope": true}], "paths": [{"verbs": ["get"], "nonResourceURLs": ["/metrics/*"]}]});
        Config::read(&[schema("system", 900, account, any), schema("narrow", 100, user, scale)], &levels)
    }

    fn check(user: &str, request: &str, wanted: &str) {
        let user = UserInfo::authenticated(user, &[]);
        let parts: Vec<&str> = request.split(' ').collect();
        let (is_resource, path) = (parts[1] != "path", if parts[1] == "path" { parts[2] } else { "" });
        let part = |index: usize| parts.get(index).copied().filter(|_| is_resource).unwrap_or_default();
        let request = Request {
            user: &user,
            verb: parts[0],
            is_resource,
            path,
            group: part(1),
            resource: part(2),
            subresource: part(3),
            namespace: part(4),
        };
        let found = config().classify(&request).expect("a schema");
        assert_eq!(&*found.schema.name, wanted, "{request:?}");
    }

    #[test]
    fn the_first_schema_that_matches_is_taken() {
        check("system:serviceaccount:kube-system:x", "list apps deployments  a", "system");
        check("system:serviceaccount:kube-system:x", "list  nodes  ", "catch-all");
        check("system:serviceaccount:kube-system-2:x", "list apps deployments  a", "catch-all");
        check("alice", "get apps deployments scale a", "narrow");
        check("alice", "get apps deployments scale ", "narrow");
        check("alice", "get apps deployments scale b", "catch-all");
        check("alice", "get apps deployments  a", "catch-all");
        check("alice", "get path /metrics/x", "narrow");
        check("alice", "get path /metricsx", "catch-all");
        check("bob", "get path /metrics/x", "catch-all");
    }

    #[test]
    fn flows_of_one_schema_differ() {
        assert_ne!(hash("a", "alice"), hash("a", "bob"));
        assert_ne!(hash("a", "b"), hash("ab", ""));
    }
}
