//! A byte stream inside the binary messages of a WebSocket.

use crate::ws::{Message, Reader, Role, Writer};
use crate::{BoxIo, Io};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PIPE_BYTES: usize = 64 << 10;
const CHUNK_BYTES: usize = 32 << 10;

/// Wraps a WebSocket connection; messages of other kinds are answered or ignored.
pub(crate) fn over_websocket(io: impl Io, role: Role) -> BoxIo {
    let (inner, outer) = tokio::io::duplex(PIPE_BYTES);
    let (read, write) = tokio::io::split(io);
    let (mut out, mut into) = tokio::io::split(inner);
    tokio::spawn(async move {
        let mut reader = Reader::new(read);
        while let Ok(Some(message)) = reader.next().await {
            match message {
                Message::Binary(bytes) | Message::Text(bytes) => {
                    if into.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                Message::Close => break,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        let _ = into.shutdown().await;
    });
    tokio::spawn(async move {
        let mut writer = Writer::new(write, role);
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count) = out.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            if writer.binary(&[bytes]).await.is_err() {
                return;
            }
        }
        let _ = writer.close().await;
    });
    Box::new(outer)
}
