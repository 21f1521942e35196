//! Remote commands over SPDY: the client opens one stream for each channel.

use std::collections::BTreeMap;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Finish, Outcome, Protocol, RESIZES_MAX, RemoteOptions, RemoteStreams, STREAMS_WAIT_MAX, Version, parse_size,
};
use crate::spdy::{Role, Session, Stream, StreamReader, StreamWriter};
use crate::{Error, Io, Result};

/// Bytes of one terminal size.
const SIZE_BYTES_MAX: u64 = 1024;

pub(super) async fn serve(io: impl Io, protocol: Protocol, options: RemoteOptions) -> Result<RemoteStreams> {
    let mut session = Session::start(io, Role::Server)?;
    let wanted = wanted(options, protocol);
    let opened = tokio::time::timeout(STREAMS_WAIT_MAX, open(&mut session, &wanted)).await;
    let mut streams = opened.map_err(|_| Error::protocol("timed out waiting for client to create streams"))??;
    let mut take = |name: &str| streams.remove(name);
    let error = take("error").ok_or_else(|| Error::protocol("no error stream"))?;
    let (stdin, stdout, stderr) = (take("stdin"), take("stdout"), take("stderr"));
    let (resize_sender, resize) = mpsc::channel(RESIZES_MAX);
    if let Some(stream) = take("resize") {
        tokio::spawn(read_sizes(stream.reader, resize_sender));
    }
    let gone = CancellationToken::new();
    let (sink, finish) = mpsc::channel(1);
    let (done_sender, done) = oneshot::channel();
    // Its own half stays open until the end: clients take the end of it for the end of the command, and send no more.
    let (stdin, held) = match stdin {
        Some(stream) => (Some(Box::pin(stream.reader) as super::BoxRead), Some(stream.writer)),
        None => (None, None),
    };
    tokio::spawn(watch(session, Held { error, _stdin: held }, finish, done_sender, gone.clone()));
    Ok(RemoteStreams {
        stdin,
        stdout: stdout.map(|stream| Box::pin(stream.writer) as super::BoxWrite),
        stderr: stderr.map(|stream| Box::pin(stream.writer) as super::BoxWrite),
        resize,
        gone,
        outcome: Outcome { version: protocol.version, sink, done },
    })
}

fn wanted(options: RemoteOptions, protocol: Protocol) -> Vec<&'static str> {
    let all = [
        ("error", true),
        ("stdin", options.stdin),
        ("stdout", options.stdout),
        ("stderr", options.stderr && !options.tty),
        ("resize", options.tty && protocol.version != Version::V1),
    ];
    all.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
}

async fn open(session: &mut Session, wanted: &[&str]) -> Result<BTreeMap<String, Stream>> {
    let mut streams = BTreeMap::new();
    while streams.len() < wanted.len() {
        let stream = session.accept().await.ok_or_else(|| Error::protocol("the client has gone"))?;
        let name = stream.headers.get("streamtype").to_owned();
        if wanted.contains(&name.as_str()) {
            streams.insert(name, stream);
        }
    }
    Ok(streams)
}

/// Sizes are JSON objects, one after the other.
async fn read_sizes(reader: StreamReader, sizes: mpsc::Sender<(u16, u16)>) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut text = Vec::new();
        match (&mut reader).take(SIZE_BYTES_MAX).read_until(b'}', &mut text).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        if let Some(size) = parse_size(text.trim_ascii()) {
            let _ = sizes.try_send(size);
        }
    }
}

/// What stays open for as long as the command runs.
struct Held {
    error: Stream,
    _stdin: Option<StreamWriter>,
}

/// Keeps the connection until the result is told or the client has gone.
async fn watch(
    mut session: Session,
    mut held: Held,
    mut finish: mpsc::Receiver<Finish>,
    done: oneshot::Sender<()>,
    gone: CancellationToken,
) {
    let _guard = gone.drop_guard();
    let status = tokio::select! {
        status = finish.recv() => status,
        () = async { while session.accept().await.is_some() {} } => None,
    };
    if let Some(Finish(status)) = status {
        let _ = held.error.writer.write_all(&status).await;
        let _ = held.error.writer.shutdown().await;
    }
    drop(held);
    let _ = done.send(());
    // The client ends the connection when it has read everything; one that does not is not waited for.
    let rest = async { while session.accept().await.is_some() {} };
    let _ = tokio::time::timeout(STREAMS_WAIT_MAX, rest).await;
}
