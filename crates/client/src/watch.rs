//! Streams of changes.

use bytes::{Buf, Bytes, BytesMut};
use coracle_api_meta::Status;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Body, Error, Result, TransportError};

/// Bytes of one event that are read at most.
pub const EVENT_BYTES_MAX: usize = 64 << 20;

/// One change; the object is undecoded JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    Added(Bytes),
    Modified(Bytes),
    Deleted(Bytes),
    /// Nothing changed up to the resource version of this skeleton object.
    Bookmark(Bytes),
}

/// Events until the server ends the watch.
pub struct WatchStream {
    body: Body,
    buffer: BytesMut,
    /// Where the search for the next newline goes on.
    scanned: usize,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl WatchStream {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), scanned: 0 }
    }

    /// The next event; `None` at the end. A server's `ERROR` event becomes [`Error::Api`].
    pub async fn next(&mut self) -> Result<Option<WatchEvent>> {
        loop {
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return decode(&line).map(Some);
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(
                    TransportError::plain(format!("a watch event has more than {EVENT_BYTES_MAX} bytes")).into()
                );
            }
            match self.body.frame().await {
                None if self.buffer.has_remaining() => {
                    self.buffer.extend_from_slice(b"\n");
                }
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(TransportError::new("read the watch", error).into()),
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let unseen = self.buffer.get(self.scanned..)?;
        let Some(offset) = unseen.iter().position(|&byte| byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + offset + 1).freeze();
        self.scanned = 0;
        Some(line)
    }
}

fn decode(line: &Bytes) -> Result<WatchEvent> {
    let envelope: Envelope<'_> = serde_json::from_slice(line)?;
    let object = line.slice_ref(envelope.object.get().as_bytes());
    match envelope.kind {
        "ADDED" => Ok(WatchEvent::Added(object)),
        "MODIFIED" => Ok(WatchEvent::Modified(object)),
        "DELETED" => Ok(WatchEvent::Deleted(object)),
        "BOOKMARK" => Ok(WatchEvent::Bookmark(object)),
        "ERROR" => Err(Error::Api(Box::new(serde_json::from_slice::<Status>(&object)?))),
        other => Err(TransportError::plain(format!("watch event of unknown type {other:?}")).into()),
    }
}
