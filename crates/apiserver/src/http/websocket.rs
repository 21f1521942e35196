//! Watches and logs as WebSocket messages, for clients that cannot read a body while it grows.
//! Source: `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, `k8s.io/apimachinery/pkg/util/httpstream/wsstream`.

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use coracle_api_meta::Status;
use coracle_client::{Body, BoxError};
use coracle_streams::ws::{Message, Reader, Role, Writer};
use coracle_streams::{UpgradeKind, accept_messages, is_upgrade};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Ctx, Reply};

/// Protocols of a stream of bytes; without one, bytes are sent as they are.
const BYTES: [&str; 2] = ["binary.k8s.io", "base64.binary.k8s.io"];
/// An event that is longer ends the watch.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// A request whose answer goes out as messages.
pub(super) struct Opening {
    client: OnUpgrade,
    headers: HeaderMap,
    watch: bool,
}

impl Opening {
    /// Takes the upgrade from a request for a watch or a log that asks for one.
    pub(super) fn take(ctx: &Ctx, request: &mut Request<Body>) -> Option<Self> {
        let watch = ctx.info.is_resource && ctx.info.verb == "watch";
        let log = ctx.info.is_resource && ctx.info.verb == "get" && ctx.info.subresource == "log";
        if !(watch || log) || is_upgrade(request.headers()) != Some(UpgradeKind::WebSocket) {
            return None;
        }
        let client = hyper::upgrade::on(&mut *request);
        request.headers_mut().remove(http::header::UPGRADE);
        request.headers_mut().remove(http::header::CONNECTION);
        Some(Self { client, headers: ctx.headers.clone(), watch })
    }

    /// Switches, and sends the body of `answer` as messages. Answers that are failures stay as they are.
    pub(super) fn switch(self, ctx: &Ctx, answer: Reply) -> Result<Reply, Status> {
        if answer.status() != StatusCode::OK {
            return Ok(answer);
        }
        let supported = if self.watch { &[][..] } else { &BYTES[..] };
        let (response, protocol) =
            accept_messages(&self.headers, supported).map_err(|error| Status::bad_request(error.to_string()))?;
        let stopping = ctx.server.stopping().clone();
        let (client, lines) = (self.client, self.watch);
        let text = protocol == "base64.binary.k8s.io";
        tokio::spawn(async move {
            let Ok(io) = client.await else { return };
            let (from, to) = tokio::io::split(TokioIo::new(io));
            let mut to = Writer::new(to, Role::Server);
            tokio::select! {
                sent = send(answer.into_body(), &mut to, lines, text) => {
                    if sent.is_ok() {
                        // The client is gone otherwise.
                        let _ = to.close().await;
                    }
                }
                () = until_closed(Reader::new(from)) => {}
                () = stopping.cancelled() => {}
            }
        });
        Ok(response)
    }
}

/// What the client sends means nothing, but its farewell.
async fn until_closed<R: tokio::io::AsyncRead + Unpin>(mut from: Reader<R>) {
    while let Ok(Some(message)) = from.next().await {
        if matches!(message, Message::Close) {
            return;
        }
    }
}

async fn send<W>(mut body: Body, to: &mut Writer<W>, lines: bool, text: bool) -> Result<(), BoxError>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame?.into_data() else { continue };
        if lines {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                to.text(&[&rest.split_to(end + 1)]).await?;
            }
            if rest.len() > EVENT_BYTES_MAX {
                return Err("an event is too long".into());
            }
        } else {
            send_bytes(to, &chunk, text).await?;
        }
    }
    Ok(())
}

async fn send_bytes<W>(to: &mut Writer<W>, chunk: &Bytes, text: bool) -> Result<(), BoxError>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    if text {
        to.text(&[base64::engine::general_purpose::STANDARD.encode(chunk).as_bytes()]).await?;
    } else {
        to.binary(&[chunk]).await?;
    }
    Ok(())
}
