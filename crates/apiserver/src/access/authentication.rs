//! Whose tokens are good, and whom they name. Source: `apiserver.config.k8s.io/v1 AuthenticationConfiguration`.

use std::collections::{BTreeMap, HashSet};

use coracle_api_meta::{FieldError, FieldPath};
use http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use super::expression::Gives;
use super::{AccessError, Expression, read};

const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const ISSUERS_MAX: usize = 64;
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// A checked configuration.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    pub(crate) issuers: Vec<Issuer>,
    /// `None`: as the flag says.
    pub(crate) anonymous: Option<Anonymous>,
}

/// When nobody may ask.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Anonymous {
    pub enabled: bool,
    /// With any, only these paths.
    #[serde(default)]
    pub conditions: Vec<AnonymousCondition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnonymousCondition {
    pub path: String,
}

impl Anonymous {
    pub(crate) fn allows(&self, path: &str) -> bool {
        self.enabled && (self.conditions.is_empty() || self.conditions.iter().any(|condition| condition.path == path))
    }
}

/// One issuer of JSON Web Tokens, and how their claims become a user.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    pub url: String,
    pub discovery_url: String,
    /// PEM; `None`: the machine's authorities.
    pub authority_pem: Option<String>,
    pub audiences: Vec<String>,
    pub username: Mapping,
    pub groups: Option<Mapping>,
    pub uid: Option<Mapping>,
    pub extra: Vec<(String, Expression)>,
    pub required_claims: BTreeMap<String, String>,
    /// With what to say when they do not hold.
    pub claim_rules: Vec<(Expression, String)>,
    pub user_rules: Vec<(Expression, String)>,
    /// Empty: all that are known.
    pub algorithms: Vec<String>,
}

/// Where a part of the user comes from.
#[derive(Debug, Clone)]
pub(crate) enum Mapping {
    Claim(Claim),
    Expression(Expression),
}

#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub name: String,
    pub prefix: String,
}

