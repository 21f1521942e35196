//! Watches: the stored bytes of each change in a small frame, all changes that are ready in one piece.
//! Source: `k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, KEP-3157 (WatchList), KEP-956 (bookmarks).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api_meta::Status;
use coracle_api_meta::object::ObjectExt;
use coracle_client::BoxError;
use coracle_store::{Entry, Event, Range, Revision, StoreError, Watch};
use http::header;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::time::Instant;

use super::resources::Resource;
use super::selection::Selection;
use super::{Target, conversion, forms, objects, storage};
use crate::http::flow::Watched;
use crate::http::negotiate::{Accept, Encoding, Form};
use crate::http::{Ctx, Reply};
use crate::server::Server;

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Watches without `timeoutSeconds` end after a random time between this and twice this. Source: `--min-request-timeout`.
const DURATION_MIN_SECONDS: u64 = 1800;
const CHUNK_BYTES: usize = 64 * 1024;
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What a watch shows first.
struct Start {
    /// Present objects, sent as ADDED.
    initial: Vec<Arc<Entry>>,
    after: Revision,
    /// A bookmark tells where the initial objects end.
    mark_end: bool,
}

struct Running {
    server: Arc<Server>,
    resource: Arc<Resource>,
    selection: Selection,
    accept: Accept,
    include: forms::Include,
    watch: Watch,
    initial: std::vec::IntoIter<Arc<Entry>>,
    mark_end: Option<Revision>,
    bookmarks: Option<Instant>,
    deadline: Instant,
    columns_sent: bool,
    over: bool,
    /// Counts the watch while it runs.
    _watched: Option<Watched>,
}

fn forbidden_options(detail: &str) -> Status {
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {detail}");
    let mut status = Status::failure(422, coracle_api_meta::reason::INVALID, message);
    status.details = Some(coracle_api_meta::StatusDetails {
        group: "meta.k8s.io".to_owned(),
        kind: "ListOptions".to_owned(),
        ..Default::default()
    });
    status
}

