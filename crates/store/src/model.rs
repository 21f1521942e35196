//! The words of the store and the trait that every engine implements.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{SealId, StoreError, Watch};

/// Position in the one history of all keys. Every committed transaction takes the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A collection is what is listed and watched together; names order within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub collection: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    #[must_use]
    pub fn new(collection: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { collection: collection.into(), name: name.into() }
    }
}

/// A value to write. The store puts the decimal revision of the write at `revision_at`, so that what it hands out later
/// shows it.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pub bytes: Bytes,
    pub revision_at: Option<usize>,
}

impl Content {
    #[must_use]
    pub fn plain(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), revision_at: None }
    }

    pub(crate) fn with_revision(self, revision: Revision) -> Bytes {
        match self.revision_at {
            Some(at) if at <= self.bytes.len() => splice(&self.bytes, at, 0, revision),
            _ => self.bytes,
        }
    }
}

fn splice(bytes: &[u8], at: usize, old_len: usize, revision: Revision) -> Bytes {
    let digits = revision.to_string();
    let mut out = Vec::with_capacity(bytes.len() + digits.len());
    out.extend_from_slice(&bytes[..at]);
    out.extend_from_slice(digits.as_bytes());
    out.extend_from_slice(&bytes[at + old_len..]);
    out.into()
}

/// A slot for what a reader works out about shared bytes, so that it is worked out once.
pub type Note = OnceLock<Arc<dyn Any + Send + Sync>>;

/// One version of one key, shared by the index, the history and all readers.
#[derive(Default)]
pub struct Entry {
    pub value: Bytes,
    pub created: Revision,
    pub modified: Revision,
    /// How often the key was written since it was created; 1 at first.
    pub version: u64,
    /// Seconds of the Unix epoch.
    pub expires_at: Option<u64>,
    pub revision_at: Option<usize>,
    pub note: Note,
    pub(crate) name: Option<Arc<str>>,
    /// How the entry was put on disk.
    pub(crate) seal: SealId,
}

impl Entry {
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The value as it would show another revision: what a deletion shows.
    #[must_use]
    pub fn value_at(&self, revision: Revision) -> Bytes {
        let old_len = self.modified.to_string().len();
        match self.revision_at {
            Some(at) if at + old_len <= self.value.len() => splice(&self.value, at, old_len, revision),
            _ => self.value.clone(),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} at {}, {} bytes)", self.name(), self.modified, self.value.len())
    }
}

/// One change of one key.
pub struct Event {
    pub revision: Revision,
    pub name: Arc<str>,
    /// `None` when the key was deleted.
    pub entry: Option<Arc<Entry>>,
    pub prev: Option<Arc<Entry>>,
    pub at: Instant,
    /// For forms of the event that all watchers share.
    pub note: Note,
}

impl Event {
    /// Roughly what is kept because of the event: an old version belongs to the event that made it, unless it was the last.
    pub(crate) fn bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 256;
        let last = self.entry.as_ref().or(self.prev.as_ref());
        last.map_or(0, |entry| entry.value.len()) + OVERHEAD_BYTES
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (&self.prev, &self.entry) {
            (None, _) => "create",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        };
        write!(f, "{} {what} {}", self.revision, self.name)
    }
}

/// What must hold for a transaction to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Absent,
    Present,
    /// Last written at this revision.
    Modified(Revision),
}

#[derive(Debug, Clone)]
pub struct Expectation {
    pub key: Key,
    pub condition: Condition,
}

#[derive(Debug, Clone)]
pub enum Write {
    Put { key: Key, content: Content, ttl: Option<Duration> },
    Delete { key: Key },
}

impl Write {
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// When a transaction is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// After it is on disk.
    #[default]
    Synced,
    /// As soon as readers see it. Lost by a crash within [`crate::Limits::relaxed_age_max`].
    Relaxed,
}

/// Writes that happen together, at one revision, when all expectations hold.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    pub expect: Vec<Expectation>,
    pub writes: Vec<Write>,
    pub durability: Durability,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    /// `entries` has one item for each write, `None` for deletions.
    Committed { revision: Revision, entries: Vec<Option<Arc<Entry>>> },
    /// `index` says which expectation failed, `current` what its key holds.
    Refused { index: usize, current: Option<Arc<Entry>> },
}

/// Which entries of a collection to read.
#[derive(Debug, Clone, Default)]
pub struct Range {
    pub collection: Arc<str>,
    /// Only names that start with this.
    pub prefix: String,
    /// Only names after this one.
    pub after: Option<String>,
    /// 0 for all.
    pub limit: usize,
    /// `None` for now.
    pub at: Option<Revision>,
}

#[derive(Debug, Clone)]
pub struct Page {
    pub entries: Vec<Arc<Entry>>,
    /// What the page shows: the revision asked for, or now.
    pub revision: Revision,
    /// Entries of the range that did not fit.
    pub remaining: usize,
}

/// A revisioned keyspace.
///
/// Methods named `local_*` answer at once from memory and may lag behind other writers of a shared engine, never behind what
/// this handle acknowledged; the others are consistent.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError>;
    async fn get(&self, key: &Key) -> Result<Option<Arc<Entry>>, StoreError>;
    async fn range(&self, range: Range) -> Result<Page, StoreError>;
    /// The latest revision.
    async fn revision(&self) -> Result<Revision, StoreError>;
    /// Changes of the names that start with `prefix` after the revision `after`.
    fn watch(&self, collection: &str, prefix: &str, after: Revision) -> Result<Watch, StoreError>;
    /// Forgets what ranges at older revisions need.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
    fn local_get(&self, key: &Key) -> Option<Arc<Entry>>;
    fn local_range(&self, collection: &str, prefix: &str) -> Vec<Arc<Entry>>;
    fn local_count(&self, collection: &str) -> usize {
        self.local_size(collection).0
    }
    /// How many entries a collection has, and the bytes of their values.
    fn local_size(&self, collection: &str) -> (usize, usize);
    fn local_revision(&self) -> Revision;
    /// Why writes fail now, until one works again.
    fn trouble(&self) -> Option<StoreError>;
    /// When the collection changed last.
    fn local_collection_revision(&self, collection: &str) -> Revision;
    /// The entry was put on disk another way than it would be now, so that writing it again without a change has a use.
    fn is_stale(&self, _collection: &str, _entry: &Entry) -> bool {
        false
    }
    /// Becomes the new revision of a collection whenever that changes.
    fn changes(&self, collection: &str) -> tokio::sync::watch::Receiver<Revision>;
    /// Writes out what is pending; later writes are refused.
    async fn close(&self);
}