/// The flags of before configuration files: `--oidc-issuer-url` and so on.
#[derive(Debug, Clone, Default)]
pub struct OidcFlags {
    pub issuer_url: String,
    pub client_id: String,
    pub ca_pem: Option<String>,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub signing_algs: Vec<String>,
    pub required_claims: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Configuration {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<Anonymous>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Jwt {
    issuer: IssuerConfig,
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    user_validation_rules: Vec<UserRule>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct IssuerConfig {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mappings {
    username: ClaimOrExpression,
    groups: ClaimOrExpression,
    uid: ClaimOrExpression,
    extra: Vec<Extra>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClaimOrExpression {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Extra {
    key: String,
    value_expression: String,
}

impl Authentication {
    /// Reads a configuration file. Tokens of `own_issuer` are service accounts' alone.
    pub fn parse(text: &str, own_issuer: &str) -> Result<Self, AccessError> {
        let config: Configuration = read(text, "AuthenticationConfiguration", &VERSIONS)?;
        let root = FieldPath::new("jwt");
        if config.jwt.len() > ISSUERS_MAX {
            return Err(FieldError::too_many(&root, config.jwt.len(), ISSUERS_MAX).into());
        }
        let mut seen = HashSet::new();
        let mut issuers = Vec::new();
        for (at, jwt) in config.jwt.iter().enumerate() {
            let path = root.index(at);
            let issuer = jwt.issuer(own_issuer, &path)?;
            if !seen.insert(issuer.url.clone()) {
                let path = path.child("issuer").child("url");
                return Err(FieldError::duplicate(&path, issuer.url.as_str()).into());
            }
            issuers.push(issuer);
        }
        if let Some(anonymous) = config.anonymous.as_ref().filter(|own| !own.enabled && !own.conditions.is_empty()) {
            let paths: Vec<String> = anonymous.conditions.iter().map(|condition| condition.path.clone()).collect();
            let path = FieldPath::new("anonymous").child("conditions");
            let why = "enabled should be set to true when conditions are defined";
            return Err(FieldError::invalid(&path, paths, why).into());
        }
        Ok(Self { issuers, anonymous: config.anonymous })
    }

    /// The same from flags.
    pub fn from_flags(flags: OidcFlags) -> Result<Self, AccessError> {
        let fail = |why: &str| Err(AccessError::new(why));
        if flags.client_id.is_empty() {
            return fail("--oidc-client-id must be specified with --oidc-issuer-url");
        }
        check_url(&flags.issuer_url, &FieldPath::new("--oidc-issuer-url"))?;
        let default = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        let claim = default(flags.username_claim, "sub");
        // Source: `--oidc-username-prefix`: names other than mail addresses are told apart by their issuer.
        let prefix = match flags.username_prefix.as_str() {
            "-" => String::new(),
            "" if claim == "email" => String::new(),
            "" => format!("{}#", flags.issuer_url),
            own => own.to_owned(),
        };
        let groups = Mapping::Claim(Claim { name: flags.groups_claim.clone(), prefix: flags.groups_prefix });
        let issuer = Issuer {
            discovery_url: discovery_url(&flags.issuer_url, None),
            url: flags.issuer_url,
            authority_pem: flags.ca_pem,
            audiences: vec![flags.client_id],
            username: Mapping::Claim(Claim { name: claim, prefix }),
            groups: (!flags.groups_claim.is_empty()).then_some(groups),
            uid: None,
            extra: Vec::new(),
            required_claims: flags.required_claims,
            claim_rules: Vec::new(),
            user_rules: Vec::new(),
            algorithms: if flags.signing_algs.is_empty() { vec!["RS256".to_owned()] } else { flags.signing_algs },
        };
        Ok(Self { issuers: vec![issuer], anonymous: None })
    }
}

fn discovery_url(url: &str, other: Option<&str>) -> String {
    match other.filter(|other| !other.is_empty()) {
        Some(other) => other.to_owned(),
        None => format!("{}{WELL_KNOWN}", url.trim_end_matches('/')),
    }
}

fn check_url(url: &str, path: &FieldPath) -> Result<(), FieldError> {
    let bad = |why: &str| Err(FieldError::invalid(path, url, why));
    let uri: Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => return bad(&format!("parse {url:?}: {error}")),
    };
    if uri.scheme_str() != Some("https") {
        return bad("URL scheme must be https");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return bad("URL must not contain a username or password");
    }
    if uri.query().is_some_and(|query| !query.is_empty()) {
        return bad("URL must not contain a query");
    }
    if url.contains('#') {
        return bad("URL must not contain a fragment");
    }
    Ok(())
}

impl IssuerConfig {
    fn check(&self, own_issuer: &str, path: &FieldPath) -> Result<(), FieldError> {
        let url = path.child("url");
        if self.url.is_empty() {
            return Err(FieldError::required(&url, ""));
        }
        if self.url == own_issuer {
            let why = format!("URL must not overlap with disallowed issuers: [{own_issuer}]");
            return Err(FieldError::invalid(&url, self.url.as_str(), why));
        }
        check_url(&self.url, &url)?;
        if let Some(other) = self.discovery_url.as_deref().filter(|other| !other.is_empty()) {
            let path = path.child("discoveryURL");
            if other.trim_end_matches('/') == self.url.trim_end_matches('/') {
                return Err(FieldError::invalid(&path, other, "discoveryURL must be different from URL"));
            }
            check_url(other, &path)?;
        }
        self.check_audiences(path)?;
        let authority = self.certificate_authority.as_bytes();
        let readable = CertificateDer::pem_slice_iter(authority).collect::<Result<Vec<_>, _>>();
        if !authority.is_empty() && readable.is_ok_and(|found| found.is_empty()) {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            return Err(FieldError::invalid(&path.child("certificateAuthority"), "<omitted>", why));
        }
        match self.egress_selector_type.as_str() {
            "" | "controlplane" | "cluster" => Ok(()),
            other => {
                let path = path.child("egressSelectorType");
                Err(FieldError::invalid(&path, other, "egress selector must be either controlplane or cluster"))
            }
        }
    }

    fn check_audiences(&self, path: &FieldPath) -> Result<(), FieldError> {
        let audiences = path.child("audiences");
        if self.audiences.is_empty() {
            return Err(FieldError::required(&audiences, format!("at least one {audiences} is required")));
        }
        let mut seen = HashSet::new();
        for (at, audience) in self.audiences.iter().enumerate() {
            if audience.is_empty() {
                return Err(FieldError::required(&audiences.index(at), ""));
            }
            if !seen.insert(audience) {
                return Err(FieldError::duplicate(&audiences.index(at), audience.as_str()));
            }
        }
        let policy = self.audience_match_policy.as_str();
        let why = match (self.audiences.len(), policy) {
            (_, "MatchAny") | (1, "") => return Ok(()),
            (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
            _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
        };
        Err(FieldError::invalid(&path.child("audienceMatchPolicy"), policy, why))
    }
}

impl Jwt {
    fn issuer(&self, own_issuer: &str, path: &FieldPath) -> Result<Issuer, FieldError> {
        let config = &self.issuer;
        config.check(own_issuer, &path.child("issuer"))?;
        let mut required_claims = BTreeMap::new();
        let rules = path.child("claimValidationRules");
        let claim_rules = claim_rules(&self.claim_validation_rules, &mut required_claims, &rules)?;
        let mappings = path.child("claimMappings");
        let (username, groups, uid) = self.claim_mappings.parts(&mappings)?;
        let extra = self.claim_mappings.extra(&mappings.child("extra"))?;
        let issuer = Issuer {
            url: config.url.clone(),
            discovery_url: discovery_url(&config.url, config.discovery_url.as_deref()),
            authority_pem: Some(config.certificate_authority.clone()).filter(|pem| !pem.is_empty()),
            audiences: config.audiences.clone(),
            username,
            groups,
            uid,
            extra,
            required_claims,
            claim_rules,
            user_rules: user_rules(&self.user_validation_rules, &path.child("userValidationRules"))?,
            algorithms: Vec::new(),
        };
        check_email(&issuer, &mappings)?;
        Ok(issuer)
    }
}

/// A mail address names nobody unless its issuer says that it was verified.
fn check_email(issuer: &Issuer, path: &FieldPath) -> Result<(), FieldError> {
    let Mapping::Expression(username) = &issuer.username else { return Ok(()) };
    let all = [username]
        .into_iter()
        .chain(issuer.extra.iter().map(|(_, expression)| expression))
        .chain(issuer.claim_rules.iter().map(|(expression, _)| expression));
    if !username.names_claim("email") || all.into_iter().any(|expression| expression.names_claim("email_verified")) {
        return Ok(());
    }
    let why = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
    Err(FieldError::invalid(&path.child("username").child("expression"), username.source.as_str(), why))
}

fn claim_rules(
    rules: &[ClaimRule],
    required: &mut BTreeMap<String, String>,
    path: &FieldPath,
) -> Result<Vec<(Expression, String)>, FieldError> {
    let mut compiled = Vec::new();
    let mut seen = HashSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => return Err(FieldError::required(&path, "claim or expression is required")),
            (claim, "") => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    return Err(FieldError::invalid(&path.child("message"), rule.message.as_str(), why));
                }
                if required.insert(claim.to_owned(), rule.required_value.clone()).is_some() {
                    return Err(FieldError::duplicate(&path.child("claim"), claim));
                }
            }
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    return Err(FieldError::invalid(&path.child("requiredValue"), rule.required_value.as_str(), why));
                }
                let path = path.child("expression");
                if !seen.insert(expression) {
                    return Err(FieldError::duplicate(&path, expression));
                }
                let expression = Expression::compile(expression, "claims", Gives::Bool, &path)?;
                compiled.push((expression, rule.message.clone()));
            }
            (claim, _) => {
                return Err(FieldError::invalid(&path, claim, "claim and expression can't both be set"));
            }
        }
    }
    Ok(compiled)
}

