//! Passing a request on to a kubelet or a pod over a stream, upgrades included: after a 101 both sides are tied together.

use coracle_api_meta::Status;
use coracle_client::{Body, BoxError};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use crate::config::ByteStream;
use crate::http::Reply;
use crate::server::Server;

/// Headers of one hop, which are not passed on. Source: RFC 9110 section 7.6.1.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get(header::CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    headers.contains_key(header::UPGRADE) && connection.to_ascii_lowercase().contains("upgrade")
}

pub(crate) fn clean(headers: &mut HeaderMap, keep_upgrade: bool) {
    for name in HOP_BY_HOP {
        if keep_upgrade && matches!(name, "connection" | "upgrade") {
            continue;
        }
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
    let secret: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in secret {
        headers.remove(name);
    }
}

fn unreachable(error: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {error}"))
}

/// Sends `request` over `stream` with `path` as its target, and gives back the answer.
pub(crate) async fn forward(
    server: &std::sync::Arc<Server>,
    stream: Box<dyn ByteStream>,
    host: &str,
    path: &str,
    mut request: Request<Body>,
) -> Result<Reply, Status> {
    let upgrade = wants_upgrade(request.headers());
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    tokio::spawn(connection.with_upgrades());
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    clean(&mut headers, upgrade);
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(Status::internal)?);
    let mut outgoing = Request::new(SyncBody::new(body));
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = path.parse().map_err(|error| Status::bad_request(format!("path {path:?}: {error}")))?;
    *outgoing.headers_mut() = headers;
    let mut answer = sender.send_request(outgoing).await.map_err(|error| unreachable(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let mut reply = answer.map(|body| body.map_err(BoxError::from).boxed_unsync());
        clean(reply.headers_mut(), false);
        return Ok(reply);
    }
    let Some(client) = client else { return Err(unreachable(&"an upgrade that nobody asked for")) };
    let backend = hyper::upgrade::on(&mut answer);
    let stopping = server.stopping().clone();
    tokio::spawn(async move {
        let (Ok(client), Ok(backend)) = tokio::join!(client, backend) else { return };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut backend) => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(answer.map(|_| coracle_client::full_body(bytes::Bytes::new())))
}

/// A body that can be handed to a connection, which wants nothing shared.
type SyncBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;
