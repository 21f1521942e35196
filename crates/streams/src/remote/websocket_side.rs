//! Remote commands over WebSocket: the first byte of a message is its channel.

use base64::Engine as _;
use bytes::{Buf, Bytes};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Finish, Outcome, PieceReader, Protocol, RESIZES_MAX, RemoteOptions, RemoteStreams, Version, parse_size};
use crate::Io;
use crate::ws::{Message, Reader, Role, Writer};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the next byte names a channel that is closed.
const CLOSE: u8 = 255;
const PIPE_BYTES: usize = 64 << 10;
const PIECES_MAX: usize = 16;
const CHUNK_BYTES: usize = 32 << 10;

enum Output {
    Data(u8, Bytes),
    Pong(Bytes),
}

pub(super) fn serve(io: impl Io, protocol: Protocol, options: RemoteOptions) -> RemoteStreams {
    let (read, write) = tokio::io::split(io);
    let (stdin_sender, stdin) = mpsc::channel(PIECES_MAX);
    let (resize_sender, resize) = mpsc::channel(RESIZES_MAX);
    let (output, queue) = mpsc::channel(PIECES_MAX);
    let (sink, finish) = mpsc::channel(1);
    let (done_sender, done) = oneshot::channel();
    let gone = CancellationToken::new();
    let inbound = Inbound {
        protocol,
        stdin: options.stdin.then_some(stdin_sender),
        resize: resize_sender,
        output: output.downgrade(),
    };
    let left = gone.clone();
    tokio::spawn(async move {
        inbound.run(Reader::new(read)).await;
        left.cancel();
    });
    let first = if options.stdout {
        STDOUT
    } else if options.stderr {
        STDERR
    } else {
        ERROR
    };
    let writer = Outbound { writer: Writer::new(write, Role::Server), base64: protocol.base64 };
    tokio::spawn(writer.run(first, queue, finish, done_sender));
    let pipe = |wanted: bool, channel: u8| wanted.then(|| output_pipe(channel, output.clone()));
    RemoteStreams {
        stdin: options.stdin.then(|| Box::pin(PieceReader::new(stdin)) as super::BoxRead),
        stdout: pipe(options.stdout, STDOUT),
        stderr: pipe(options.stderr && !options.tty, STDERR),
        resize,
        gone,
        outcome: Outcome { version: protocol.version, sink, done },
    }
}

/// A writer whose bytes become messages of one channel.
fn output_pipe(channel: u8, output: mpsc::Sender<Output>) -> super::BoxWrite {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        let mut ours = ours;
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count) = ours.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
            if output.send(Output::Data(channel, Bytes::copy_from_slice(bytes))).await.is_err() {
                return;
            }
        }
    });
    Box::pin(theirs)
}

struct Inbound {
    protocol: Protocol,
    stdin: Option<mpsc::Sender<Bytes>>,
    resize: mpsc::Sender<(u16, u16)>,
    output: mpsc::WeakSender<Output>,
}

impl Inbound {
    async fn run<R: tokio::io::AsyncRead + Unpin>(mut self, mut reader: Reader<R>) {
        loop {
            match reader.next().await {
                Ok(Some(Message::Binary(bytes) | Message::Text(bytes))) => self.take(bytes).await,
                Ok(Some(Message::Ping(bytes))) => {
                    if let Some(output) = self.output.upgrade() {
                        let _ = output.send(Output::Pong(bytes)).await;
                    }
                }
                Ok(Some(Message::Pong(_))) => {}
                Ok(Some(Message::Close) | None) => return,
                Err(error) => {
                    tracing::debug!(%error, "read a remote command's WebSocket");
                    return;
                }
            }
        }
    }

    async fn take(&mut self, mut bytes: Bytes) {
        let Some(&first) = bytes.first() else { return };
        bytes.advance(1);
        let channel = if self.protocol.base64 { first.wrapping_sub(b'0') } else { first };
        let bytes = if self.protocol.base64 {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&bytes);
            decoded.map(Bytes::from).unwrap_or_default()
        } else {
            bytes
        };
        match channel {
            STDIN => {
                if let Some(stdin) = &self.stdin
                    && !bytes.is_empty()
                    && stdin.send(bytes).await.is_err()
                {
                    self.stdin = None;
                }
            }
            RESIZE => {
                if let Some(size) = parse_size(&bytes) {
                    let _ = self.resize.try_send(size);
                }
            }
            CLOSE if self.protocol.version == Version::V5 && bytes.first() == Some(&STDIN) => self.stdin = None,
            _ => {}
        }
    }
}

struct Outbound<W> {
    writer: Writer<W>,
    base64: bool,
}

impl<W: tokio::io::AsyncWrite + Unpin> Outbound<W> {
    async fn run(
        mut self,
        first: u8,
        mut queue: mpsc::Receiver<Output>,
        mut finish: mpsc::Receiver<Finish>,
        done: oneshot::Sender<()>,
    ) {
        // An empty message tells the client that the streams are there.
        let mut fine = self.send(first, &[]).await.is_ok();
        while fine {
            tokio::select! {
                Some(output) = queue.recv() => fine = self.output(output).await.is_ok(),
                finish = finish.recv() => {
                    let Some(Finish(status)) = finish else { break };
                    // The writers are dropped by now; what they left in their pipes still comes.
                    let rest = async {
                        while let Some(output) = queue.recv().await {
                            if self.output(output).await.is_err() {
                                break;
                            }
                        }
                    };
                    let _ = tokio::time::timeout(super::STREAMS_WAIT_MAX, rest).await;
                    if !status.is_empty() {
                        let _ = self.send(ERROR, &status).await;
                    }
                    break;
                }
            }
        }
        let _ = self.writer.close().await;
        let _ = done.send(());
    }

    async fn output(&mut self, output: Output) -> crate::Result<()> {
        match output {
            Output::Data(channel, bytes) => self.send(channel, &bytes).await,
            Output::Pong(bytes) => self.writer.pong(&bytes).await,
        }
    }

    async fn send(&mut self, channel: u8, bytes: &[u8]) -> crate::Result<()> {
        if !self.base64 {
            return self.writer.binary(&[&[channel], bytes]).await;
        }
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        self.writer.text(&[&[b'0' + channel], text.as_bytes()]).await
    }
}
