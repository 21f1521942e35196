//! Who asks. The proxy in front, then certificates, then bearer tokens, then nobody.
//! Source: `k8s.io/apiserver/pkg/authentication`, `pkg/kubeapiserver/authenticator/config.go`.

mod account;
mod bootstrap;
mod front_proxy;
mod jwt;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_api_meta::{Status, UserInfo, Value};
use coracle_pki::{BootstrapToken, CertificateInfo, Jwt};
use coracle_store::{Key, Store};
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::access::{Anonymous, Authentication};
use crate::cache::Cache;
use crate::config::{Config, StartError};
use crate::server::Server;
use account::Accounts;
use jwt::TokenIssuer;
use webhook::Webhook;

/// The caller of an in-process request.
#[derive(Clone)]
pub(crate) struct Caller(pub UserInfo);

/// What the certificate that a connection showed is good for.
#[derive(Clone, Default)]
pub(crate) struct Peer {
    /// The user that it names, where an authority of clients signed it.
    pub user: Option<Arc<UserInfo>>,
    /// Its common name, where the authority of front proxies signed it.
    pub proxy: Option<Arc<str>>,
    /// A certificate was shown that nobody known signed, or that is over.
    pub is_unknown: bool,
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(crate) struct PeerAddress(pub std::net::IpAddr);

const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// Tokens of other issuers that were checked lately. Source: `tokencache`, 10 s.
const CACHED_TOKENS_MAX: usize = 4096;
const CACHED_TOKEN_TTL: Duration = Duration::from_secs(10);
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

pub(crate) struct Authenticator {
    accounts: Accounts,
    webhook: Option<Webhook>,
    setup: ArcSwap<Setup>,
    recent: Cache<[u8; 32], UserInfo>,
}

/// What can be configured anew.
struct Setup {
    issuers: Vec<Arc<TokenIssuer>>,
    anonymous: Anonymous,
}

impl Setup {
    fn new(config: &Config, authentication: &Authentication) -> Self {
        let default = || Anonymous { enabled: config.anonymous, conditions: Vec::new() };
        Self {
            issuers: authentication.issuers.iter().map(|issuer| Arc::new(TokenIssuer::new(issuer))).collect(),
            anonymous: authentication.anonymous.clone().unwrap_or_else(default),
        }
    }
}

/// A user and the audiences that its token is for.
#[derive(Debug, Clone)]
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
    user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hex}")]);
    Some(user)
}

/// Everybody who is somebody is in this group. Source: `group.NewAuthenticatedGroupAdder`.
fn authenticated(mut user: UserInfo) -> UserInfo {
    const GROUPS: [&str; 2] = ["system:authenticated", "system:unauthenticated"];
    if !GROUPS.into_iter().any(|group| user.in_group(group)) {
        user.groups.push(GROUPS[0].to_owned());
    }
    user
}

impl Authenticator {
    pub(crate) fn new(config: &Config) -> Result<Self, StartError> {
        let webhook = config.access.token_webhook.as_ref().map(Webhook::new).transpose();
        Ok(Self {
            accounts: Accounts::default(),
            webhook: webhook.map_err(StartError::Access)?,
            setup: ArcSwap::from_pointee(Setup::new(config, &config.access.authentication)),
            recent: Cache::new(CACHED_TOKENS_MAX),
        })
    }

    /// Takes another configuration for the requests from now on.
    pub(crate) fn configure(&self, config: &Config, authentication: &Authentication) {
        self.setup.store(Arc::new(Setup::new(config, authentication)));
    }

    /// The user of a request. Credentials that are no longer needed are taken out of its headers.
    pub(crate) async fn request(&self, server: &Server, parts: &mut Parts) -> Result<UserInfo, Status> {
        if let Some(Caller(user)) = parts.extensions.get::<Caller>() {
            return Ok(user.clone());
        }
        let peer = parts.extensions.get::<Peer>().cloned().unwrap_or_default();
        if let (Some(config), Some(name)) = (&server.config.access.request_header, &peer.proxy)
            && let Some(user) = front_proxy::identify(config, name, &parts.headers)
        {
            front_proxy::strip(config, &mut parts.headers);
            return Ok(authenticated(user));
        }
        if let Some(user) = peer.user {
            return Ok(UserInfo::clone(&user));
        }
        if let Some(token) = bearer(&parts.headers) {
            let audiences = server.config.audiences();
            return match self.token(server, &token, &audiences).await {
                Ok(identity) => Ok(identity.user),
                Err(why) => {
                    tracing::debug!(%why, "a bearer token was refused");
                    Err(Status::unauthorized())
                }
            };
        }
        if peer.is_unknown || !self.setup.load().anonymous.allows(parts.uri.path()) {
            return Err(Status::unauthorized());
        }
        Ok(UserInfo::anonymous())
    }

