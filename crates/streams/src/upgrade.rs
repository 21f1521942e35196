//! The HTTP side: which protocol a request asks for, and the answer that switches to it.

use base64::Engine as _;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use sha1::{Digest, Sha1};

use crate::{Error, Result};

/// Names the remote protocols that a SPDY client can speak, and the one that the server chose.
pub(crate) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Source: RFC 6455, section 1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeKind {
    WebSocket,
    Spdy,
}

/// Whether a request asks to switch, and to what.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> Option<UpgradeKind> {
    if !has_token(headers, &CONNECTION, "upgrade") {
        return None;
    }
    if has_token(headers, &UPGRADE, "websocket") {
        return Some(UpgradeKind::WebSocket);
    }
    has_token(headers, &UPGRADE, "spdy/3.1").then_some(UpgradeKind::Spdy)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).iter().any(|other| other.eq_ignore_ascii_case(token))
}

pub(crate) fn tokens(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|token| token.trim().to_owned()).filter(|t| !t.is_empty()).collect()
}

/// The first protocol of `supported` that the client offers; none offered is the empty string.
pub(crate) fn choose(headers: &HeaderMap, kind: UpgradeKind, supported: &[&'static str]) -> Result<&'static str> {
    let header = match kind {
        UpgradeKind::WebSocket => &SEC_WEBSOCKET_PROTOCOL,
        UpgradeKind::Spdy => &STREAM_PROTOCOL,
    };
    let offered = tokens(headers, header);
    if offered.is_empty() {
        return Ok("");
    }
    let found = supported.iter().find(|name| offered.iter().any(|other| other == *name));
    found.copied().ok_or_else(|| {
        Error::BadRequest(format!(
            "unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            supported.join(" ")
        ))
    })
}

/// The answer that switches protocols.
pub(crate) fn switching<B: Default>(headers: &HeaderMap, kind: UpgradeKind, protocol: &str) -> Result<Response<B>> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let name = match kind {
        UpgradeKind::WebSocket => {
            let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Error::BadRequest("no Sec-WebSocket-Key".into()))?;
            answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
            let accept = HeaderValue::from_str(&accept_key(key.as_bytes()));
            answer.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(|error| Error::BadRequest(error.to_string()))?);
            SEC_WEBSOCKET_PROTOCOL
        }
        UpgradeKind::Spdy => {
            answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            STREAM_PROTOCOL
        }
    };
    if let Ok(value) = HeaderValue::from_str(protocol)
        && !protocol.is_empty()
    {
        answer.insert(name, value);
    }
    Ok(response)
}

/// A client's token travels as the name of a protocol, which is no protocol.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// Answers a request for a WebSocket whose messages carry one body, and names the protocol that was chosen: the first of
/// `supported` that the client offers, none if the client offers none or if `supported` is empty.
pub fn accept_messages<B: Default>(
    headers: &HeaderMap,
    supported: &[&'static str],
) -> Result<(Response<B>, &'static str)> {
    let offered = tokens(headers, &SEC_WEBSOCKET_PROTOCOL);
    let named = offered.iter().any(|name| !name.starts_with(BEARER));
    let protocol =
        if named && !supported.is_empty() { choose(headers, UpgradeKind::WebSocket, supported)? } else { "" };
    Ok((switching(headers, UpgradeKind::WebSocket, protocol)?, protocol))
}

pub(crate) fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(WEBSOCKET_GUID);
    base64::engine::general_purpose::STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn upgrades_are_recognised() {
        let mut headers = HeaderMap::new();
        assert_eq!(is_upgrade(&headers), None);
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        assert_eq!(is_upgrade(&headers), Some(UpgradeKind::Spdy));
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert_eq!(is_upgrade(&headers), Some(UpgradeKind::WebSocket));
    }
}
