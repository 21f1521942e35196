//! Who is asked whether a request is allowed, in order. Source: `apiserver.config.k8s.io/v1 AuthorizationConfiguration`.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use coracle_api_meta::{FieldError, FieldPath, names};
use coracle_client::ClientConfig;
use serde::Deserialize;

use super::expression::Gives;
use super::{AccessError, Expression, read};

const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const TYPES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const CONDITIONS_MAX: usize = 64;
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Checked authorizers, in the order in which they are asked.
#[derive(Clone)]
pub struct Authorization {
    pub(crate) modes: Vec<Mode>,
}

#[derive(Clone)]
pub(crate) enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(Box<WebhookMode>),
}

/// A server that is asked by SubjectAccessReview.
#[derive(Clone)]
pub(crate) struct WebhookMode {
    pub name: String,
    pub server: ClientConfig,
    /// `v1` or `v1beta1`.
    pub version: String,
    pub times: WebhookTimes,
    pub cache_authorized: bool,
    pub cache_unauthorized: bool,
    pub on_failure: OnFailure,
    pub conditions: Conditions,
}

/// How long a webhook may take, and how long its answers hold.
#[derive(Debug, Clone, Copy)]
pub struct WebhookTimes {
    pub timeout: Duration,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
}

impl Default for WebhookTimes {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { timeout: seconds(30), authorized_ttl: seconds(300), unauthorized_ttl: seconds(30) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    NoOpinion,
    Deny,
}

/// Which requests a webhook is asked about: those for which all hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions(pub Vec<Expression>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Configuration {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    authorizers: Vec<Authorizer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Authorizer {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Webhook {
    #[serde(default, rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(default)]
    cache_authorized_requests: Option<bool>,
    #[serde(default, rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    #[serde(default)]
    cache_unauthorized_requests: Option<bool>,
    #[serde(default)]
    timeout: String,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    #[serde(default)]
    failure_policy: String,
    connection_info: Option<ConnectionInfo>,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ConnectionInfo {
    #[serde(rename = "type", default)]
    kind: String,
    kube_config_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(default)]
    expression: String,
}

/// Gives the server that a kubeconfig file leads to.
type Servers<'a> = &'a dyn Fn(&Path) -> Result<ClientConfig, String>;

impl Default for Authorization {
    fn default() -> Self {
        Self { modes: vec![Mode::Node, Mode::Rbac] }
    }
}

impl Authorization {
    /// Reads a configuration file. `servers` reads the kubeconfig files that it names.
    pub fn parse(text: &str, servers: Servers<'_>) -> Result<Self, AccessError> {
        let config: Configuration = read(text, "AuthorizationConfiguration", &VERSIONS)?;
        let root = FieldPath::new("authorizers");
        if config.authorizers.is_empty() {
            return Err(FieldError::required(&root, "at least one authorization mode must be defined").into());
        }
        let (mut kinds, mut seen) = (HashSet::new(), HashSet::new());
        let mut modes = Vec::new();
        for (at, authorizer) in config.authorizers.iter().enumerate() {
            let path = root.index(at);
            let kind = path.child("type");
            if authorizer.kind.is_empty() {
                return Err(FieldError::required(&kind, "").into());
            }
            if !TYPES.contains(&authorizer.kind.as_str()) {
                return Err(FieldError::not_supported(&kind, authorizer.kind.as_str(), &TYPES).into());
            }
            if !kinds.insert(authorizer.kind.clone()) && authorizer.kind != "Webhook" {
                return Err(FieldError::duplicate(&kind, authorizer.kind.as_str()).into());
            }
            check_name(&authorizer.name, &path.child("name"), &mut seen)?;
            modes.push(authorizer.mode(&path, servers)?);
        }
        Ok(Self { modes })
    }

    /// From `--authorization-mode` and the flags of its webhook.
    pub fn from_flags(
        modes: &[String],
        webhook: Option<ClientConfig>,
        version: &str,
        times: WebhookTimes,
    ) -> Result<Self, AccessError> {
        let mut seen = HashSet::new();
        let mode = |mode: &String| {
            if !seen.insert(mode.clone()) {
                return Err(AccessError::new(format!("--authorization-mode: {mode:?} is given twice")));
            }
            match mode.as_str() {
                "AlwaysAllow" => Ok(Mode::AlwaysAllow),
                "AlwaysDeny" => Ok(Mode::AlwaysDeny),
                "Node" => Ok(Mode::Node),
                "RBAC" => Ok(Mode::Rbac),
                "Webhook" => {
                    let server = webhook.clone().ok_or_else(|| {
                        AccessError::new("--authorization-mode Webhook needs --authorization-webhook-config-file")
                    })?;
                    Ok(Mode::Webhook(Box::new(WebhookMode {
                        name: "default".to_owned(),
                        server,
                        version: version.to_owned(),
                        times,
                        cache_authorized: true,
                        cache_unauthorized: true,
                        on_failure: OnFailure::NoOpinion,
                        conditions: Conditions::default(),
                    })))
                }
                other => Err(AccessError::new(format!("--authorization-mode: {other:?} is not one of {TYPES:?}"))),
            }
        };
        Ok(Self { modes: modes.iter().map(mode).collect::<Result<_, _>>()? })
    }
}