fn user_rules(rules: &[UserRule], path: &FieldPath) -> Result<Vec<(Expression, String)>, FieldError> {
    let mut seen = HashSet::new();
    let compile = |(at, rule): (usize, &UserRule)| {
        let path = path.index(at).child("expression");
        let source = rule.expression.as_str();
        if source.is_empty() {
            return Err(FieldError::required(&path, ""));
        }
        if !seen.insert(source.to_owned()) {
            return Err(FieldError::duplicate(&path, source));
        }
        Ok((Expression::compile(source, "user", Gives::Bool, &path)?, rule.message.clone()))
    };
    rules.iter().enumerate().map(compile).collect()
}

impl ClaimOrExpression {
    fn is_empty(&self) -> bool {
        self.claim.is_empty() && self.expression.is_empty()
    }

    fn mapping(&self, gives: Gives, prefixed: bool, path: &FieldPath) -> Result<Mapping, FieldError> {
        if !self.claim.is_empty() && !self.expression.is_empty() {
            return Err(FieldError::invalid(path, "", "claim and expression can't both be set"));
        }
        let prefix = path.child("prefix");
        if !self.expression.is_empty() {
            if let Some(own) = &self.prefix {
                let why = "may not be specified when expression is set";
                return Err(FieldError::invalid(&prefix, own.as_str(), why));
            }
            let expression = Expression::compile(&self.expression, "claims", gives, &path.child("expression"))?;
            return Ok(Mapping::Expression(expression));
        }
        if prefixed && self.prefix.is_none() {
            let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
            return Err(FieldError::required(&prefix, why));
        }
        Ok(Mapping::Claim(Claim { name: self.claim.clone(), prefix: self.prefix.clone().unwrap_or_default() }))
    }
}

