//! One connection with its streams.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::frame::{Decoder, Frame, encode};
use super::headers::{HeaderWriter, Headers};
use crate::{Error, Io, Result};

/// Streams of one connection that are open at once.
pub const STREAMS_MAX: usize = 1000;
/// Pieces of data that wait for a stream's reader.
pub const STREAM_PIECES_MAX: usize = 64;
/// Frames that wait to be written.
const WRITE_QUEUE_MAX: usize = 64;
/// Bytes of one data frame that we send.
const DATA_BYTES_MAX: usize = 32 << 10;
const READ_BYTES: usize = 32 << 10;
/// RST_STREAM status codes.
const REFUSED: u32 = 3;
const CANCEL: u32 = 5;

/// Which end we are: clients open streams with odd numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// A handle; the connection ends when it and all streams are dropped, or when the peer ends it.
pub struct Session {
    frames: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Stream>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    inbound: HashMap<u32, mpsc::Sender<Bytes>>,
    next_id: u32,
}

impl Shared {
    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream: its headers and two halves.
pub struct Stream {
    pub id: u32,
    pub headers: Headers,
    pub reader: StreamReader,
    pub writer: StreamWriter,
}

impl Session {
    pub fn start(io: impl Io, role: Role) -> Result<Self> {
        let (frames, queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let (opened, incoming) = mpsc::channel(STREAMS_MAX);
        let first = if role == Role::Client { 1 } else { 2 };
        let shared = Arc::new(Shared { state: Mutex::new(State { inbound: HashMap::new(), next_id: first }) });
        let (read, write) = tokio::io::split(io);
        let headers = HeaderWriter::new()?;
        tokio::spawn(async move {
            if let Err(error) = write_all(write, queue, headers).await {
                tracing::debug!(%error, "write a SPDY connection");
            }
        });
        let receiver = Receiver { shared: shared.clone(), frames: frames.downgrade(), opened, role };
        tokio::spawn(async move {
            if let Err(error) = receiver.run(read).await {
                tracing::debug!(%error, "read a SPDY connection");
            }
        });
        Ok(Self { frames, shared, incoming })
    }

    /// The next stream that the peer opens; `None` at the end of the connection. It has been replied to.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Opens a stream.
    pub async fn open(&self, headers: Headers) -> Result<Stream> {
        let (id, reader) = {
            let mut state = self.shared.locked();
            if state.inbound.len() >= STREAMS_MAX {
                return Err(Error::protocol("too many streams"));
            }
            let id = state.next_id;
            state.next_id += 2;
            let (sender, receiver) = mpsc::channel(STREAM_PIECES_MAX);
            state.inbound.insert(id, sender);
            (id, StreamReader { pieces: receiver, rest: Bytes::new() })
        };
        let syn = Frame::SynStream { id, fin: false, headers: headers.clone() };
        self.frames.send(syn).await.map_err(|_| Error::protocol("the connection has ended"))?;
        Ok(Stream { id, headers, reader, writer: StreamWriter::new(id, &self.frames) })
    }

    /// Says farewell.
    pub async fn close(self) {
        let _ = self.frames.send(Frame::GoAway { last: 0, status: 0 }).await;
    }
}

async fn write_all(
    mut write: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Frame>,
    mut headers: HeaderWriter,
) -> Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        buffer.clear();
        encode(&frame, &mut headers, &mut buffer)?;
        // What else is there goes along in the same write.
        while buffer.len() < DATA_BYTES_MAX {
            match queue.try_recv() {
                Ok(frame) => encode(&frame, &mut headers, &mut buffer)?,
                Err(_) => break,
            }
        }
        write.write_all(&buffer).await?;
        write.flush().await?;
    }
    write.shutdown().await?;
    Ok(())
}

struct Receiver {
    shared: Arc<Shared>,
    frames: mpsc::WeakSender<Frame>,
    opened: mpsc::Sender<Stream>,
    role: Role,
}

