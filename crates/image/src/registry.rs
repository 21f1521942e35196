//! One repository of a registry: finding endpoints, authentication, redirects. Source: OCI distribution specification
//! 1.1, and the token authentication of the distribution registry.

use std::sync::{Mutex, PoisonError};

use base64::Engine;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use hyper::body::Incoming;

use crate::http::{Client, read_body};
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::pull::Credentials;
use crate::store::{Config, DOCUMENT_BYTES_MAX};
use crate::{Digest, Error, Reference, Result};

const REDIRECTS_MAX: usize = 10;
/// Largest answer of a token service, and of an error.
const SMALL_BODY_BYTES_MAX: u64 = 1 << 20;

/// A place to ask for a repository.
#[derive(Debug, Clone)]
struct Endpoint {
    /// `https://host:port`.
    base: String,
    is_mirror: bool,
}

/// A repository with what was learnt about reaching it.
pub(crate) struct Repository<'a> {
    client: &'a Client,
    reference: &'a Reference,
    credentials: &'a Credentials,
    endpoints: Vec<Endpoint>,
    /// `Authorization` header by endpoint, once one was asked for.
    authorization: Mutex<std::collections::BTreeMap<String, String>>,
}

impl<'a> Repository<'a> {
    pub fn new(client: &'a Client, config: &Config, reference: &'a Reference, credentials: &'a Credentials) -> Self {
        let host = if reference.registry == "docker.io" { "registry-1.docker.io" } else { &reference.registry };
        let mirrors = config.mirrors.get(&reference.registry).or_else(|| config.mirrors.get("*"));
        let mut endpoints = mirrors
            .into_iter()
            .flatten()
            .map(|base| Endpoint { base: base.trim_end_matches('/').to_owned(), is_mirror: true })
            .collect::<Vec<_>>();
        endpoints.push(Endpoint { base: format!("{}://{host}", client.scheme_of(host)), is_mirror: false });
        Self { client, reference, credentials, endpoints, authorization: Mutex::default() }
    }

    /// A manifest or an index by tag or digest.
    pub async fn manifest(&self, target: &str) -> Result<Vec<u8>> {
        let accept = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, "*/*"].join(", ");
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header(&accept)?);
        let response = self.get(&format!("manifests/{target}"), &headers).await?;
        let content = read_body(response.into_body(), DOCUMENT_BYTES_MAX).await?;
        match Digest::parse(target) {
            Ok(digest) if Digest::of(&content) != digest => {
                Err(Error::Corrupt(format!("manifest does not match its digest {digest}")))
            }
            _ => Ok(content),
        }
    }

    /// A small blob, checked.
    pub async fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let response = self.get(&format!("blobs/{digest}"), &HeaderMap::new()).await?;
        let content = read_body(response.into_body(), DOCUMENT_BYTES_MAX).await?;
        if Digest::of(&content) != *digest {
            return Err(Error::Corrupt(format!("blob does not match its digest {digest}")));
        }
        Ok(content)
    }

    /// A blob from byte `from` on; the answer says by its status whether it begins there (206) or at the beginning.
    pub async fn blob(&self, digest: &Digest, from: u64) -> Result<Response<Incoming>> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            headers.insert(RANGE, header(&format!("bytes={from}-"))?);
        }
        self.get(&format!("blobs/{digest}"), &headers).await
    }

    /// Asks the mirrors, then the registry itself, whose answer counts.
    async fn get(&self, path: &str, headers: &HeaderMap) -> Result<Response<Incoming>> {
        let mut last = Error::Registry("no endpoint".into());
        for endpoint in &self.endpoints {
            match self.get_at(endpoint, path, headers).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    if endpoint.is_mirror {
                        tracing::debug!(mirror = endpoint.base, %error, "a mirror does not help");
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn get_at(&self, endpoint: &Endpoint, path: &str, headers: &HeaderMap) -> Result<Response<Incoming>> {
        let uri = parse_uri(&format!("{}/v2/{}/{path}", endpoint.base, self.reference.repository))?;
        let known = self.known(&endpoint.base);
        let response = self.follow(&uri, headers, known.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.checked(response, &uri).await;
        }
        let challenges = challenges(response.headers());
        let authorization = self.authorize(&challenges).await?;
        let Some(authorization) = authorization else { return self.checked(response, &uri).await };
        self.remember(&endpoint.base, &authorization);
        let response = self.follow(&uri, headers, Some(&authorization)).await?;
        self.checked(response, &uri).await
    }

    fn remember(&self, base: &str, authorization: &str) {
        let mut all = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(base.to_owned(), authorization.to_owned());
    }

    fn known(&self, base: &str) -> Option<String> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).get(base).cloned()
    }

    /// Follows redirects; another host is not told our credentials.
    async fn follow(&self, uri: &Uri, headers: &HeaderMap, authorization: Option<&str>) -> Result<Response<Incoming>> {
        let mut current = uri.clone();
        for _ in 0..REDIRECTS_MAX {
            let mut headers = headers.clone();
            if let (Some(value), true) = (authorization, current.authority() == uri.authority()) {
                headers.insert(AUTHORIZATION, header(value)?);
            }
            let response = self.client.send(Method::GET, &current, headers, Bytes::new()).await?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match location {
                Some(location) if response.status().is_redirection() => current = join(&current, location)?,
                _ => return Ok(response),
            }
        }
        Err(Error::Registry(format!("{uri} redirects more than {REDIRECTS_MAX} times")))
    }

    /// Answers a challenge: what to send as `Authorization`. `None` when nothing can be done about it.
    async fn authorize(&self, challenges: &[Challenge]) -> Result<Option<String>> {
        let credentials = self.credentials;
        if !credentials.registry_token.is_empty() {
            return Ok(Some(format!("Bearer {}", credentials.registry_token)));
        }
        for challenge in challenges {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                return Ok(Some(format!("Bearer {}", self.token(challenge).await?)));
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") && !credentials.username.is_empty() {
                return Ok(Some(credentials.basic()));
            }
        }
        Ok(None)
    }

    async fn token(&self, challenge: &Challenge) -> Result<String> {
        let realm =
            challenge.get("realm").ok_or_else(|| Error::Registry("no realm in the registry's challenge".into()))?;
        let scope = challenge.get("scope").map(str::to_owned);
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        let mut fields = vec![("scope", scope)];
        if let Some(service) = challenge.get("service") {
            fields.push(("service", service.to_owned()));
        }
        let (mut headers, credentials) = (HeaderMap::new(), self.credentials);
        let response = if credentials.identity_token.is_empty() {
            if !credentials.username.is_empty() {
                headers.insert(AUTHORIZATION, header(&credentials.basic())?);
            }
            let separator = if realm.contains('?') { '&' } else { '?' };
            let uri = parse_uri(&format!("{realm}{separator}{}", form(&fields)))?;
            self.client.send(Method::GET, &uri, headers, Bytes::new()).await?
        } else {
            fields.push(("grant_type", "refresh_token".to_owned()));
            fields.push(("refresh_token", credentials.identity_token.clone()));
            fields.push(("client_id", "coracle".to_owned()));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            self.client.send(Method::POST, &parse_uri(realm)?, headers, form(&fields).into()).await?
        };
        let status = response.status();
        if !status.is_success() {
            let text =
                format!("failed to authorize: failed to fetch oauth token: unexpected status from {realm}: {status}");
            return Err(if status.is_client_error() { Error::Denied(text) } else { Error::Registry(text) });
        }
        #[derive(serde::Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let body = read_body(response.into_body(), SMALL_BODY_BYTES_MAX).await?;
        let token: Token = serde_json::from_slice(&body)
            .map_err(|error| Error::Registry(format!("unreadable answer of the token service {realm}: {error}")))?;
        let token = token.token.or(token.access_token);
        token.ok_or_else(|| Error::Registry(format!("the token service {realm} gave no token")))
    }

    /// Turns what is not a success into an error, with what the registry says about it.
    async fn checked(&self, response: Response<Incoming>, uri: &Uri) -> Result<Response<Incoming>> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = read_body(response.into_body(), SMALL_BODY_BYTES_MAX).await.unwrap_or_default();
        let said = server_message(&said);
        Err(match status {
            StatusCode::NOT_FOUND => Error::NotFound(format!("{}: not found", self.reference)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied(format!(
                "pull access denied, repository does not exist or may require authorization: server message: {}",
                said.unwrap_or_else(|| "insufficient_scope: authorization failed".to_owned())
            )),
            _ => {
                let said = said.map(|text| format!(": {text}")).unwrap_or_default();
                Error::Registry(format!("unexpected status from GET request to {uri}: {status}{said}"))
            }
        })
    }
}