impl Mappings {
    fn parts(&self, path: &FieldPath) -> Result<(Mapping, Option<Mapping>, Option<Mapping>), FieldError> {
        let username = path.child("username");
        if self.username.is_empty() {
            return Err(FieldError::required(&username, "claim or expression is required"));
        }
        let given = |mapping: &ClaimOrExpression, gives, prefixed, name: &str| {
            (!mapping.is_empty()).then(|| mapping.mapping(gives, prefixed, &path.child(name))).transpose()
        };
        Ok((
            self.username.mapping(Gives::Text, true, &username)?,
            given(&self.groups, Gives::TextOrList, true, "groups")?,
            given(&self.uid, Gives::Text, false, "uid")?,
        ))
    }

    fn extra(&self, path: &FieldPath) -> Result<Vec<(String, Expression)>, FieldError> {
        let mut seen = HashSet::new();
        let read = |(at, extra): (usize, &Extra)| {
            let (key, value) = (path.index(at).child("key"), path.index(at).child("valueExpression"));
            check_extra_key(&extra.key, &key)?;
            if !seen.insert(extra.key.clone()) {
                return Err(FieldError::duplicate(&key, extra.key.as_str()));
            }
            if extra.value_expression.is_empty() {
                return Err(FieldError::required(&value, ""));
            }
            let expression = Expression::compile(&extra.value_expression, "claims", Gives::TextOrList, &value)?;
            Ok((extra.key.clone(), expression))
        };
        self.extra.iter().enumerate().map(read).collect()
    }
}

fn check_extra_key(key: &str, path: &FieldPath) -> Result<(), FieldError> {
    if key.is_empty() {
        return Err(FieldError::required(path, ""));
    }
    let Some((domain, rest)) = key.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return Err(FieldError::invalid(path, key, why));
    };
    let _ = rest;
    if key.to_lowercase() != key {
        return Err(FieldError::invalid(path, key, "must be lowercase"));
    }
    let reserved = ["kubernetes.io", "k8s.io"];
    if reserved.iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}"))) {
        let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        return Err(FieldError::invalid(path, key, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(body: &str, wanted: Expect) {
        let text = format!("apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\n{body}");
        let parsed = Authentication::parse(&text, "https://own");
        wanted.assert_eq(&parsed.map_or_else(|error| error.to_string(), |_| "good".to_owned()));
    }

    fn jwt(issuer: &str, rest: &str) -> String {
        format!("jwt: [{{issuer: {{url: 'https://a', audiences: [x]{issuer}}}, {rest}}}]")
    }

    #[test]
    fn errors_name_the_field() {
        let name = "claimMappings: {username: {claim: sub, prefix: ''}}";
        check(&jwt("", name), expect!["good"]);
        check(
            &jwt("", "claimMappings: {username: {claim: sub}}"),
            expect![
                "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            ],
        );
        check(
            &jwt("", "claimMappings: {username: {expression: claims.email}}"),
            expect![[
                r#"jwt[0].claimMappings.username.expression: Invalid value: "claims.email": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression"#
            ]],
        );
        check(
            &jwt("", "claimMappings: {username: {expression: 'claims.email_verified ? claims.email : claims.sub'}}"),
            expect!["good"],
        );
        check(
            &jwt(", audienceMatchPolicy: All", name),
            expect![[
                r#"jwt[0].issuer.audienceMatchPolicy: Invalid value: "All": audienceMatchPolicy must be empty or MatchAny for single audience"#
            ]],
        );
        check(
            "jwt: [{issuer: {url: 'http://a', audiences: [x]}}]",
            expect![[r#"jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https"#]],
        );
        check(
            "jwt: [{issuer: {url: 'https://own', audiences: [x]}}]",
            expect![[
                r#"jwt[0].issuer.url: Invalid value: "https://own": URL must not overlap with disallowed issuers: [https://own]"#
            ]],
        );
        check(
            &jwt("", &format!("{name}, claimValidationRules: [{{claim: a, expression: 'true'}}]")),
            expect![[r#"jwt[0].claimValidationRules[0]: Invalid value: "a": claim and expression can't both be set"#]],
        );
        check(
            &jwt("", &format!("{name}, userValidationRules: [{{expression: \"'a'\"}}]")),
            expect![[r#"jwt[0].userValidationRules[0].expression: Invalid value: "'a'": must evaluate to bool"#]],
        );
        check(
            &jwt(
                "",
                "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: k8s.io/a, valueExpression: claims.a}]}",
            ),
            expect![[
                r#"jwt[0].claimMappings.extra[0].key: Invalid value: "k8s.io/a": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"#
            ]],
        );
        check(
            "anonymous: {enabled: false, conditions: [{path: /livez}]}",
            expect![[
                r#"anonymous.conditions: Invalid value: ["/livez"]: enabled should be set to true when conditions are defined"#
            ]],
        );
    }
}
