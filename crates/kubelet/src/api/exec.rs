//! `/exec`, `/attach` and `/portForward`: the runtime's streams, connected with the client's.

use std::sync::Arc;

use coracle_client::{Body, full_body};
use coracle_cri::{AttachRequest, BoxRead, BoxWrite, ContainerState, ExecRequest, ExecStreams, TerminalSize};
use coracle_streams::remote::{self, RemoteOptions, RemoteStreams};
use coracle_streams::{Error, port_forward};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{query_all, query_flag, text};
use crate::context::Ctx;

const CHUNK_BYTES: usize = 32 << 10;
/// How long output may follow the end of a command.
const OUTPUT_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// An empty body, for the answer that switches protocols.
#[derive(Default)]
pub(super) struct Nothing;

fn switched(response: Response<Nothing>) -> Response<Body> {
    response.map(|Nothing| full_body(bytes::Bytes::new()))
}

fn refused(error: &Error) -> Response<Body> {
    let status = if matches!(error, Error::BadRequest(_)) { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
    text(status, error.to_string())
}

/// What is wanted with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Exec,
    Attach,
}

pub(super) fn remote_command(
    ctx: &Ctx,
    verb: Verb,
    [namespace, pod, container]: [&str; 3],
    uid: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let options = RemoteOptions {
        stdin: query_flag(&query, "input") || query_flag(&query, "stdin"),
        stdout: query_flag(&query, "output") || query_flag(&query, "stdout"),
        stderr: query_flag(&query, "error") || query_flag(&query, "stderr"),
        tty: query_flag(&query, "tty"),
    };
    let Some(id) = running_container(ctx, namespace, pod, uid, container) else {
        return text(StatusCode::NOT_FOUND, format!("container not found ({container:?})\n"));
    };
    let command = query_all(&query, "command");
    if verb == Verb::Exec && command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify a command");
    }
    let (response, upgrade) = match remote::accept::<Nothing>(&mut request, options) {
        Ok(accepted) => accepted,
        Err(error) => return refused(&error),
    };
    let ctx = ctx.clone();
    tokio::spawn(async move {
        let streams = match upgrade.streams().await {
            Ok(streams) => streams,
            Err(error) => {
                tracing::debug!(%error, "open a remote command's streams");
                return;
            }
        };
        let begun = match verb {
            Verb::Exec => ctx.runtime.exec(&id, &exec_request(command, options)).await,
            Verb::Attach => {
                let AttachOptions { stdin, stdout, stderr } = options.into();
                ctx.runtime.attach(&id, &AttachRequest { stdin, stdout, stderr }).await
            }
        };
        match begun {
            Ok(command) => join(streams, command).await,
            Err(error) => {
                let outcome = streams.outcome;
                drop((streams.stdout, streams.stderr));
                let message = format!("error executing command in container: {error}");
                outcome.failed(&message).await;
            }
        }
    });
    switched(response)
}

struct AttachOptions {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl From<RemoteOptions> for AttachOptions {
    fn from(options: RemoteOptions) -> Self {
        Self { stdin: options.stdin, stdout: options.stdout, stderr: options.stderr && !options.tty }
    }
}

fn exec_request(command: Vec<String>, options: RemoteOptions) -> ExecRequest {
    ExecRequest {
        command,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr && !options.tty,
    }
}

fn running_container(ctx: &Ctx, namespace: &str, pod: &str, uid: &str, container: &str) -> Option<String> {
    let snapshot = ctx.workers.find(namespace, pod, uid)?;
    let latest = snapshot.runtime.latest(container)?;
    (latest.state == ContainerState::Running).then(|| latest.id.clone())
}

/// Copies until the command has ended and its output is through, or the client has gone.
async fn join(client: RemoteStreams, command: ExecStreams) {
    let RemoteStreams { stdin, stdout, stderr, resize, gone, outcome } = client;
    let ExecStreams { stdin: command_stdin, stdout: command_stdout, stderr: command_stderr, resize: sizes, exit } =
        command;
    let input = tokio::spawn(feed(stdin, command_stdin));
    let resizing = tokio::spawn(follow_sizes(resize, sizes));
    let mut output = tokio::spawn(async move {
        tokio::join!(drain(command_stdout, stdout), drain(command_stderr, stderr));
    });
    let code = tokio::select! {
        code = exit => code,
        // Dropping the command's streams ends it.
        () = gone.cancelled() => {
            output.abort();
            input.abort();
            resizing.abort();
            return;
        }
    };
    if tokio::time::timeout(OUTPUT_WAIT_MAX, &mut output).await.is_err() {
        output.abort();
    }
    input.abort();
    resizing.abort();
    match code {
        Ok(Ok(code)) => outcome.exited(code).await,
        Ok(Err(error)) => outcome.failed(&format!("error executing command in container: {error}")).await,
        Err(_) => outcome.failed("error executing command in container: the runtime has stopped").await,
    }
}

async fn feed(from: Option<coracle_streams::remote::BoxRead>, to: Option<BoxWrite>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

async fn drain(from: Option<BoxRead>, to: Option<coracle_streams::remote::BoxWrite>) {
    let Some(mut from) = from else { return };
    let mut to = to;
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        // Output that nobody wants is read all the same, so that the command does not block.
        if let Some(sink) = &mut to
            && sink.write_all(bytes).await.is_err()
        {
            to = None;
        }
    }
    if let Some(mut sink) = to {
        let _ = sink.shutdown().await;
    }
}

async fn follow_sizes(mut from: tokio::sync::mpsc::Receiver<(u16, u16)>, to: tokio::sync::mpsc::Sender<TerminalSize>) {
    while let Some((width, height)) = from.recv().await {
        if to.send(TerminalSize { width, height }).await.is_err() {
            return;
        }
    }
}

pub(super) fn forward_ports(
    ctx: &Ctx,
    [namespace, pod]: [&str; 2],
    uid: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let named = query_all(&query, "port").into_iter().chain(query_all(&query, "ports"));
    let ports: Vec<u16> =
        named.flat_map(|list| list.split(',').filter_map(|port| port.parse().ok()).collect::<Vec<_>>()).collect();
    let snapshot = ctx.workers.find(namespace, pod, uid);
    let sandbox = snapshot.as_ref().and_then(|snapshot| snapshot.runtime.ready_sandbox()).map(|one| one.id.clone());
    let Some(sandbox) = sandbox else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod:?} is not running\n"));
    };
    let (response, upgrade) = match port_forward::accept::<Nothing>(&mut request, &ports) {
        Ok(accepted) => accepted,
        Err(error) => return refused(&error),
    };
    let runtime = ctx.runtime.clone();
    let dial: port_forward::Dial = Arc::new(move |port| {
        let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
        Box::pin(async move {
            match runtime.port_forward(&sandbox, port).await {
                Ok(stream) => Ok(Box::pin(stream) as port_forward::Connection),
                Err(error) => Err(error.to_string()),
            }
        })
    });
    tokio::spawn(async move {
        if let Err(error) = upgrade.serve(dial).await {
            tracing::debug!(%error, "forward ports");
        }
    });
    switched(response)
}
