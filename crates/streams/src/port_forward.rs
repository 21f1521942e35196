//! Port-forward, on the server's side.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::spdy::{Role, Session, Stream};
use crate::upgrade::{choose, is_upgrade, switching};
use crate::ws::{Message, Reader, Writer};
use crate::{Error, Io, Result, UpgradeKind, tunnel, ws};

const SPDY: [&str; 1] = ["portforward.k8s.io"];
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const WEBSOCKET: [&str; 5] =
    [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "portforward.k8s.io", "base64.channel.k8s.io"];
/// Halves of pairs that wait for the other one.
const UNPAIRED_MAX: usize = 256;
/// Ports of one plain WebSocket request.
const PORTS_MAX: usize = 32;
const CHUNK_BYTES: usize = 32 << 10;

/// A connection to a port of the pod; pinned, as the runtime hands it out.
pub type Connection = Pin<Box<dyn Duplex>>;

/// A byte stream in both directions that cannot be moved.
pub trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send> Duplex for T {}

pub type Dialing = Pin<Box<dyn Future<Output = std::result::Result<Connection, String>> + Send>>;
/// Opens a connection to a port; the error is shown to the client.
pub type Dial = Arc<dyn Fn(u16) -> Dialing + Send + Sync>;

/// A request that was answered with 101.
pub struct PortForwardUpgrade {
    kind: UpgradeKind,
    protocol: &'static str,
    ports: Vec<u16>,
    upgrade: hyper::upgrade::OnUpgrade,
}

/// Answers an upgrade request. `ports` come from the query; SPDY names them later.
pub fn accept<B: Default>(request: &mut Request<Incoming>, ports: &[u16]) -> Result<(Response<B>, PortForwardUpgrade)> {
    let kind = is_upgrade(request.headers()).ok_or_else(|| Error::BadRequest("Upgrade request required".to_owned()))?;
    let protocol = match kind {
        UpgradeKind::Spdy => choose(request.headers(), kind, &SPDY)?,
        UpgradeKind::WebSocket => choose(request.headers(), kind, &WEBSOCKET)?,
    };
    let plain = kind == UpgradeKind::WebSocket && protocol != TUNNEL;
    if plain && (ports.is_empty() || ports.len() > PORTS_MAX) {
        return Err(Error::BadRequest("query parameter \"port\" is required".to_owned()));
    }
    let response = switching(request.headers(), kind, protocol)?;
    let upgrade = hyper::upgrade::on(request);
    Ok((response, PortForwardUpgrade { kind, protocol, ports: ports.to_vec(), upgrade }))
}

impl PortForwardUpgrade {
    /// Forwards until the client ends.
    pub async fn serve(self, dial: Dial) -> Result<()> {
        let io = TokioIo::new(self.upgrade.await?);
        match (self.kind, self.protocol) {
            (UpgradeKind::Spdy, _) => serve_spdy(io, dial).await,
            (UpgradeKind::WebSocket, TUNNEL) => serve_spdy(tunnel::over_websocket(io, ws::Role::Server), dial).await,
            (UpgradeKind::WebSocket, name) => serve_websocket(io, name.contains("base64"), &self.ports, &dial).await,
        }
    }
}

/// Each forwarded connection is a pair of streams with one request id: `error` and `data`.
pub async fn serve_spdy(io: impl Io, dial: Dial) -> Result<()> {
    let mut session = Session::start(io, Role::Server)?;
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    while let Some(stream) = session.accept().await {
        let id = match stream.headers.get("requestid") {
            // Old clients have none: streams come in pairs, the error stream first.
            "" => (if stream.headers.get("streamtype") == "error" { stream.id } else { stream.id - 2 }).to_string(),
            id => id.to_owned(),
        };
        let Some(other) = waiting.remove(&id) else {
            if waiting.len() >= UNPAIRED_MAX {
                return Err(Error::protocol("too many streams without their pair"));
            }
            waiting.insert(id, stream);
            continue;
        };
        let (error, data) = if other.headers.get("streamtype") == "error" { (other, stream) } else { (stream, other) };
        let work = forward(error, data, dial.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(work));
    }
    Ok(())
}

