//! Tokens of other issuers: their keys, found by discovery, and the users that their claims name.
//! Source: `k8s.io/apiserver/plugin/pkg/authenticator/token/oidc`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{UserInfo, Value};
use coracle_client::full_body;
use coracle_pki::{JwkSet, Jwt, JwtError};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use tokio::sync::Mutex;

use crate::access::{Claim, Expression, Issuer, Mapping};
use crate::outgoing::{Destination, Outgoing, Place, Trust};
use crate::time;

const DOCUMENT_BYTES_MAX: usize = 1 << 20;
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// An issuer is not asked for its keys more often than this, whatever tokens come.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(1);
const HTTPS_PORT: u16 = 443;
/// Clocks may differ by so much. Source: go-oidc, which lets `nbf` be five minutes ahead.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 300;

/// An issuer and what is known of its keys.
pub(super) struct TokenIssuer {
    issuer: Issuer,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    location: Option<String>,
    set: Option<Arc<JwkSet>>,
    asked: Option<Instant>,
}

impl TokenIssuer {
    pub(super) fn new(issuer: &Issuer) -> Self {
        Self { issuer: issuer.clone(), keys: Mutex::default() }
    }

    pub(super) fn url(&self) -> &str {
        &self.issuer.url
    }

    /// The user of a token that says it is this issuer's.
    pub(super) async fn identify(&self, outgoing: &Outgoing, jwt: &Jwt<'_>) -> Result<UserInfo, String> {
        let allowed = &self.issuer.algorithms;
        if !allowed.is_empty() && !allowed.iter().any(|own| own == jwt.algorithm()) {
            return Err(format!(
                "oidc: verify token: oidc: id token signed with unsupported algorithm, expected {allowed:?} got {:?}",
                jwt.algorithm()
            ));
        }
        self.verify(outgoing, jwt).await?;
        let claims = jwt.claims();
        self.check_times(claims)?;
        self.check_audience(claims)?;
        self.user(claims)
    }

    /// Checks the signature; keys that do not fit are asked for again, as issuers change them.
    async fn verify(&self, outgoing: &Outgoing, jwt: &Jwt<'_>) -> Result<(), String> {
        let known = self.keys.lock().await.set.clone();
        let failed = |error: JwtError| format!("oidc: verify token: failed to verify signature: {error}");
        if let Some(set) = known {
            match jwt.verify(&set) {
                Ok(()) => return Ok(()),
                Err(error @ (JwtError::Algorithm(_) | JwtError::Malformed)) => return Err(failed(error)),
                Err(_) => {}
            }
        }
        let set = self.fetch(outgoing).await?;
        jwt.verify(&set).map_err(failed)
    }

    async fn fetch(&self, outgoing: &Outgoing) -> Result<Arc<JwkSet>, String> {
        let mut keys = self.keys.lock().await;
        let recent = keys.asked.is_some_and(|at| at.elapsed() < FETCH_INTERVAL_MIN);
        if recent {
            return keys.set.clone().ok_or_else(|| "oidc: authenticator not initialized".to_owned());
        }
        keys.asked = Some(Instant::now());
        let location = match keys.location.clone() {
            Some(location) => location,
            None => {
                let found = self.discover(outgoing).await;
                found.inspect_err(|error| {
                    tracing::warn!(issuer = %self.issuer.url, %error, "find the keys of a token issuer");
                })?
            }
        };
        let set = self
            .get(outgoing, &location)
            .await
            .and_then(|document| JwkSet::read(&document).ok_or_else(|| format!("oidc: {location:?} holds no key set")));
        match set {
            Ok(set) => {
                let set = Arc::new(set);
                *keys = Keys { location: Some(location), set: Some(Arc::clone(&set)), ..std::mem::take(&mut *keys) };
                Ok(set)
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer.url, %error, "read the keys of a token issuer");
                // Where they are may have changed too.
                keys.location = None;
                Err(error)
            }
        }
    }

    async fn discover(&self, outgoing: &Outgoing) -> Result<String, String> {
        let document = self.get(outgoing, &self.issuer.discovery_url).await?;
        let issuer = document.str_at(&["issuer"]);
        if issuer != self.issuer.url {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {issuer:?}",
                self.issuer.url
            ));
        }
        let location = document.str_at(&["jwks_uri"]);
        if location.is_empty() {
            Err("oidc: the provider names no jwks_uri".to_owned())
        } else {
            Ok(location.to_owned())
        }
    }

    async fn get(&self, outgoing: &Outgoing, url: &str) -> Result<Value, String> {
        let failed = |why: String| format!("oidc: Get {url:?}: {why}");
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
        if uri.scheme_str() != Some("https") {
            return Err(failed("URL scheme must be https".to_owned()));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let trust = match &self.issuer.authority_pem {
            Some(pem) => Trust::Bundle(pem.as_bytes().to_vec()),
            None => Trust::System,
        };
        let to = Destination {
            place: Place::Host { host: host.clone(), port: uri.port_u16().unwrap_or(HTTPS_PORT) },
            server_name: host,
            trust,
            as_front_proxy: false,
        };
        let exchange = async {
            let request = Request::get(uri)
                .header(header::ACCEPT, "application/json")
                .header(header::USER_AGENT, "kube-apiserver")
                .body(full_body(""))
                .map_err(|error| error.to_string())?;
            let answer = outgoing.send(&to, request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            if !status.is_success() {
                return Err(format!("the provider answered {}", status.as_u16()));
            }
            serde_json::from_slice(&body).map_err(|error| error.to_string())
        };
        match tokio::time::timeout(FETCH_TIME_MAX, exchange).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    fn check_times(&self, claims: &Value) -> Result<(), String> {
        let now = time::now().as_second();
        let seconds = |field: &str| {
            let value = claims.get(field)?;
            #[allow(clippy::cast_possible_truncation)]
            value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
        };
        match seconds("exp") {
            Some(expires) if now < expires => {}
            Some(expires) => {
                return Err(format!("oidc: verify token: oidc: token is expired (Token Expiry: {expires})"));
            }
            None => return Err("oidc: verify token: oidc: token has no expiry".to_owned()),
        }
        if seconds("nbf").is_some_and(|from| from > now + NOT_BEFORE_LEEWAY_SECONDS) {
            return Err("oidc: verify token: oidc: current time is before the nbf (not before) time".to_owned());
        }
        Ok(())
    }

    fn check_audience(&self, claims: &Value) -> Result<(), String> {
        let told = texts(claims.get("aud").unwrap_or(&Value::Null)).unwrap_or_default();
        let wanted = &self.issuer.audiences;
        if told.iter().any(|own| wanted.contains(own)) {
            return Ok(());
        }
        Err(format!("oidc: verify token: oidc: expected audience in {wanted:?} got {told:?}"))
    }

    fn user(&self, claims: &Value) -> Result<UserInfo, String> {
        let issuer = &self.issuer;
        let user = UserInfo {
            username: username(&issuer.username, claims)?,
            groups: issuer.groups.as_ref().map_or(Ok(Vec::new()), |mapping| groups(mapping, claims))?,
            uid: issuer.uid.as_ref().map_or(Ok(String::new()), |mapping| uid(mapping, claims))?,
            extra: extra(&issuer.extra, claims)?,
        };
        for (claim, wanted) in &issuer.required_claims {
            let value = claims.get(claim);
            let value = value.ok_or_else(|| format!("oidc: required claim {claim} not present in ID token"))?;
            let value = value.as_str().ok_or_else(|| format!("oidc: parse claim {claim}: it is no string"))?;
            if value != wanted {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {value}, want = {wanted}"
                ));
            }
        }
        check_rules(&issuer.claim_rules, claims)
            .map_err(|error| format!("oidc: error evaluating claim validation expression: {error}"))?;
        if !issuer.user_rules.is_empty() {
            // Rules see every field, also those that are empty.
            let described =
                json!({"username": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra});
            check_rules(&issuer.user_rules, &described)
                .map_err(|error| format!("oidc: error evaluating user info validation rule: {error}"))?;
        }
        Ok(user)
    }
}