/// Source: OCI distribution specification, error codes.
fn server_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let first = value.get("errors")?.get(0)?;
    let part = |name: &str| first.get(name).and_then(|part| part.as_str()).unwrap_or_default().to_owned();
    Some(format!("{}: {}", part("code").to_lowercase(), part("message")))
}

/// One `WWW-Authenticate` challenge. Source: RFC 9110 section 11.6.1.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.map(parse_challenge).collect()
}

fn parse_challenge(text: &str) -> Challenge {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let mut parameters = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_owned();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.push((name, value.trim().to_owned()));
        rest = next;
    }
    Challenge { scheme: scheme.to_owned(), parameters }
}

impl Credentials {
    fn basic(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }
}

fn form(fields: &[(&str, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn header(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value).map_err(|_| Error::Denied("credentials hold characters that cannot be sent".into()))
}

fn parse_uri(text: &str) -> Result<Uri> {
    let uri = text.parse::<Uri>().ok().filter(|uri| uri.authority().is_some() && uri.scheme().is_some());
    uri.ok_or_else(|| Error::Registry(format!("{text:?} is not a URL")))
}

/// Where a redirect leads.
fn join(from: &Uri, location: &str) -> Result<Uri> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return parse_uri(location);
    }
    let (scheme, authority) = (from.scheme_str().unwrap_or("https"), from.authority().map_or("", |it| it.as_str()));
    if let Some(rest) = location.strip_prefix("//") {
        return parse_uri(&format!("{scheme}://{rest}"));
    }
    let path = location.trim_start_matches('/');
    parse_uri(&format!("{scheme}://{authority}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push""#;
        let challenge = parse_challenge(text);
        assert_eq!(challenge.scheme, "Bearer");
        let values = ["realm", "service", "scope", "error"].map(|name| challenge.get(name));
        let expected = [Some("https://auth.test/token"), Some("registry.test"), Some("repository:a/b:pull,push"), None];
        assert_eq!(values, expected);
        assert_eq!(parse_challenge("Basic realm=x").get("realm"), Some("x"));
        assert_eq!(parse_challenge("Basic").scheme, "Basic");
    }

    #[test]
    fn redirects_lead_on() {
        let from = parse_uri("https://a.test/v2/x").unwrap();
        let check = |location: &str, expected: &str| assert_eq!(join(&from, location).unwrap().to_string(), expected);
        check("https://b.test/y?z=1", "https://b.test/y?z=1");
        check("/y", "https://a.test/y");
        check("//c.test/y", "https://c.test/y");
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