async fn forward(mut error: Stream, data: Stream, dial: Dial) {
    let port = data.headers.get("port").parse::<u16>().unwrap_or(0);
    let failure = match dial(port).await {
        Ok(connection) => copy(connection, data).await.err().map(|error| error.to_string()),
        Err(failure) => Some(failure),
    };
    if let Some(failure) = failure {
        let text = format!("error forwarding port {port} to pod: {failure}");
        let _ = error.writer.write_all(text.as_bytes()).await;
    }
    let _ = error.writer.shutdown().await;
}

async fn copy(connection: Connection, data: Stream) -> std::io::Result<()> {
    let (mut from_pod, mut to_pod) = tokio::io::split(connection);
    let Stream { mut reader, mut writer, .. } = data;
    let upward = async {
        let result = tokio::io::copy(&mut reader, &mut to_pod).await;
        let _ = to_pod.shutdown().await;
        result
    };
    let downward = async {
        let result = tokio::io::copy(&mut from_pod, &mut writer).await;
        let _ = writer.shutdown().await;
        result
    };
    // The pod's end is the end: what the client still sends has nobody to read it.
    tokio::pin!(upward);
    tokio::pin!(downward);
    tokio::select! {
        result = &mut downward => result.map(drop),
        result = &mut upward => {
            result?;
            downward.await.map(drop)
        }
    }
}

/// The plain protocol: port `i` has channel `2i` for data and `2i+1` for errors; each begins with the port's number.
async fn serve_websocket(io: impl Io, base64: bool, ports: &[u16], dial: &Dial) -> Result<()> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let (read, write) = tokio::io::split(io);
    let mut reader = Reader::new(read);
    let mut writer = Writer::new(write, ws::Role::Server);
    let (out, mut queue) = tokio::sync::mpsc::channel::<(u8, Vec<u8>)>(UNPAIRED_MAX);
    let mut inputs = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let channel = u8::try_from(index * 2).map_err(|_| Error::protocol("too many ports"))?;
        for channel in [channel, channel + 1] {
            let _ = out.try_send((channel, port.to_le_bytes().to_vec()));
        }
        let (ours, theirs) = tokio::io::duplex(CHUNK_BYTES * 2);
        inputs.push(theirs);
        tokio::spawn(forward_channel(channel, *port, ours, dial.clone(), out.clone()));
    }
    drop(out);
    let (mut sources, mut sinks): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for input in inputs {
        let (source, sink) = tokio::io::split(input);
        sources.push(source);
        sinks.push(sink);
    }
    loop {
        tokio::select! {
            item = queue.recv() => match item {
                Some((channel, bytes)) if base64 => {
                    writer.text(&[&[b'0' + channel], engine.encode(bytes).as_bytes()]).await?;
                }
                Some((channel, bytes)) => writer.binary(&[&[channel], &bytes]).await?,
                None => return writer.close().await,
            },
            message = reader.next() => match message? {
                Some(Message::Binary(bytes) | Message::Text(bytes)) => {
                    let Some((&first, rest)) = bytes.split_first() else { continue };
                    let channel = if base64 { first.wrapping_sub(b'0') } else { first };
                    let rest = if base64 { engine.decode(rest).unwrap_or_default() } else { rest.to_vec() };
                    if channel % 2 == 0 && let Some(sink) = sinks.get_mut(usize::from(channel / 2)) {
                        let _ = sink.write_all(&rest).await;
                    }
                }
                Some(Message::Ping(bytes)) => writer.pong(&bytes).await?,
                Some(Message::Pong(_)) => {}
                Some(Message::Close) | None => return Ok(()),
            },
        }
    }
}

async fn forward_channel(
    channel: u8,
    port: u16,
    client: tokio::io::DuplexStream,
    dial: Dial,
    out: tokio::sync::mpsc::Sender<(u8, Vec<u8>)>,
) {
    let connection = match dial(port).await {
        Ok(connection) => connection,
        Err(failure) => {
            let text = format!("error forwarding port {port} to pod: {failure}");
            let _ = out.send((channel + 1, text.into_bytes())).await;
            return;
        }
    };
    let (mut from_pod, mut to_pod) = tokio::io::split(connection);
    let (mut from_client, _keep) = tokio::io::split(client);
    let upward = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_pod).await;
        std::future::pending::<()>().await;
    };
    let downward = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count) = from_pod.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
            if out.send((channel, bytes.to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
    }
}