fn check_rules(rules: &[(Expression, String)], value: &Value) -> Result<(), String> {
    for (rule, message) in rules {
        if !rule.holds(value)? {
            return Err(format!("validation expression '{}' failed: {message}", rule.source));
        }
    }
    Ok(())
}

fn username(mapping: &Mapping, claims: &Value) -> Result<String, String> {
    match mapping {
        Mapping::Expression(expression) => {
            let value = expression
                .eval(claims)
                .map_err(|error| format!("oidc: error evaluating username claim expression: {error}"))?;
            match value.as_str() {
                Some("") => Err("oidc: empty username via CEL expression is not allowed".to_owned()),
                Some(name) => Ok(name.to_owned()),
                None => Err(
                    "oidc: error evaluating username claim expression: username claim expression must return a string"
                        .to_owned(),
                ),
            }
        }
        Mapping::Claim(Claim { name, prefix }) => {
            let value = claims.get(name).and_then(Value::as_str);
            let value = value.ok_or_else(|| format!("oidc: parse username claims {name:?}: claim not present"))?;
            // An address that nobody verified names nobody.
            if name == "email"
                && let Some(verified) = claims.get("email_verified")
                && verified.as_bool() != Some(true)
            {
                return Err("oidc: email not verified".to_owned());
            }
            Ok(format!("{prefix}{value}"))
        }
    }
}

/// One string, or a list of them.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn groups(mapping: &Mapping, claims: &Value) -> Result<Vec<String>, String> {
    match mapping {
        Mapping::Expression(expression) => {
            let value = expression
                .eval(claims)
                .map_err(|error| format!("oidc: error evaluating group claim expression: {error}"))?;
            let found = texts(&value)
                .ok_or("oidc: error evaluating group claim expression: it is no string or list of strings")?;
            Ok(found.into_iter().filter(|group| !group.is_empty()).collect())
        }
        Mapping::Claim(Claim { name, prefix }) => {
            let Some(value) = claims.get(name) else { return Ok(Vec::new()) };
            let found = texts(value)
                .ok_or_else(|| format!("oidc: parse groups claim {name:?}: it is no string or list of strings"))?;
            Ok(found.into_iter().map(|group| format!("{prefix}{group}")).collect())
        }
    }
}

fn uid(mapping: &Mapping, claims: &Value) -> Result<String, String> {
    match mapping {
        Mapping::Expression(expression) => {
            let value = expression
                .eval(claims)
                .map_err(|error| format!("oidc: error evaluating uid claim expression: {error}"))?;
            let text = value.as_str().ok_or("oidc: error evaluating uid claim expression: it must return a string")?;
            Ok(text.to_owned())
        }
        Mapping::Claim(Claim { name, .. }) => {
            let value = claims.get(name).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| format!("oidc: parse uid claim {name:?}: claim not present"))
        }
    }
}

fn extra(mappings: &[(String, Expression)], claims: &Value) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut extra = BTreeMap::new();
    for (key, expression) in mappings {
        let failed = |error: &str| format!("oidc: error evaluating extra claim expression: {error}");
        let value = expression.eval(claims).map_err(|error| failed(&error))?;
        let mut found = texts(&value).ok_or_else(|| failed("it is no string or list of strings"))?;
        found.retain(|item| !item.is_empty());
        if !found.is_empty() {
            extra.insert(key.clone(), found);
        }
    }
    Ok(extra)
}
