//! Who asks. Certificates, then bearer tokens, then nobody. Source: `k8s.io/apiserver/pkg/authentication`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, UserInfo, Value};
use coracle_pki::{BootstrapToken, CertificateInfo, Claims};
use coracle_store::{Key, Store};
use http::{Extensions, HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::time;

/// The caller of an in-process request.
#[derive(Clone)]
pub(crate) struct Caller(pub UserInfo);

/// What the client certificate of a connection says; `None` where there is none.
#[derive(Clone)]
pub(crate) struct Peer(pub Option<Arc<UserInfo>>);

const CACHED_TOKENS_MAX: usize = 4096;
const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

#[derive(Default)]
pub(crate) struct Authenticator {
    /// Claims of tokens whose signature was checked, by the digest of the token.
    checked: Mutex<HashMap<[u8; 32], Claims>>,
}

/// A user and the audiences that its token is for.
pub(crate) struct Identity {
    pub user: UserInfo,
    pub audiences: Vec<String>,
}

/// The user that a verified client certificate names.
pub(crate) fn user_of_certificate(der: &[u8]) -> Option<UserInfo> {
    let info = CertificateInfo::from_der(der).ok()?;
    if info.common_name.is_empty() {
        return None;
    }
    let groups: Vec<&str> = info.organizations.iter().map(String::as_str).collect();
    let mut user = UserInfo::authenticated(&info.common_name, &groups);
    let digest = Sha256::digest(der);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={hex}")]);
    Some(user)
}

impl Authenticator {
    pub(crate) fn request(
        &self,
        config: &Config,
        store: &dyn Store,
        extensions: &Extensions,
        headers: &HeaderMap,
    ) -> Result<UserInfo, Status> {
        if let Some(Caller(user)) = extensions.get::<Caller>() {
            return Ok(user.clone());
        }
        if let Some(Peer(Some(user))) = extensions.get::<Peer>() {
            return Ok(UserInfo::clone(user));
        }
        if let Some(token) = bearer(headers) {
            let identity = self.token(config, store, &token, &[config.issuer.as_str()]);
            return identity.map(|identity| identity.user).map_err(|why| {
                tracing::debug!(%why, "a bearer token was refused");
                Status::unauthorized()
            });
        }
        if config.anonymous { Ok(UserInfo::anonymous()) } else { Err(Status::unauthorized()) }
    }

    /// The user of a token that is meant for one of `audiences`; otherwise why not.
    pub(crate) fn token(
        &self,
        config: &Config,
        store: &dyn Store,
        token: &str,
        audiences: &[&str],
    ) -> Result<Identity, String> {
        if let Some(user) = config.static_tokens.get(token) {
            return Ok(Identity { user: user.clone(), audiences: vec![config.issuer.clone()] });
        }
        if let Ok(parsed) = BootstrapToken::parse(token) {
            let user = bootstrap_user(store, &parsed).ok_or("the bootstrap token is unknown or expired")?;
            return Ok(Identity { user, audiences: vec![config.issuer.clone()] });
        }
        let claims = self.claims(config, token)?;
        if !claims.aud.iter().any(|audience| audiences.contains(&audience.as_str())) {
            return Err(format!("token audiences {:?} is invalid for the target audiences {audiences:?}", claims.aud));
        }
        let user = account_user(store, &claims)?;
        let meant = claims.aud.iter().filter(|audience| audiences.contains(&audience.as_str())).cloned().collect();
        Ok(Identity { user, audiences: meant })
    }

    fn claims(&self, config: &Config, token: &str) -> Result<Claims, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = time::now();
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = checked.get(&digest) {
            if claims.exp > now.as_second() {
                return Ok(claims.clone());
            }
            checked.remove(&digest);
        }
        drop(checked);
        let claims = config
            .token_key
            .verify(token, &config.issuer, &[], now)
            .map_err(|error| format!("invalid bearer token: {error}"))?;
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CACHED_TOKENS_MAX {
            checked.clear();
        }
        checked.insert(digest, claims.clone());
        Ok(claims)
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, token) = value.split_once(' ')?;
        return (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim().to_owned());
    }
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols.split(',').find_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_BEARER))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?).ok()
}

fn load(store: &dyn Store, collection: &str, name: &str) -> Option<Value> {
    let entry = store.local_get(&Key::new(collection, name))?;
    serde_json::from_slice(&entry.value).ok()
}

fn account_user(store: &dyn Store, claims: &Claims) -> Result<UserInfo, String> {
    let own = &claims.kubernetes;
    let namespace = &own.namespace;
    let name = &own.serviceaccount.name;
    let account = load(store, "serviceaccounts", &format!("{namespace}/{name}"))
        .ok_or_else(|| format!("service account {namespace}/{name} has been deleted"))?;
    if account.uid() != own.serviceaccount.uid {
        return Err("service account UID does not match the claim".to_owned());
    }
    let mut user = UserInfo::service_account(namespace, name, account.uid());
    let mut extra = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    extra("credential-id", &format!("JTI={}", claims.jti));
    if let Some(pod) = &own.pod {
        let found = load(store, "pods", &format!("{namespace}/{}", pod.name)).filter(|found| found.uid() == pod.uid);
        found.ok_or_else(|| format!("pod {namespace}/{} has been deleted", pod.name))?;
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(secret) = &own.secret {
        let found = load(store, "secrets", &format!("{namespace}/{}", secret.name));
        found.filter(|found| found.uid() == secret.uid).ok_or("the token's secret has been deleted")?;
    }
    if let Some(node) = &own.node {
        if own.pod.is_none() {
            let found = load(store, "nodes", &node.name).filter(|found| found.uid() == node.uid);
            found.ok_or("the token's node has been deleted")?;
        }
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    Ok(user)
}

fn bootstrap_user(store: &dyn Store, token: &BootstrapToken) -> Option<UserInfo> {
    let secret = load(store, "secrets", &format!("kube-system/bootstrap-token-{}", token.id))?;
    let data = |field: &str| -> String {
        let bytes = STANDARD.decode(secret.str_at(&["data", field])).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let expired = data("expiration").parse::<jiff::Timestamp>().is_ok_and(|at| at <= time::now());
    let good = secret.str_at(&["type"]) == "bootstrap.kubernetes.io/token"
        && secret.meta_str("deletionTimestamp").is_empty()
        && data("token-id") == token.id
        && data("token-secret") == token.secret
        && data("usage-bootstrap-authentication") == "true"
        && !expired;
    if !good {
        return None;
    }
    let groups = data("auth-extra-groups");
    let mut all = vec!["system:bootstrappers"];
    all.extend(groups.split(',').filter(|group| group.starts_with("system:bootstrappers:")));
    Some(UserInfo::authenticated(&format!("system:bootstrap:{}", token.id), &all))
}
