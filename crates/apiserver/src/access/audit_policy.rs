//! Which requests are written down, and how much of them. Source: `audit.k8s.io/v1 Policy`, `k8s.io/apiserver/pkg/audit/policy`.

use coracle_api_access::Attributes;
use coracle_api_meta::{FieldError, FieldPath, names};
use serde::Deserialize;

use super::{AccessError, read};

/// What is written down when the administrator says nothing: who did what, without what the requests and answers hold,
/// and without the reads of the cluster's own components.
const DEFAULT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  resources:
  - {group: coordination.k8s.io, resources: [leases]}
  - {group: "", resources: [events]}
  - {group: events.k8s.io, resources: [events]}
- level: None
  users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"]
  verbs: [get, list, watch]
- level: None
  userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  verbs: [get, list, watch]
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/metrics", "/openapi/*", "/api", "/apis", "/api/*", "/apis/*"]
- level: Metadata
"#;

const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];
const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        LEVELS[self as usize]
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Metadata, Self::Request, Self::RequestResponse]
            .into_iter()
            .find(|level| level.name() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        STAGES[self as usize]
    }
}

/// A checked policy.
#[derive(Debug, Clone)]
pub struct AuditPolicy(Policy);

/// What a policy says of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Verdict<'a> {
    pub level: Level,
    omit_stages: &'a [String],
    pub omit_managed_fields: bool,
}

impl Verdict<'_> {
    pub(crate) fn omits(&self, stage: Stage) -> bool {
        self.omit_stages.iter().any(|omitted| omitted == stage.name())
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Policy {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata", default)]
    _metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Rule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl Default for AuditPolicy {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("a test reads it")
    }
}

impl AuditPolicy {
    /// Reads a policy file.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let mut policy: Policy = read(text, "Policy", &["audit.k8s.io/v1"])?;
        check_stages(&policy.omit_stages, &FieldPath::new("omitStages"))?;
        for (at, rule) in policy.rules.iter().enumerate() {
            rule.check(&FieldPath::new("rules").index(at))?;
        }
        if policy.rules.is_empty() {
            return Err(AccessError::new("rules: loaded illegal policy with 0 rules"));
        }
        for rule in &mut policy.rules {
            rule.omit_stages.extend(policy.omit_stages.iter().cloned());
        }
        Ok(Self(policy))
    }

    /// The first rule that matches decides. `attributes` of nobody where authentication failed.
    pub(crate) fn evaluate(&self, attributes: &Attributes<'_>) -> Verdict<'_> {
        let policy = &self.0;
        match policy.rules.iter().find(|rule| rule.matches(attributes)) {
            Some(rule) => Verdict {
                level: Level::parse(&rule.level).unwrap_or_default(),
                omit_stages: &rule.omit_stages,
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(policy.omit_managed_fields),
            },
            None => Verdict {
                level: Level::None,
                omit_stages: &policy.omit_stages,
                omit_managed_fields: policy.omit_managed_fields,
            },
        }
    }
}

fn check_stages(stages: &[String], path: &FieldPath) -> Result<(), FieldError> {
    let bad = stages.iter().enumerate().find(|(_, stage)| !STAGES.contains(&stage.as_str()));
    bad.map_or(Ok(()), |(at, stage)| {
        let why = format!("allowed stages are {}", STAGES.join(","));
        Err(FieldError::invalid(&path.index(at), stage.as_str(), why))
    })
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}

impl Rule {
    fn check(&self, path: &FieldPath) -> Result<(), FieldError> {
        let level = path.child("level");
        if self.level.is_empty() {
            return Err(FieldError::required(&level, ""));
        }
        if Level::parse(&self.level).is_none() {
            return Err(FieldError::not_supported(&level, self.level.as_str(), &LEVELS));
        }
        let urls = path.child("nonResourceURLs");
        for (at, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            if !url.starts_with('/') {
                let why = "non-resource URL rules must begin with a '/' character";
                return Err(FieldError::invalid(&urls.index(at), url.as_str(), why));
            }
            if url.find('*').is_some_and(|star| star + 1 != url.len()) {
                let why = "non-resource URL wildcards '*' must be the final character of the rule";
                return Err(FieldError::invalid(&urls.index(at), url.as_str(), why));
            }
        }
        let resources = path.child("resources");
        for entry in &self.resources {
            if !entry.group.is_empty() && entry.group != "*" {
                let bad = names::is_dns1123_subdomain(&entry.group);
                if !bad.is_empty() {
                    return Err(FieldError::invalid(&resources.child("group"), entry.group.as_str(), bad.join(",")));
                }
            }
            if !entry.resource_names.is_empty() && entry.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                return Err(FieldError::invalid(
                    &resources.child("resourceNames"),
                    entry.resource_names.as_slice(),
                    why,
                ));
            }
        }
        check_stages(&self.omit_stages, &path.child("omitStages"))?;
        let resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        let both = resources && !self.non_resource_urls.is_empty();
        if both {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            return Err(FieldError::invalid(&urls, self.non_resource_urls.as_slice(), why));
        }
        Ok(())
    }

    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        let user = attributes.user;
        if !self.users.is_empty() && !has(&self.users, &user.username) {
            return false;
        }
        if !self.user_groups.is_empty() && !user.groups.iter().any(|group| has(&self.user_groups, group)) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, attributes.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return attributes.path.is_none() && self.matches_resource(attributes);
        }
        if !self.non_resource_urls.is_empty() {
            return attributes.path.is_some_and(|path| self.non_resource_urls.iter().any(|url| url_matches(url, path)));
        }
        true
    }

    fn matches_resource(&self, attributes: &Attributes<'_>) -> bool {
        if !self.namespaces.is_empty() && !has(&self.namespaces, attributes.namespace) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|entry| entry.matches(attributes))
    }
}

impl GroupResources {
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        if self.group != "*" && self.group != attributes.group {
            return false;
        }
        let named = self.resource_names.is_empty() || has(&self.resource_names, attributes.name);
        let (resource, subresource) = (attributes.resource, attributes.subresource);
        self.resources.is_empty()
            || (named
                && self.resources.iter().any(|own| match own.split_once('/') {
                    None => own == "*" || (subresource.is_empty() && own == resource),
                    Some(("*", sub)) => sub == subresource && !sub.is_empty(),
                    Some((own, "*")) => own == resource,
                    Some((own, sub)) => own == resource && sub == subresource,
                }))
    }
}

fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use coracle_api_meta::UserInfo;

    use super::*;

    fn head(body: &str) -> String {
        format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{body}")
    }

    #[test]
    fn the_first_rule_decides() {
        let policy = AuditPolicy::parse(&head(
            r#"
omitManagedFields: true
rules:
- {level: None, nonResourceURLs: ["/healthz*"]}
- {level: Request, users: [jane], resources: [{group: "", resources: [pods, "*/log"]}], omitManagedFields: false}
- {level: Metadata, resources: [{group: "", resources: [secrets], resourceNames: [one]}], omitStages: [RequestReceived]}
- {level: RequestResponse, userGroups: [ops], verbs: [delete], namespaces: [prod]}
"#,
        ));
        let policy = policy.expect("a policy");
        let (jane, ops) = (UserInfo::authenticated("jane", &[]), UserInfo::authenticated("o", &["ops"]));
        let ask = |user, verb, resource, subresource, namespace, name| {
            let base = Attributes::resource(user, verb, "", resource);
            policy.evaluate(&Attributes { subresource, namespace, name, ..base }).level.name()
        };
        assert_eq!(ask(&jane, "get", "pods", "", "", ""), "Request");
        assert_eq!(ask(&jane, "get", "pods", "log", "", ""), "Request");
        assert_eq!(ask(&jane, "get", "pods", "exec", "", ""), "None");
        assert_eq!(ask(&ops, "get", "secrets", "", "", "one"), "Metadata");
        assert_eq!(ask(&ops, "get", "secrets", "", "", "two"), "None");
        assert_eq!(ask(&ops, "delete", "secrets", "", "prod", "two"), "RequestResponse");
        let verdict = policy.evaluate(&Attributes::resource(&jane, "get", "", "pods"));
        assert!(!verdict.omit_managed_fields && !verdict.omits(Stage::RequestReceived));
    }

    #[test]
    fn the_default_never_holds_contents() {
        let policy = AuditPolicy::default();
        let user = UserInfo::authenticated("jane", &[]);
        let verdict = policy.evaluate(&Attributes::resource(&user, "create", "", "secrets"));
        assert!(verdict.level == Level::Metadata && verdict.omits(Stage::RequestReceived));
        assert!(policy.0.rules.iter().all(|rule| Level::parse(&rule.level).expect("a level") <= Level::Metadata));
    }

    #[test]
    fn errors_name_the_field() {
        let check = |body: &str, wanted: &str| {
            assert_eq!(AuditPolicy::parse(&head(body)).expect_err("an error").to_string(), wanted);
        };
        check(
            "rules: [{level: All}]",
            r#"rules[0].level: Unsupported value: "All": supported values: "Metadata", "None", "Request", "RequestResponse""#,
        );
        check(
            "rules: [{level: None, nonResourceURLs: [healthz]}]",
            r#"rules[0].nonResourceURLs[0]: Invalid value: "healthz": non-resource URL rules must begin with a '/' character"#,
        );
        check(
            "rules: [{level: None, omitStages: [Never]}]",
            r#"rules[0].omitStages[0]: Invalid value: "Never": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"#,
        );
        check("rules: []", "rules: loaded illegal policy with 0 rules");
    }
}