    /// The user of a token that is meant for one of `audiences`; otherwise why not.
    pub(crate) fn token<'a>(
        &'a self,
        server: &'a Server,
        token: &'a str,
        audiences: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Identity, String>> {
        Box::pin(self.look_up(server, token, audiences))
    }

    async fn look_up(&self, server: &Server, token: &str, audiences: &[&str]) -> Result<Identity, String> {
        let config = &server.config;
        if let Some(user) = config.static_tokens.get(token) {
            return own_audiences(config, authenticated(user.clone()), audiences);
        }
        if let Ok(parsed) = BootstrapToken::parse(token)
            && let Some(user) = bootstrap::identify(&*server.store, &parsed)
        {
            return own_audiences(config, user, audiences);
        }
        let mut errors = Vec::new();
        if let Ok(jwt) = Jwt::parse(token) {
            if jwt.issuer() == config.issuer {
                match self.accounts.identify(config, &*server.store, token, audiences) {
                    Ok(identity) => return Ok(identity),
                    Err(error) => errors.push(error),
                }
            } else if let Some(found) = self.issued(server, token, &jwt).await {
                match found {
                    Ok(user) => return own_audiences(config, authenticated(user), audiences),
                    Err(error) => errors.push(error),
                }
            }
        }
        if let Some(webhook) = &self.webhook {
            match webhook.identify(token, audiences).await {
                Ok(Some(identity)) => return Ok(Identity { user: authenticated(identity.user), ..identity }),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        errors.insert(0, "invalid bearer token".to_owned());
        Err(if let [one] = errors.as_slice() { one.clone() } else { format!("[{}]", errors.join(", ")) })
    }

    /// The user of a token of a configured issuer; `None` when there is no such issuer.
    async fn issued(&self, server: &Server, token: &str, jwt: &Jwt<'_>) -> Option<Result<UserInfo, String>> {
        let setup = self.setup.load_full();
        let issuer = setup.issuers.iter().find(|issuer| issuer.url() == jwt.issuer())?;
        // Another configuration may judge the same token otherwise.
        let mut digest = Sha256::new();
        digest.update((Arc::as_ptr(&setup) as usize).to_be_bytes());
        digest.update(token.as_bytes());
        let key: [u8; 32] = digest.finalize().into();
        if let Some(user) = self.recent.get(&key) {
            return Some(Ok(user));
        }
        let found = issuer.identify(&server.outgoing, jwt).await;
        if let Ok(user) = &found {
            self.recent.put(key, user.clone(), CACHED_TOKEN_TTL);
        }
        Some(found)
    }
}

/// For tokens that say nothing of audiences: they are this API's. Source: `authenticator.WrapAudienceAgnosticToken`.
fn own_audiences(config: &Config, user: UserInfo, audiences: &[&str]) -> Result<Identity, String> {
    let own = config.audiences();
    let meant: Vec<String> =
        audiences.iter().filter(|audience| own.contains(audience)).map(|&audience| audience.to_owned()).collect();
    if meant.is_empty() {
        return Err(format!("token audiences {own:?} is invalid for the target audiences {audiences:?}"));
    }
    Ok(Identity { user, audiences: meant })
}

/// What a request that was refused showed, for the audit log. Source: `getAuthMethods`.
pub(crate) fn attempted(parts: &Parts) -> String {
    let mut methods = Vec::new();
    let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.trim().split_once(' ') {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("basic") => methods.push("basic"),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("bearer") => methods.push("bearer"),
        _ => {}
    }
    let peer = parts.extensions.get::<Peer>();
    if peer.is_some_and(|peer| peer.is_unknown || peer.user.is_some() || peer.proxy.is_some()) {
        methods.push("x509");
    }
    if methods.is_empty() {
        return "Authentication failed, no credentials provided".to_owned();
    }
    format!("Authentication failed, attempted: {}", methods.join(", "))
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
