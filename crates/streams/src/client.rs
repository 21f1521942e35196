//! The client's side, over connections that the server has already switched.

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

use crate::remote::{BoxRead, PieceReader};
use crate::spdy::{Headers, Role as SpdyRole, Session, Stream};
use crate::ws::{Message, Reader, Role, Writer};
use crate::{Io, Result, tunnel};

const PIECES_MAX: usize = 16;
const PIPE_BYTES: usize = 64 << 10;
const CHUNK_BYTES: usize = 32 << 10;
const PROTOCOL: &str = "v5.channel.k8s.io";
const PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

/// Which streams are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteClientOptions {
    pub stdin: bool,
}

/// A running remote command.
pub struct RemoteClient {
    /// What is written here reaches the command; dropping it ends the command's input.
    pub stdin: Option<tokio::io::DuplexStream>,
    pub stdout: BoxRead,
    pub stderr: BoxRead,
    /// Width and height of the terminal.
    pub resize: mpsc::Sender<(u16, u16)>,
    /// The `Status` with which the command ended; nothing when the connection broke.
    pub status: oneshot::Receiver<Value>,
}

fn upgrade_headers(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    // The key only has to be different from what a cache could have seen; the answer is not a secret.
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("Y29yYWNsZS1jbGllbnQtMQ=="));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    headers
}

impl RemoteClient {
    /// Headers of the request that asks for the switch.
    #[must_use]
    pub fn request_headers() -> HeaderMap {
        upgrade_headers(PROTOCOL)
    }

    /// Begins on a connection that was switched to `v5.channel.k8s.io`.
    #[must_use]
    pub fn start(io: impl Io, options: RemoteClientOptions) -> Self {
        let (read, write) = tokio::io::split(io);
        let (out_sender, stdout) = mpsc::channel(PIECES_MAX);
        let (err_sender, stderr) = mpsc::channel(PIECES_MAX);
        let (status_sender, status) = oneshot::channel();
        let (queue, messages) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
        let (resize, sizes) = mpsc::channel(PIECES_MAX);
        tokio::spawn(receive(Reader::new(read), out_sender, err_sender, status_sender));
        tokio::spawn(send(Writer::new(write, Role::Client), messages));
        tokio::spawn(send_sizes(sizes, queue.clone()));
        let stdin = options.stdin.then(|| {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            tokio::spawn(send_input(theirs, queue));
            ours
        });
        Self {
            stdin,
            stdout: Box::pin(PieceReader::new(stdout)),
            stderr: Box::pin(PieceReader::new(stderr)),
            resize,
            status,
        }
    }
}

async fn receive<R: tokio::io::AsyncRead + Unpin>(
    mut reader: Reader<R>,
    stdout: mpsc::Sender<Bytes>,
    stderr: mpsc::Sender<Bytes>,
    status: oneshot::Sender<Value>,
) {
    let mut status = Some(status);
    while let Ok(Some(message)) = reader.next().await {
        let Message::Binary(mut bytes) = message else { if message == Message::Close { break } else { continue } };
        if bytes.len() < 2 {
            continue;
        }
        let payload = bytes.split_off(1);
        match bytes.first() {
            Some(1) => drop(stdout.send(payload).await),
            Some(2) => drop(stderr.send(payload).await),
            Some(3) => {
                if let (Some(status), Ok(value)) = (status.take(), serde_json::from_slice(&payload)) {
                    let _ = status.send(value);
                }
            }
            _ => {}
        }
    }
}

async fn send<W: tokio::io::AsyncWrite + Unpin>(mut writer: Writer<W>, mut messages: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if writer.binary(&[&message]).await.is_err() {
            return;
        }
    }
}

async fn send_sizes(mut sizes: mpsc::Receiver<(u16, u16)>, queue: mpsc::Sender<Vec<u8>>) {
    while let Some((width, height)) = sizes.recv().await {
        let mut message = vec![4];
        message.extend_from_slice(format!("{{\"Width\":{width},\"Height\":{height}}}").as_bytes());
        if queue.send(message).await.is_err() {
            return;
        }
    }
}

async fn send_input(mut input: tokio::io::DuplexStream, queue: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count) = input.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        let mut message = vec![0];
        message.extend_from_slice(bytes);
        if queue.send(message).await.is_err() {
            return;
        }
    }
    // v5: channel 0 is closed.
    let _ = queue.send(vec![255, 0]).await;
}

/// Forwards ports over one connection.
pub struct PortForwardClient {
    session: Session,
    requests: std::sync::atomic::AtomicU64,
}

/// One forwarded connection.
pub struct Forwarded {
    pub data: Stream,
    /// Text of an error, at the end.
    pub error: BoxRead,
}

impl PortForwardClient {
    #[must_use]
    pub fn request_headers() -> HeaderMap {
        upgrade_headers(PORT_FORWARD)
    }

    /// Begins on a connection that was switched to SPDY tunnelled in WebSocket.
    pub fn start(io: impl Io) -> Result<Self> {
        let session = Session::start(tunnel::over_websocket(io, Role::Client), SpdyRole::Client)?;
        Ok(Self { session, requests: std::sync::atomic::AtomicU64::new(0) })
    }

    /// Opens a connection to a port of the pod.
    pub async fn connect(&self, port: u16) -> Result<Forwarded> {
        let id = self.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let port = port.to_string();
        let headers = |kind: &str| Headers::of(&[("streamtype", kind), ("port", &port), ("requestid", &id)]);
        let error = self.session.open(headers("error")).await?;
        let data = self.session.open(headers("data")).await?;
        // We never write to the error stream.
        drop(error.writer);
        Ok(Forwarded { data, error: Box::pin(error.reader) })
    }
}
