//! Events: what happened to an object, for people to read.

mod correlator;

use coracle_api_types::Object;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::{Api, Client, Patch, PatchParams};
use correlator::{Correlator, Decision, Notice};

/// Notices that wait to be written; more are dropped.
const QUEUE_MAX: usize = 1000;
/// Bytes of a message. Source: `core/v1` event validation.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Bytes of an object's name that go into the name of an event.
const NAME_BYTES_MAX: usize = 253 - 1 - 16;

/// Writes events in the background; calls never wait. Equal events raise a count, floods are dropped.
/// Clones share the queue.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Item>,
}

enum Item {
    Notice(Box<Notice>),
    Flush(oneshot::Sender<()>),
}

impl EventRecorder {
    /// `component` (`kubelet`) and `host` (the node's name, or empty) are shown as the source. Needs a runtime around
    /// it; its task ends when the last clone is gone.
    #[must_use]
    pub fn new(client: &Client, component: &str, host: &str) -> Self {
        let (queue, items) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            client: client.clone(),
            component: component.to_owned(),
            host: host.to_owned(),
            correlator: Correlator::default(),
        };
        tokio::spawn(writer.run(items));
        Self { queue }
    }

    /// `type_` is `Normal` or `Warning`.
    pub fn event(&self, object: &ObjectReference, type_: &str, reason: &str, message: &str) {
        let notice = Notice {
            object: object.clone(),
            type_: type_.to_owned(),
            reason: reason.to_owned(),
            message: cut(message, MESSAGE_BYTES_MAX).to_owned(),
            at: Timestamp::now(),
        };
        if self.queue.try_send(Item::Notice(Box::new(notice))).is_err() {
            tracing::debug!(reason, "event dropped, the queue is full");
        }
    }

    pub fn normal(&self, object: &ObjectReference, reason: &str, message: &str) {
        self.event(object, "Normal", reason, message);
    }

    pub fn warning(&self, object: &ObjectReference, reason: &str, message: &str) {
        self.event(object, "Warning", reason, message);
    }

    /// Waits until everything recorded so far has been written or given up.
    pub async fn flush(&self) {
        let (done, waiter) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).await.is_ok() {
            let _ = waiter.await;
        }
    }
}

/// A reference to an object, for [`EventRecorder::event`].
pub fn reference_to<K: Object>(object: &K) -> ObjectReference {
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    ObjectReference {
        api_version: text(K::API_VERSION),
        kind: text(K::KIND),
        namespace: text(object.namespace()),
        name: text(object.name()),
        uid: text(object.uid()),
        resource_version: text(object.resource_version()),
        field_path: None,
    }
}

struct Writer {
    client: Client,
    component: String,
    host: String,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        while let Some(item) = items.recv().await {
            match item {
                Item::Notice(notice) => self.write(&notice).await,
                Item::Flush(done) => drop(done.send(())),
            }
        }
    }

    async fn write(&mut self, notice: &Notice) {
        match self.correlator.decide(notice) {
            Decision::Create { message } => self.create(notice, &message).await,
            Decision::Count { name, count, message } => {
                let patch = Patch::Strategic(serde_json::json!({
                    "count": count,
                    "lastTimestamp": Time(notice.at),
                    "message": message,
                }));
                let result = self.api(notice).patch(&name, &patch, &PatchParams::default()).await;
                match result {
                    Ok(_) => {}
                    Err(error) if error.is_not_found() => {
                        self.correlator.forget(notice);
                        self.create(notice, &message).await;
                    }
                    Err(error) => tracing::debug!(%error, reason = notice.reason, "count an event"),
                }
            }
            Decision::Drop => tracing::debug!(reason = notice.reason, "event dropped, too many of one object"),
        }
    }

    async fn create(&mut self, notice: &Notice, message: &str) {
        match self.api(notice).create(&self.event_of(notice, message)).await {
            Ok(event) => self.correlator.stored(notice, &event),
            Err(error) => tracing::debug!(%error, reason = notice.reason, "create an event"),
        }
    }

    fn api(&self, notice: &Notice) -> Api<Event> {
        Api::namespaced(&self.client, namespace_of(notice))
    }

    fn event_of(&self, notice: &Notice, message: &str) -> Event {
        let object_name = notice.object.name.as_deref().unwrap_or_default();
        let name = format!("{}.{:x}", cut(object_name, NAME_BYTES_MAX), notice.at.as_nanosecond());
        let host = Some(self.host.clone()).filter(|host| !host.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace_of(notice).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: notice.object.clone(),
            type_: Some(notice.type_.clone()),
            reason: Some(notice.reason.clone()),
            message: Some(cut(message, MESSAGE_BYTES_MAX).to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(notice.at)),
            last_timestamp: Some(Time(notice.at)),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            source: Some(EventSource { component: Some(self.component.clone()), host }),
            ..Event::default()
        }
    }
}

fn namespace_of(notice: &Notice) -> &str {
    notice.object.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

/// The longest beginning of at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
