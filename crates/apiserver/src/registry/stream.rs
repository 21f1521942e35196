//! Bodies of lists, made piece by piece while they are sent: however many lists run, each holds one piece.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use coracle_api_meta::{Status, Value};
use coracle_client::BoxError;
use coracle_store::Entry;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use http::{HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::fields::Facts;
use super::resources::Resource;
use super::{forms, objects, storage};
use crate::http::negotiate::{Accept, JSON, PROTOBUF};
use crate::http::{Ctx, Reply, reply};

const CHUNK_BYTES: usize = 64 * 1024;
/// Lists from this size on are compressed. Source: upstream's `defaultGzipThresholdBytes`.
const GZIP_BYTES_MIN: usize = 128 * 1024;
/// Objects that are decoded at once, for forms other than the stored one.
const DECODED_MAX: usize = 32;

/// What an item looks like in the list.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// The stored bytes, or those of another version.
    Whole,
    /// A row of a table.
    Row(Accept, forms::Include),
    /// Its metadata.
    Partial(Accept),
    /// Messages of `ObjectList`.
    Protobuf,
}

struct Pieces {
    resource: Arc<Resource>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    item: Item,
    start: Option<Vec<u8>>,
    end: Vec<u8>,
    gzip: Option<GzEncoder<Vec<u8>>>,
    first: bool,
}

/// A list as JSON: `start`, the entries between commas, `]}`.
pub(super) fn json(ctx: &Ctx, resource: Arc<Resource>, start: String, item: Item, entries: Vec<Arc<Entry>>) -> Reply {
    body(ctx, Pieces::new(resource, start.into_bytes(), b"]}".to_vec(), item, entries), JSON)
}

/// A list as protobuf. Its length stands in front of it, so that every item is measured first; each is only once, and
/// others get their turn meanwhile.
pub(super) async fn protobuf(
    ctx: &Ctx,
    resource: Arc<Resource>,
    metadata: &Value,
    entries: Vec<Arc<Entry>>,
) -> Result<Reply, Status> {
    let mut items = 0;
    for (index, entry) in entries.iter().enumerate() {
        items += objects::protobuf_item_size(message_size(&resource, entry)?);
        if index % DECODED_MAX == DECODED_MAX - 1 {
            tokio::task::yield_now().await;
        }
    }
    let (start, end) = objects::protobuf_list(&resource, metadata, items)?;
    Ok(body(ctx, Pieces::new(resource, start, end, Item::Protobuf, entries), PROTOBUF))
}

fn message_size(resource: &Resource, entry: &Entry) -> Result<usize, Status> {
    let measure = || Ok(objects::protobuf_message(resource, &storage::object(resource, entry)?)?.len());
    if resource.is_storage_form() { Facts::of(resource, entry).message_size(measure) } else { measure() }
}

fn body(ctx: &Ctx, mut pieces: Pieces, content_type: &'static str) -> Reply {
    let size: usize = pieces.entries.as_slice().iter().map(|entry| entry.value.len() + 1).sum();
    let accepts = ctx.headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if size < CHUNK_BYTES {
        let mut whole = Vec::with_capacity(size + 1024);
        while let Some(piece) = pieces.next() {
            match piece {
                Ok(piece) if pieces.is_over() && whole.is_empty() => {
                    return reply::bytes(http::StatusCode::OK, content_type, piece);
                }
                Ok(piece) => whole.extend_from_slice(&piece),
                Err(error) => return reply::status(&Status::internal(error)),
            }
        }
        return reply::bytes(http::StatusCode::OK, content_type, whole);
    }
    let packed = size >= GZIP_BYTES_MIN && accepts.contains("gzip");
    pieces.gzip = packed.then(|| GzEncoder::new(Vec::with_capacity(CHUNK_BYTES), Compression::fast()));
    let stream = futures::stream::iter(std::iter::from_fn(move || pieces.next())).map(|piece| piece.map(Frame::data));
    let mut reply = Reply::new(StreamBody::new(stream).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if packed {
        reply.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        reply.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    reply
}

impl Pieces {
    fn new(resource: Arc<Resource>, start: Vec<u8>, end: Vec<u8>, item: Item, entries: Vec<Arc<Entry>>) -> Self {
        Self { resource, entries: entries.into_iter(), item, start: Some(start), end, gzip: None, first: true }
    }

    fn is_over(&self) -> bool {
        self.start.is_none() && self.end.is_empty()
    }

    fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.is_over() {
            return None;
        }
        let mut out = self.start.take().unwrap_or_default();
        out.reserve(CHUNK_BYTES + CHUNK_BYTES / 4);
        while out.len() < CHUNK_BYTES && self.entries.len() > 0 {
            if let Err(status) = self.put(&mut out) {
                return Some(Err(status.into()));
            }
        }
        let last = self.entries.len() == 0;
        if last {
            out.append(&mut self.end);
        }
        Some(self.pack(out, last))
    }

    /// The next item, or the next few where several are made together.
    fn put(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        let resource = Arc::clone(&self.resource);
        match &self.item {
            Item::Whole => {
                let Some(entry) = self.entries.next() else { return Ok(()) };
                let bytes = storage::served_bytes(&resource, &entry)?;
                self.separate(out);
                out.extend_from_slice(&bytes);
            }
            Item::Protobuf => {
                let Some(entry) = self.entries.next() else { return Ok(()) };
                let message = objects::protobuf_message(&resource, &storage::object(&resource, &entry)?)?;
                objects::protobuf_item(out, &message);
            }
            Item::Partial(accept) => {
                let Some(entry) = self.entries.next() else { return Ok(()) };
                let partial = forms::partial(&storage::object(&resource, &entry)?, accept);
                self.separate(out);
                write(out, &partial)?;
            }
            Item::Row(accept, include) => {
                let entries = self.entries.by_ref().take(DECODED_MAX);
                let items: Vec<Value> =
                    entries.map(|entry| storage::object(&resource, &entry)).collect::<Result<_, _>>()?;
                let rows = forms::rows(&resource, items, accept, *include);
                for row in rows {
                    self.separate(out);
                    write(out, &row)?;
                }
            }
        }
        Ok(())
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.first, false) {
            out.push(b',');
        }
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

fn write(out: &mut Vec<u8>, value: &Value) -> Result<(), Status> {
    serde_json::to_writer(out, value).map_err(Status::internal)
}
