//! Remote commands: exec and attach, on the server's side.

mod spdy_side;
mod websocket_side;

use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::upgrade::{choose, is_upgrade, switching};
use crate::{Error, Result, UpgradeKind};

/// Sizes of a terminal that wait to be applied.
pub(crate) const RESIZES_MAX: usize = 16;
/// How long a SPDY client may take to open its streams. Source: kubelet `DefaultStreamCreationTimeout`.
pub(crate) const STREAMS_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Which streams a client asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A version of the remote command protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// No status: errors are plain text.
    V1,
    V4,
    /// Also closes single streams.
    V5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) version: Version,
    pub(crate) base64: bool,
}

const WEBSOCKET: [&str; 5] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"];
const SPDY: [&str; 5] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

impl Protocol {
    fn of(name: &str) -> Self {
        let version = match name {
            _ if name.starts_with("v5.") => Version::V5,
            _ if name.starts_with("v4.") => Version::V4,
            _ => Version::V1,
        };
        Self { version, base64: name.contains("base64.") }
    }
}

pub type BoxRead = Pin<Box<dyn AsyncRead + Send>>;
pub type BoxWrite = Pin<Box<dyn AsyncWrite + Send>>;

/// The streams of one client.
pub struct RemoteStreams {
    /// What the client types; ends when it closes the stream.
    pub stdin: Option<BoxRead>,
    pub stdout: Option<BoxWrite>,
    pub stderr: Option<BoxWrite>,
    /// Width and height of the client's terminal.
    pub resize: mpsc::Receiver<(u16, u16)>,
    /// Cancelled when the client has gone.
    pub gone: tokio_util::sync::CancellationToken,
    pub outcome: Outcome,
}

/// Where the result goes, after all output.
pub struct Outcome {
    pub(crate) version: Version,
    pub(crate) sink: mpsc::Sender<Finish>,
    pub(crate) done: tokio::sync::oneshot::Receiver<()>,
}

/// The last word of a session.
pub(crate) struct Finish(pub(crate) Vec<u8>);

impl Outcome {
    /// The command has ended with this code.
    pub async fn exited(self, code: i32) {
        let status = if code == 0 { success() } else { exit_status(code) };
        self.send(&status).await;
    }

    /// The command could not be run.
    pub async fn failed(self, message: &str) {
        self.send(&failure(message)).await;
    }

    async fn send(self, status: &Value) {
        let bytes = match self.version {
            Version::V1 if status.get("status").and_then(Value::as_str) == Some("Success") => Vec::new(),
            Version::V1 => status.get("message").and_then(Value::as_str).unwrap_or_default().as_bytes().to_vec(),
            _ => status.to_string().into_bytes(),
        };
        if self.sink.send(Finish(bytes)).await.is_ok() {
            // The connection must not end before the status is on its way.
            let _ = self.done.await;
        }
    }
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn failure(message: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
        "details": {"causes": [{"message": message}]}, "code": 500,
    })
}

fn exit_status(code: i32) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// A request that was answered with 101; its streams follow.
pub struct RemoteUpgrade {
    kind: UpgradeKind,
    protocol: Protocol,
    options: RemoteOptions,
    upgrade: hyper::upgrade::OnUpgrade,
}

/// Answers an upgrade request. The response has to be sent before the streams can come.
pub fn accept<B: Default>(
    request: &mut Request<Incoming>,
    options: RemoteOptions,
) -> Result<(Response<B>, RemoteUpgrade)> {
    let kind = is_upgrade(request.headers()).ok_or_else(|| Error::BadRequest("Upgrade request required".to_owned()))?;
    if !(options.stdin || options.stdout || options.stderr) {
        return Err(Error::BadRequest("you must specify at least 1 of stdin, stdout, stderr".to_owned()));
    }
    let supported = if kind == UpgradeKind::WebSocket { &WEBSOCKET } else { &SPDY };
    let protocol = choose(request.headers(), kind, supported)?;
    let response = switching(request.headers(), kind, protocol)?;
    let upgrade = hyper::upgrade::on(request);
    Ok((response, RemoteUpgrade { kind, protocol: Protocol::of(protocol), options, upgrade }))
}

impl RemoteUpgrade {
    /// Waits for the switch and for the client's streams.
    pub async fn streams(self) -> Result<RemoteStreams> {
        let io = TokioIo::new(self.upgrade.await?);
        match self.kind {
            UpgradeKind::WebSocket => Ok(websocket_side::serve(io, self.protocol, self.options)),
            UpgradeKind::Spdy => spdy_side::serve(io, self.protocol, self.options).await,
        }
    }
}

/// Reads `{"Width":80,"Height":24}`.
pub(crate) fn parse_size(text: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let number = |name: &str| value.get(name).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
    Some((number("Width")?, number("Height")?))
}

/// Reads from a channel of pieces.
pub(crate) struct PieceReader {
    pub(crate) pieces: mpsc::Receiver<Bytes>,
    pub(crate) rest: Bytes,
}

impl PieceReader {
    pub(crate) fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, rest: Bytes::new() }
    }
}

impl AsyncRead for PieceReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        use std::task::Poll;
        while self.rest.is_empty() {
            match self.pieces.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(piece)) => self.rest = piece,
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}