impl Receiver {
    async fn run(self, mut read: impl AsyncRead + Unpin) -> Result<()> {
        let mut decoder = Decoder::default();
        let result = loop {
            match decoder.next() {
                Ok(Some(frame)) => match self.handle(frame).await {
                    Ok(true) => continue,
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                },
                Ok(None) => {}
                Err(error) => break Err(error),
            }
            decoder.buffer.reserve(READ_BYTES);
            match read.read_buf(&mut decoder.buffer).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.into()),
            }
        };
        // Every reader sees its end.
        self.shared.locked().inbound.clear();
        result
    }

    /// Returns whether to go on.
    async fn handle(&self, frame: Frame) -> Result<bool> {
        match frame {
            Frame::SynStream { id, fin, headers } => self.open(id, fin, headers).await?,
            Frame::Data { id, fin, bytes } => {
                let sender = self.shared.locked().inbound.get(&id).cloned();
                if let Some(sender) = sender
                    && !bytes.is_empty()
                    && sender.send(bytes).await.is_err()
                {
                    // Nobody reads it any more; the peer may go on, in vain.
                    self.shared.locked().inbound.remove(&id);
                }
                self.end(id, fin);
            }
            Frame::SynReply { id, fin, .. } | Frame::Headers { id, fin, .. } => self.end(id, fin),
            Frame::RstStream { id, .. } => self.end(id, true),
            Frame::Ping { id } => {
                let ours = (id % 2 == 1) == (self.role == Role::Client);
                if !ours {
                    self.send(Frame::Ping { id }).await;
                }
            }
            Frame::GoAway { .. } => return Ok(false),
            Frame::Settings(_) | Frame::WindowUpdate { .. } => {}
        }
        Ok(true)
    }

    fn end(&self, id: u32, fin: bool) {
        if fin {
            self.shared.locked().inbound.remove(&id);
        }
    }

    async fn send(&self, frame: Frame) {
        if let Some(frames) = self.frames.upgrade() {
            let _ = frames.send(frame).await;
        }
    }

    async fn open(&self, id: u32, fin: bool, headers: Headers) -> Result<()> {
        let theirs = (id % 2 == 1) == (self.role == Role::Server);
        if !theirs || id == 0 {
            return Err(Error::protocol("a stream number of the wrong side"));
        }
        let (sender, receiver) = mpsc::channel(STREAM_PIECES_MAX);
        let full = {
            let mut state = self.shared.locked();
            let full = state.inbound.len() >= STREAMS_MAX || state.inbound.contains_key(&id);
            if !full && !fin {
                state.inbound.insert(id, sender);
            }
            full
        };
        let Some(frames) = self.frames.upgrade() else { return Ok(()) };
        if full {
            self.send(Frame::RstStream { id, status: REFUSED }).await;
            return Ok(());
        }
        self.send(Frame::SynReply { id, fin: false, headers: Headers::default() }).await;
        let stream = Stream {
            id,
            headers,
            reader: StreamReader { pieces: receiver, rest: Bytes::new() },
            writer: StreamWriter::new(id, &frames),
        };
        if self.opened.try_send(stream).is_err() {
            self.shared.locked().inbound.remove(&id);
            self.send(Frame::RstStream { id, status: CANCEL }).await;
        }
        Ok(())
    }
}

/// Reads a stream until its sender has finished.
pub struct StreamReader {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl AsyncRead for StreamReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.rest.is_empty() {
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

/// Writes a stream; shutting it down tells the peer that no more comes. Dropping does so too.
pub struct StreamWriter {
    id: u32,
    frames: PollSender<Frame>,
    finished: bool,
    /// For the last frame when the writer is dropped.
    farewell: mpsc::WeakSender<Frame>,
}

impl StreamWriter {
    fn new(id: u32, frames: &mpsc::Sender<Frame>) -> Self {
        Self { id, frames: PollSender::new(frames.clone()), finished: false, farewell: frames.downgrade() }
    }
}

fn broken() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::BrokenPipe)
}

impl AsyncWrite for StreamWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(broken()));
        }
        match self.frames.poll_reserve(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(broken())),
            Poll::Ready(Ok(())) => {}
        }
        let length = buf.len().min(DATA_BYTES_MAX);
        let bytes = Bytes::copy_from_slice(buf.get(..length).unwrap_or_default());
        let id = self.id;
        match self.frames.send_item(Frame::Data { id, fin: false, bytes }) {
            Ok(()) => Poll::Ready(Ok(length)),
            Err(_) => Poll::Ready(Err(broken())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        match self.frames.poll_reserve(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => {}
        }
        self.finished = true;
        let id = self.id;
        let _ = self.frames.send_item(Frame::Data { id, fin: true, bytes: Bytes::new() });
        Poll::Ready(Ok(()))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        let Some(frames) = self.farewell.upgrade().filter(|_| !self.finished) else { return };
        let last = Frame::Data { id: self.id, fin: true, bytes: Bytes::new() };
        if let Err(mpsc::error::TrySendError::Full(last)) = frames.try_send(last)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { drop(frames.send(last).await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_carry_both_ways_and_end() {
        let (a, b) = tokio::io::duplex(1024);
        let client = Session::start(a, Role::Client).expect("client");
        let mut server = Session::start(b, Role::Server).expect("server");
        let echo = tokio::spawn(async move {
            while let Some(mut stream) = server.accept().await {
                tokio::spawn(async move {
                    tokio::io::copy(&mut stream.reader, &mut stream.writer).await.expect("copy");
                });
            }
        });
        let payload: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut streams = Vec::new();
        for number in 0..3 {
            let number = number.to_string();
            streams.push(client.open(Headers::of(&[("port", &number)])).await.expect("open"));
        }
        for stream in streams {
            let Stream { mut reader, mut writer, .. } = stream;
            let sent = payload.clone();
            let sender = tokio::spawn(async move {
                writer.write_all(&sent).await.expect("write");
                writer.shutdown().await.expect("shutdown");
            });
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.expect("read");
            sender.await.expect("sender");
            assert_eq!(read, payload);
        }
        client.close().await;
        echo.await.expect("server ends");
    }
}
