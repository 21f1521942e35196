//! Bodies of lists, made piece by piece while they are sent: however many lists run, each holds one piece.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use coracle_client::BoxError;
use coracle_store::Entry;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use http::{HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::resources::Resource;
use super::storage;
use crate::http::negotiate::JSON;
use crate::http::{Ctx, Reply, reply};

const CHUNK_BYTES: usize = 64 * 1024;
/// Lists from this size on are compressed. Source: upstream's `defaultGzipThresholdBytes`.
const GZIP_BYTES_MIN: usize = 128 * 1024;

struct Pieces {
    resource: Arc<Resource>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    start: Option<String>,
    gzip: Option<GzEncoder<Vec<u8>>>,
    first: bool,
}

/// The answer that `start` and the entries make, as JSON.
pub(super) fn reply(ctx: &Ctx, resource: Arc<Resource>, start: String, entries: Vec<Arc<Entry>>) -> Reply {
    let size: usize = entries.iter().map(|entry| entry.value.len() + 1).sum();
    let accepts = ctx.headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let whole = size + start.len() < CHUNK_BYTES;
    let packed = size >= GZIP_BYTES_MIN && accepts.contains("gzip");
    let gzip = packed.then(|| GzEncoder::new(Vec::with_capacity(CHUNK_BYTES), Compression::fast()));
    let mut pieces = Pieces { resource, entries: entries.into_iter(), start: Some(start), gzip, first: true };
    if whole {
        return match pieces.next() {
            Some(Ok(whole)) => reply::bytes(http::StatusCode::OK, JSON, whole),
            Some(Err(error)) => reply::status(&coracle_api_meta::Status::internal(error)),
            None => reply::bytes(http::StatusCode::OK, JSON, Bytes::new()),
        };
    }
    let stream = futures::stream::iter(std::iter::from_fn(move || pieces.next())).map(|piece| piece.map(Frame::data));
    let mut reply = Reply::new(StreamBody::new(stream).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    if packed {
        reply.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        reply.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    reply
}

impl Pieces {
    fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        let mut out = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        match self.start.take() {
            Some(start) => out.extend_from_slice(start.as_bytes()),
            None if self.entries.len() == 0 => return None,
            None => {}
        }
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.entries.next() else { break };
            if !std::mem::replace(&mut self.first, false) {
                out.push(b',');
            }
            match storage::served_bytes(&self.resource, &entry) {
                Ok(bytes) => out.extend_from_slice(&bytes),
                Err(status) => return Some(Err(status.into())),
            }
        }
        let last = self.entries.len() == 0;
        if last {
            out.extend_from_slice(b"]}");
        }
        Some(self.pack(out, last))
    }

    fn pack(&mut self, out: Vec<u8>, last: bool) -> Result<Bytes, BoxError> {
        let Some(gzip) = &mut self.gzip else { return Ok(out.into()) };
        gzip.write_all(&out)?;
        if last {
            gzip.try_finish()?;
        } else {
            gzip.flush()?;
        }
        Ok(std::mem::take(gzip.get_mut()).into())
    }
}
