//! Objects in and out of the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_store::{
    Condition, Durability, Entry, Expectation, Key, Outcome, Revision, StoreError, Transaction, Write,
};

use super::conversion;
use super::encode;
use super::objects;
use super::resources::Resource;
use crate::server::Server;

/// What became of a conditional write.
pub(crate) enum Committed {
    Done(Option<Arc<Entry>>, Revision),
    /// Somebody was faster.
    Refused(Option<Arc<Entry>>),
    /// Something that goes with the object changed; the same write may be tried again.
    Elsewhere,
}

pub(crate) fn failed(error: &StoreError) -> Status {
    match error {
        StoreError::Busy => Status::too_many_requests("the store has too many writes waiting", 1),
        StoreError::Closed => Status::unavailable("the server is shutting down"),
        StoreError::Compacted { .. } => expired(),
        StoreError::Future { requested, latest } => too_large(requested.0, latest.0),
        other => Status::internal(other),
    }
}

pub(crate) fn expired() -> Status {
    Status::expired("The resourceVersion for the provided list is too old.")
}

/// A client asks for what did not happen yet. Source: `storage.NewTooLargeResourceVersionError`.
pub(crate) fn too_large(requested: u64, current: u64) -> Status {
    let mut status = Status::timeout(format!("Too large resource version: {requested}, current: {current}"));
    status.details = Some(coracle_api_meta::StatusDetails {
        causes: vec![coracle_api_meta::Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }],
        retry_after_seconds: 1,
        ..Default::default()
    });
    status
}

pub(crate) fn key(resource: &Resource, item: &str) -> Key {
    Key::new(Arc::clone(&resource.collection), item)
}

pub(crate) async fn load(server: &Server, resource: &Resource, item: &str) -> Result<Option<Arc<Entry>>, Status> {
    let entry = server.store.get(&key(resource, item)).await.map_err(|error| failed(&error))?;
    conversion::warm(server, resource, entry.as_slice()).await?;
    Ok(entry)
}

/// The object of an entry in the form that `resource` serves.
pub(crate) fn object(resource: &Resource, entry: &Entry) -> Result<Value, Status> {
    if let Some(custom) = &resource.custom {
        return parse(&conversion::served(resource, custom, entry)?);
    }
    let mut object = parse(&entry.value)?;
    objects::to_served(resource, &mut object);
    Ok(object)
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|error| Status::internal(format!("read a stored object: {error}")))
}

/// The bytes of an entry in the form that `resource` serves: shared where that is the stored form.
pub(crate) fn served_bytes(resource: &Resource, entry: &Entry) -> Result<Bytes, Status> {
    if let Some(custom) = &resource.custom {
        return conversion::served(resource, custom, entry);
    }
    if resource.is_storage_form() {
        return Ok(entry.value.clone());
    }
    served_form(resource, &entry.value)
}

/// As [`served_bytes`], showing the revision at which the entry was deleted.
pub(crate) fn served_bytes_at(resource: &Resource, entry: &Entry, revision: Revision) -> Result<Bytes, Status> {
    let Some(custom) = &resource.custom else { return served_form(resource, &entry.value_at(revision)) };
    if custom.definition.serves_as_stored(custom.version, entry) {
        return Ok(entry.value_at(revision));
    }
    let mut object = object(resource, entry)?;
    object.set_meta("resourceVersion", revision.to_string());
    Ok(object.to_string().into())
}

/// Stored bytes of a built-in kind, rewritten in the form that `resource` serves.
fn served_form(resource: &Resource, bytes: &Bytes) -> Result<Bytes, Status> {
    if resource.is_storage_form() {
        return Ok(bytes.clone());
    }
    let mut object = parse(bytes)?;
    objects::to_served(resource, &mut object);
    Ok(object.to_string().into())
}

fn durability(resource: &Resource) -> Durability {
    if resource.is_relaxed() { Durability::Relaxed } else { Durability::Synced }
}

fn ttl(server: &Server, resource: &Resource) -> Option<Duration> {
    resource.is_event().then_some(server.config.event_ttl)
}

/// The write that stores an object of a built-in kind.
pub(crate) fn put(server: &Server, resource: &Resource, item: &str, object: &Value) -> Write {
    let content = if resource.is_storage_form() {
        encode::content(object)
    } else {
        let mut stored = object.clone();
        objects::to_stored(resource, &mut stored);
        encode::content(&stored)
    };
    Write::Put { key: key(resource, item), content, ttl: ttl(server, resource) }
}

/// What metrics call a write.
fn operation(condition: Condition, writes: &[Write]) -> &'static str {
    match (condition, writes.first()) {
        (Condition::Absent, _) => "create",
        (_, Some(Write::Delete { .. })) => "delete",
        _ => "update",
    }
}

/// As [`put`], for any resource: webhooks may have to convert a custom one.
pub(crate) async fn put_any(server: &Server, resource: &Resource, item: &str, object: &Value) -> Result<Write, Status> {
    if resource.custom.is_none() {
        return Ok(put(server, resource, item, object));
    }
    let stored = conversion::to_stored(server, resource, object).await?;
    Ok(Write::Put { key: key(resource, item), content: encode::content(&stored), ttl: None })
}

/// The answer that shows an entry that was just written.
pub(crate) async fn answer(server: &Server, resource: &Resource, entry: &Arc<Entry>) -> Result<Bytes, Status> {
    conversion::warm(server, resource, std::slice::from_ref(entry)).await?;
    served_bytes(resource, entry)
}

/// Commits writes when `item` is as expected. The first write is the object's.
pub(crate) async fn commit(
    server: &Server,
    resource: &Resource,
    item: &str,
    condition: Condition,
    writes: Vec<Write>,
    more: Vec<Expectation>,
) -> Result<Committed, Status> {
    let mut expect = vec![Expectation { key: key(resource, item), condition }];
    expect.extend(more);
    let transaction = Transaction { expect, writes, durability: durability(resource) };
    let operation = operation(condition, &transaction.writes);
    let started = std::time::Instant::now();
    let outcome = server.store.commit(transaction).await;
    server.metrics.storage.took(operation, &resource.collection, started.elapsed());
    match outcome.map_err(|error| failed(&error))? {
        Outcome::Committed { revision, entries } => Ok(Committed::Done(entries.into_iter().next().flatten(), revision)),
        Outcome::Refused { index: 0, current } => Ok(Committed::Refused(current)),
        Outcome::Refused { .. } => Ok(Committed::Elsewhere),
    }
}

/// As `entry` shows it after a write that was only tried.
pub(crate) fn dry(mut object: Value, revision: Option<Revision>) -> Bytes {
    match revision {
        Some(revision) => object.set_meta("resourceVersion", revision.to_string()),
        None => object.remove_meta("resourceVersion"),
    }
    object.to_string().into()
}

/// Reads a resource version; empty is `None`.
pub(crate) fn revision(text: &str) -> Result<Option<Revision>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(|number| Some(Revision(number))).map_err(|_| {
        Status::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })
}