async fn start(ctx: &Ctx, target: &Target, selection: &Selection) -> Result<Start, Status> {
    let query = &ctx.query;
    let wanted = storage::revision(query.get("resourceVersion"))?;
    let matching = query.get("resourceVersionMatch");
    let has_send = query.has("sendInitialEvents");
    let send = has_send && query.flag("sendInitialEvents");
    if has_send && matching != "NotOlderThan" {
        return Err(forbidden_options(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if !has_send && !matching.is_empty() {
        return Err(forbidden_options(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    let latest = ctx.server.store.revision().await.map_err(|error| storage::failed(&error))?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted > latest) {
        return Err(storage::too_large(wanted.0, latest.0));
    }
    let show_present = if has_send { send } else { wanted.is_none_or(|wanted| wanted.0 == 0) };
    if !show_present {
        let after = wanted.filter(|wanted| wanted.0 > 0).unwrap_or(latest);
        return Ok(Start { initial: Vec::new(), after, mark_end: false });
    }
    let range = Range {
        collection: Arc::clone(&target.resource.collection),
        prefix: selection.prefix.clone(),
        ..Range::default()
    };
    let page = ctx.server.store.range(range).await.map_err(|error| storage::failed(&error))?;
    let mut initial = page.entries;
    conversion::warm(&ctx.server, &target.resource, &initial).await?;
    initial.retain(|entry| selection.holds(&target.resource, entry));
    let mark_end = send && query.flag("allowWatchBookmarks");
    Ok(Start { initial, after: page.revision, mark_end })
}

pub(crate) async fn watch(ctx: &Ctx, target: &Target) -> Result<Reply, Status> {
    let mut accept = ctx.accept()?;
    if accept.encoding == Encoding::Protobuf && !objects::has_protobuf(&target.resource, accept.form) {
        accept.encoding = Encoding::Json;
    }
    if accept.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(&["application/json", "application/vnd.kubernetes.protobuf;stream=watch"]));
    }
    let selection = Selection::read(target, &ctx.query)?;
    let start = start(ctx, target, &selection).await?;
    let watch = ctx.server.store.watch(&target.resource.collection, &selection.prefix, start.after).map_err(
        |error| match error {
            StoreError::Compacted { requested, oldest } => too_old(requested, oldest),
            other => storage::failed(&other),
        },
    )?;
    let seconds = ctx.query.number("timeoutSeconds").and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or_else(|| DURATION_MIN_SECONDS + rand::random_range(0..DURATION_MIN_SECONDS));
    let namespace = selection.prefix.split_once('/').map_or("", |(namespace, _)| namespace);
    // A watch of one object is woken by few writes.
    let counted = ctx.info.name.is_empty().then(|| ctx.server.gate.watched(&target.resource.collection, namespace));
    let now = Instant::now();
    let running = Running {
        server: Arc::clone(&ctx.server),
        resource: Arc::clone(&target.resource),
        selection,
        include: forms::Include::read(ctx)?,
        accept,
        watch,
        mark_end: start.mark_end.then_some(start.after),
        initial: start.initial.into_iter(),
        bookmarks: ctx.query.flag("allowWatchBookmarks").then(|| now + BOOKMARK_INTERVAL),
        deadline: now + Duration::from_secs(seconds),
        columns_sent: false,
        over: false,
        _watched: counted,
    };
    let content_type = if running.accept.encoding == Encoding::Protobuf {
        "application/vnd.kubernetes.protobuf;stream=watch"
    } else {
        "application/json"
    };
    let stream = futures::stream::unfold(running, |mut running| async move {
        let chunk = running.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(chunk)), running))
    });
    let mut reply = Reply::new(StreamBody::new(stream).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    Ok(reply)
}

fn too_old(requested: Revision, oldest: Revision) -> Status {
    Status::expired(format!("too old resource version: {requested} ({oldest})"))
}

impl Running {
    /// The next piece of the body, or `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(chunk) = self.initial_chunk() {
            return Some(chunk);
        }
        loop {
            let wake = self.bookmarks.map_or(self.deadline, |at| at.min(self.deadline));
            let batch = tokio::select! {
                batch = self.watch.next() => batch,
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.deadline {
                        return None;
                    }
                    return Some(self.bookmark_now().await);
                }
                () = self.server.stopping().cancelled() => return None,
            };
            match batch {
                Ok(batch) => {
                    if let Err(status) = self.warm(&batch.events).await {
                        return Some(self.fail(&status));
                    }
                    let mut out = Vec::new();
                    for event in &batch.events {
                        self.put_event(&mut out, event);
                    }
                    if !out.is_empty() {
                        return Some(out.into());
                    }
                }
                Err(StoreError::Compacted { requested, oldest }) => {
                    return Some(self.fail(&too_old(requested, oldest)));
                }
                Err(error) => return Some(self.fail(&storage::failed(&error))),
            }
        }
    }

    fn initial_chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.initial.next() else { break };
            let served = storage::served_bytes(&self.resource, &entry);
            self.put(&mut out, "ADDED", served);
        }
        if self.initial.len() == 0
            && let Some(revision) = self.mark_end.take()
        {
            self.put_bookmark(&mut out, revision, true);
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn put_event(&mut self, out: &mut Vec<u8>, event: &Event) {
        let selected = |entry: &Option<Arc<Entry>>| {
            entry.as_ref().filter(|entry| self.selection.holds(&self.resource, entry)).cloned()
        };
        let resource = Arc::clone(&self.resource);
        let served = |entry: &Entry| storage::served_bytes(&resource, entry);
        let (kind, value) = match (selected(&event.prev), selected(&event.entry)) {
            (None, Some(entry)) => ("ADDED", served(&entry)),
            (Some(_), Some(entry)) => ("MODIFIED", served(&entry)),
            (Some(prev), None) => ("DELETED", storage::served_bytes_at(&resource, &prev, event.revision)),
            (None, None) => return,
        };
        let whole = self.accept.encoding == Encoding::Protobuf && self.accept.form == Form::Whole;
        let shared = whole && self.resource.is_storage_form();
        if !value.as_ref().is_ok_and(|value| shared && put_shared(out, event, kind, value)) {
            self.put(out, kind, value);
        }
    }

    /// Has custom resources converted where a webhook does that.
    async fn warm(&self, events: &[Arc<Event>]) -> Result<(), Status> {
        if self.resource.custom.is_none() {
            return Ok(());
        }
        let entries = events.iter().flat_map(|event| event.prev.iter().chain(&event.entry));
        let entries: Vec<Arc<Entry>> = entries.cloned().collect();
        conversion::warm(&self.server, &self.resource, &entries).await
    }

    fn put(&mut self, out: &mut Vec<u8>, kind: &str, served: Result<Bytes, Status>) {
        match served.and_then(|served| self.form(served)) {
            Ok(bytes) => frame(out, self.accept.encoding, kind, &bytes),
            Err(status) => {
                let bytes = self.fail(&status);
                out.extend_from_slice(&bytes);
            }
        }
    }

    /// The object of an event as the client wants it.
    fn form(&mut self, served: Bytes) -> Result<Bytes, Status> {
        if self.accept.form == Form::Whole {
            return Ok(served);
        }
        let object = storage::parse(&served)?;
        let value = if self.accept.form == Form::PartialMetadata {
            forms::partial(&object, &self.accept)
        } else {
            let meta = json!({"resourceVersion": object.resource_version()});
            let columns = !std::mem::replace(&mut self.columns_sent, true);
            forms::table(&self.resource, &[object], meta, &self.accept, self.include, columns)
        };
        Ok(value.to_string().into())
    }

    async fn bookmark_now(&mut self) -> Bytes {
        self.bookmarks = Some(Instant::now() + BOOKMARK_INTERVAL);
        let mut out = Vec::new();
        match self.watch.now() {
            Ok(batch) => {
                if let Err(status) = self.warm(&batch.events).await {
                    return self.fail(&status);
                }
                for event in &batch.events {
                    self.put_event(&mut out, event);
                }
                self.put_bookmark(&mut out, batch.revision, false);
            }
            Err(StoreError::Compacted { requested, oldest }) => return self.fail(&too_old(requested, oldest)),
            Err(error) => return self.fail(&storage::failed(&error)),
        }
        out.into()
    }

    fn put_bookmark(&mut self, out: &mut Vec<u8>, revision: Revision, end: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let (kind, version) = match self.accept.form {
            Form::PartialMetadata => ("PartialObjectMetadata".to_owned(), forms::api_version(&self.accept)),
            _ => (self.resource.kind.clone(), self.resource.gvk().api_version()),
        };
        let mut object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        if self.accept.form == Form::Table {
            let meta = json!({"resourceVersion": revision.to_string()});
            object = forms::table(&self.resource, &[object], meta, &self.accept, self.include, false);
        }
        frame(out, self.accept.encoding, "BOOKMARK", &object.to_string().into());
    }

    /// Ends the watch with an ERROR event.
    fn fail(&mut self, status: &Status) -> Bytes {
        self.over = true;
        let mut out = Vec::new();
        frame(&mut out, self.accept.encoding, "ERROR", &status.to_vec().into());
        out.into()
    }
}

/// An event as a protobuf frame, made once for all watchers that see it as the same kind of change.
struct Shared {
    kind: &'static str,
    frame: Vec<u8>,
}

/// False when the event has no such frame.
fn put_shared(out: &mut Vec<u8>, event: &Event, kind: &'static str, value: &Bytes) -> bool {
    let make = || {
        let mut frame = Vec::new();
        objects::protobuf_frame(&mut frame, kind, value);
        Arc::new(Shared { kind, frame }) as Arc<dyn std::any::Any + Send + Sync>
    };
    let shared = event.note.get_or_init(make).downcast_ref::<Shared>();
    let Some(shared) = shared.filter(|shared| shared.kind == kind && !shared.frame.is_empty()) else { return false };
    out.extend_from_slice(&shared.frame);
    true
}

fn frame(out: &mut Vec<u8>, encoding: Encoding, kind: &str, object: &Bytes) {
    if encoding == Encoding::Protobuf && super::objects::protobuf_frame(out, kind, object) {
        return;
    }
    out.reserve(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}