fn check_name(name: &str, path: &FieldPath, seen: &mut HashSet<String>) -> Result<(), FieldError> {
    if name.is_empty() {
        return Err(FieldError::required(path, ""));
    }
    if !seen.insert(name.to_owned()) {
        return Err(FieldError::duplicate(path, name));
    }
    let bad = names::is_dns1123_subdomain(name);
    if bad.is_empty() {
        return Ok(());
    }
    Err(FieldError::invalid(path, name, format!("authorizer name is invalid: {}", bad.join(", "))))
}

impl Authorizer {
    fn mode(&self, path: &FieldPath, servers: Servers<'_>) -> Result<Mode, FieldError> {
        let webhook_path = path.child("webhook");
        match (self.kind.as_str(), &self.webhook) {
            ("Webhook", None) => Err(FieldError::required(&webhook_path, "required when type=Webhook")),
            ("Webhook", Some(webhook)) => {
                Ok(Mode::Webhook(Box::new(webhook.mode(&self.name, &webhook_path, servers)?)))
            }
            (_, Some(_)) => {
                Err(FieldError::invalid(&webhook_path, "non-null", "may only be specified when type=Webhook"))
            }
            ("AlwaysAllow", None) => Ok(Mode::AlwaysAllow),
            ("AlwaysDeny", None) => Ok(Mode::AlwaysDeny),
            ("Node", None) => Ok(Mode::Node),
            _ => Ok(Mode::Rbac),
        }
    }
}

impl Webhook {
    fn mode(&self, name: &str, path: &FieldPath, servers: Servers<'_>) -> Result<WebhookMode, FieldError> {
        let version = path.child("subjectAccessReviewVersion");
        match self.subject_access_review_version.as_str() {
            "v1" | "v1beta1" => {}
            "" => return Err(FieldError::required(&version, "")),
            other => return Err(FieldError::not_supported(&version, other, &["v1", "v1beta1"])),
        }
        let condition_version = path.child("matchConditionSubjectAccessReviewVersion");
        match self.match_condition_subject_access_review_version.as_str() {
            "v1" => {}
            "" if self.match_conditions.is_empty() => {}
            "" => return Err(FieldError::required(&condition_version, "required if match conditions are specified")),
            other => return Err(FieldError::not_supported(&condition_version, other, &["v1"])),
        }
        let policy = path.child("failurePolicy");
        let on_failure = match self.failure_policy.as_str() {
            "NoOpinion" => OnFailure::NoOpinion,
            "Deny" => OnFailure::Deny,
            "" => return Err(FieldError::required(&policy, "")),
            other => return Err(FieldError::not_supported(&policy, other, &["NoOpinion", "Deny"])),
        };
        Ok(WebhookMode {
            name: name.to_owned(),
            times: self.times(path)?,
            version: self.subject_access_review_version.clone(),
            cache_authorized: self.cache_authorized_requests.unwrap_or(true),
            cache_unauthorized: self.cache_unauthorized_requests.unwrap_or(true),
            on_failure,
            conditions: self.conditions(&path.child("matchConditions"))?,
            server: self.server(&path.child("connectionInfo"), servers)?,
        })
    }

