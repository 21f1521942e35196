//! `exec`, over the WebSocket protocol `v5.channel.k8s.io` (KEP-4006).

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use bytes::Bytes;
use clap::Args;
use coracle_api_meta::{Gvr, Status, Value};
use coracle_client::{DynamicApi, Error, HttpTransport, Transport as _};
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketRead, WebSocketWrite};
use http::{Request, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncReadExt as _, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use super::connection::{Connection, worded};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Bytes of one message to the server.
const CHUNK_BYTES: usize = 32 << 10;

#[derive(Debug, Args)]
pub struct Options {
    /// Pod.
    pod: String,
    /// Command and its arguments.
    #[arg(last = true)]
    command: Vec<String>,
    /// Container, where the pod has several.
    #[arg(long, short)]
    container: Option<String>,
    /// Passes standard input on.
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Gives the command a terminal.
    #[arg(long, short)]
    tty: bool,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    if options.command.is_empty() {
        bail!("error: you must specify at least one command for the container");
    }
    let tty = options.tty && termios::isatty(std::io::stdin());
    if options.tty && !tty {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let socket = open(connection, options, tty).await?;
    let (read, write) = socket.split(tokio::io::split);
    let raw = if tty { Some(RawTerminal::enter()?) } else { None };
    let input = tokio::spawn(send(write, options.stdin, tty));
    let status = receive(read).await;
    input.abort();
    drop(raw);
    finish(status?)
}

fn uri(connection: &Connection, options: &Options, tty: bool) -> String {
    let api = DynamicApi::namespaced(&connection.client, &Gvr::new("", "v1", "pods"), &connection.namespace);
    let pod = options.pod.trim_start_matches("pod/").trim_start_matches("pods/");
    let escape = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
    let mut uri = format!("{}?stdout=true", api.path(pod, "exec"));
    for (name, wanted) in [("stderr", !tty), ("stdin", options.stdin), ("tty", tty)] {
        if wanted {
            uri.push_str(&format!("&{name}=true"));
        }
    }
    if let Some(container) = &options.container {
        uri.push_str(&format!("&container={}", escape(container)));
    }
    for word in &options.command {
        uri.push_str(&format!("&command={}", escape(word)));
    }
    uri
}

async fn open(connection: &Connection, options: &Options, tty: bool) -> Result<WebSocket<TokioIo<Upgraded>>> {
    let key = base64::engine::general_purpose::STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
    let request = Request::get(uri(connection, options, tty))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io, v4.channel.k8s.io")
        .body(Bytes::new())?;
    let transport = HttpTransport::new(connection.config.clone())?;
    let mut response = transport.send_upgrade(request).await?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status().as_u16();
        let body =
            http_body_util::BodyExt::collect(response.into_body()).await.map_err(|error| anyhow!(error))?.to_bytes();
        let status = serde_json::from_slice::<Status>(&body)
            .unwrap_or_else(|_| Status::failure(code, "", String::from_utf8_lossy(&body).into_owned()));
        return Err(worded(Error::Api(Box::new(status))));
    }
    let upgrade: OnUpgrade = response.extensions_mut().remove().context("the connection cannot be upgraded")?;
    let mut socket = WebSocket::after_handshake(TokioIo::new(upgrade.await?), Role::Client);
    socket.set_auto_close(true);
    socket.set_auto_pong(true);
    Ok(socket)
}

type Reader = WebSocketRead<ReadHalf<TokioIo<Upgraded>>>;
type Writer = WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>;

async fn receive(mut read: Reader) -> Result<Option<Value>> {
    read.set_auto_pong(false);
    let mut refuse = |_: Frame<'_>| async { Ok::<(), std::convert::Infallible>(()) };
    loop {
        let frame = match read.read_frame(&mut refuse).await {
            Ok(frame) => frame,
            Err(_) => return Ok(None),
        };
        if frame.opcode == OpCode::Close {
            return Ok(None);
        }
        let Some((channel, data)) = frame.payload.split_first() else { continue };
        match *channel {
            STDOUT => write_all(std::io::stdout(), data)?,
            STDERR => write_all(std::io::stderr(), data)?,
            ERROR => return Ok(Some(serde_json::from_slice(data).unwrap_or(Value::Null))),
            _ => {}
        }
    }
}

fn write_all(mut to: impl std::io::Write, data: &[u8]) -> Result<()> {
    to.write_all(data)?;
    Ok(to.flush()?)
}

async fn send(mut write: Writer, stdin: bool, tty: bool) -> Result<()> {
    let mut resized = signal(SignalKind::window_change())?;
    if tty {
        send_size(&mut write).await?;
    }
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut open = stdin;
    loop {
        tokio::select! {
            count = input.read(&mut buffer), if open => match count? {
                0 => {
                    open = false;
                    message(&mut write, CLOSE, &[STDIN]).await?;
                }
                count => message(&mut write, STDIN, buffer.get(..count).unwrap_or_default()).await?,
            },
            _ = resized.recv(), if tty => send_size(&mut write).await?,
            else => std::future::pending().await,
        }
    }
}

async fn send_size(write: &mut Writer) -> Result<()> {
    let size = termios::tcgetwinsize(std::io::stdin())?;
    let text = format!(r#"{{"Width":{},"Height":{}}}"#, size.ws_col, size.ws_row);
    message(write, RESIZE, text.as_bytes()).await
}

async fn message(write: &mut Writer, channel: u8, data: &[u8]) -> Result<()> {
    let mut bytes = Vec::with_capacity(data.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(data);
    Ok(write.write_frame(Frame::binary(Payload::Owned(bytes))).await?)
}

fn finish(status: Option<Value>) -> Result<ExitCode> {
    let Some(status) = status else { bail!("error: the connection was closed before the command ended") };
    if status.get("status").and_then(Value::as_str) == Some("Success") {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status.pointer("/details/causes").and_then(Value::as_array);
    let code =
        causes.into_iter().flatten().find(|cause| cause.get("reason").and_then(Value::as_str) == Some("ExitCode"));
    if let Some(code) =
        code.and_then(|cause| cause.get("message")).and_then(Value::as_str).and_then(|text| text.parse::<i32>().ok())
    {
        eprintln!("command terminated with exit code {code}");
        return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)));
    }
    bail!("error: {}", status.get("message").and_then(Value::as_str).unwrap_or("the command failed"))
}

/// Raw mode of this side's terminal for as long as the value lives.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that is gone.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