    fn times(&self, path: &FieldPath) -> Result<WebhookTimes, FieldError> {
        let default = WebhookTimes::default();
        let timeout_path = path.child("timeout");
        if self.timeout.is_empty() {
            return Err(FieldError::required(&timeout_path, ""));
        }
        let timeout = duration(&self.timeout, &timeout_path)?;
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(FieldError::invalid(&timeout_path, self.timeout.as_str(), "must be > 0s and <= 30s"));
        }
        let ttl = |text: &Option<String>, name: &str, default: Duration| match text {
            Some(text) => duration(text, &path.child(name)),
            None => Ok(default),
        };
        Ok(WebhookTimes {
            timeout,
            authorized_ttl: ttl(&self.authorized_ttl, "authorizedTTL", default.authorized_ttl)?,
            unauthorized_ttl: ttl(&self.unauthorized_ttl, "unauthorizedTTL", default.unauthorized_ttl)?,
        })
    }

    fn server(&self, path: &FieldPath, servers: Servers<'_>) -> Result<ClientConfig, FieldError> {
        let kinds = ["InClusterConfig", "KubeConfigFile"];
        let kind = path.child("type");
        let file_path = path.child("kubeConfigFile");
        let Some(info) = self.connection_info.as_ref().filter(|info| !info.kind.is_empty()) else {
            return Err(FieldError::required(&kind, ""));
        };
        match info.kind.as_str() {
            "KubeConfigFile" => {
                let file = info.kube_config_file.as_deref().unwrap_or_default();
                if file.is_empty() {
                    return Err(FieldError::required(&file_path, ""));
                }
                if !file.starts_with('/') {
                    return Err(FieldError::invalid(&file_path, file, "must be an absolute path"));
                }
                servers(Path::new(file))
                    .map_err(|why| FieldError::invalid(&file_path, file, format!("error loading file: {why}")))
            }
            "InClusterConfig" => {
                Err(FieldError::invalid(&kind, "InClusterConfig", "the API server has no cluster to be in"))
            }
            other => Err(FieldError::not_supported(&kind, other, &kinds)),
        }
    }

    fn conditions(&self, path: &FieldPath) -> Result<Conditions, FieldError> {
        if self.match_conditions.len() > CONDITIONS_MAX {
            return Err(FieldError::too_many(path, self.match_conditions.len(), CONDITIONS_MAX));
        }
        let mut seen = HashSet::new();
        let compile = |(at, condition): (usize, &Condition)| {
            let path = path.index(at).child("expression");
            let source = condition.expression.as_str();
            if source.trim().is_empty() {
                return Err(FieldError::required(&path, ""));
            }
            if !seen.insert(source.to_owned()) {
                return Err(FieldError::duplicate(&path, source));
            }
            Expression::compile(source, "request", Gives::Bool, &path)
        };
        Ok(Conditions(self.match_conditions.iter().enumerate().map(compile).collect::<Result<_, _>>()?))
    }
}

/// Go's notation of durations, of which hours, minutes, seconds and milliseconds are used here: `1m30s`.
fn duration(text: &str, path: &FieldPath) -> Result<Duration, FieldError> {
    let bad = || FieldError::invalid(path, text, "must be a duration such as 30s or 5m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = rest.split_at(digits);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(bad()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        rest = next;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(body: &str, wanted: Expect) {
        let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n{body}");
        let servers = |path: &Path| match path.to_str() {
            Some("/good") => Ok(ClientConfig::default()),
            _ => Err("no such file".to_owned()),
        };
        let parsed = Authorization::parse(&text, &servers);
        wanted.assert_eq(&parsed.map_or_else(|error| error.to_string(), |good| format!("{} modes", good.modes.len())));
    }

    fn webhook(rest: &str) -> String {
        format!(
            "authorizers: [{{type: Node, name: n}}, {{type: Webhook, name: w, webhook: {{subjectAccessReviewVersion: v1, {rest}}}}}]"
        )
    }

    #[test]
    fn errors_name_the_field() {
        let good = "timeout: 3s, failurePolicy: Deny, connectionInfo: {type: KubeConfigFile, kubeConfigFile: /good}, matchConditionSubjectAccessReviewVersion: v1";
        check(
            &webhook(&format!(
                "{good}, matchConditions: [{{expression: \"request.user != 'a'\"}}], authorizedTTL: 1m30s"
            )),
            expect!["2 modes"],
        );
        check(
            "authorizers: []",
            expect!["authorizers: Required value: at least one authorization mode must be defined"],
        );
        check(
            "authorizers: [{type: RBAC, name: a}, {type: RBAC, name: b}]",
            expect![[r#"authorizers[1].type: Duplicate value: "RBAC""#]],
        );
        check(
            "authorizers: [{type: ABAC, name: a}]",
            expect![[
                r#"authorizers[0].type: Unsupported value: "ABAC": supported values: "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook""#
            ]],
        );
        check(
            &webhook("timeout: 31s, failurePolicy: Deny"),
            expect![[r#"authorizers[1].webhook.timeout: Invalid value: "31s": must be > 0s and <= 30s"#]],
        );
        check(
            &webhook("timeout: 3s, failurePolicy: Maybe"),
            expect![[
                r#"authorizers[1].webhook.failurePolicy: Unsupported value: "Maybe": supported values: "Deny", "NoOpinion""#
            ]],
        );
        check(
            &webhook("timeout: 3s, failurePolicy: Deny, connectionInfo: {type: KubeConfigFile, kubeConfigFile: /bad}"),
            expect![[
                r#"authorizers[1].webhook.connectionInfo.kubeConfigFile: Invalid value: "/bad": error loading file: no such file"#
            ]],
        );
        check(
            &webhook(&format!("{good}, matchConditions: [{{expression: \"'a'\"}}]")),
            expect![[
                r#"authorizers[1].webhook.matchConditions[0].expression: Invalid value: "'a'": must evaluate to bool"#
            ]],
        );
    }
}
