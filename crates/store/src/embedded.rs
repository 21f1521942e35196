//! The engine for one machine.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::disk::{Disk, Loaded};
use crate::lock::FolderLock;
use crate::memory::{Limits, Memory};
use crate::writer::{Request, Writer};
use crate::{Entry, Key, Outcome, Page, Range, Revision, Seal, Store, StoreError, Transaction, Watch};

#[derive(Clone, Default)]
pub struct Options {
    pub limits: Limits,
    /// How values look on disk; `None`: as they are.
    pub seal: Option<Arc<dyn Seal>>,
}

/// A store in a folder of its own.
pub struct Embedded {
    memory: Arc<Memory>,
    requests: mpsc::Sender<Request>,
    seal: Option<Arc<dyn Seal>>,
}

impl Embedded {
    /// Whether `folder` holds a store.
    #[must_use]
    pub fn exists(folder: &Path) -> bool {
        Disk::exists(folder)
    }

    /// Opens or creates the store in `folder`. Blocks while reading what is there.
    pub fn open(folder: &Path, options: Options) -> Result<Self, StoreError> {
        let io = |error: std::io::Error| StoreError::Io { path: folder.to_owned(), detail: error.to_string() };
        std::fs::create_dir_all(folder).map_err(io)?;
        let lock = FolderLock::take(folder)?;
        let Loaded { disk, revision, entries } =
            Disk::open(folder, options.seal.as_deref(), options.limits.reserve_bytes)?;
        let expiries: Vec<(u64, Key)> =
            entries.iter().filter_map(|(key, entry)| Some((entry.expires_at?, key.clone()))).collect();
        let memory = Arc::new(Memory::new(options.limits, revision, entries));
        let (requests, receiver) = mpsc::channel(options.limits.queue_max);
        let writer = Writer::new(disk, Arc::clone(&memory), receiver, expiries, options.seal.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(io)?;
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                let closed = writer.run(&runtime);
                drop(lock);
                if let Some(closed) = closed {
                    let _ = closed.send(());
                }
            })
            .map_err(io)?;
        Ok(Self { memory, requests, seal: options.seal })
    }
}

#[async_trait]
impl Store for Embedded {
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Commit(transaction, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn get(&self, key: &Key) -> Result<Option<Arc<Entry>>, StoreError> {
        Ok(self.memory.get(key))
    }

    async fn range(&self, range: Range) -> Result<Page, StoreError> {
        self.memory.range(&range)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.local_revision())
    }

    fn watch(&self, collection: &str, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        Watch::start(Arc::clone(&self.memory), collection, prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.memory.compact(revision);
        Ok(())
    }

    fn local_get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.memory.get(key)
    }

    fn local_range(&self, collection: &str, prefix: &str) -> Vec<Arc<Entry>> {
        self.memory.local_range(collection, prefix)
    }

    fn local_size(&self, collection: &str) -> (usize, usize) {
        self.memory.size(collection)
    }

    fn trouble(&self) -> Option<StoreError> {
        self.memory.trouble()
    }

    fn local_revision(&self) -> Revision {
        self.memory.read().revision
    }

    fn local_collection_revision(&self, collection: &str) -> Revision {
        self.memory.collection_revision(collection)
    }

    fn changes(&self, collection: &str) -> tokio::sync::watch::Receiver<Revision> {
        self.memory.changes(collection)
    }

    fn is_stale(&self, collection: &str, entry: &Entry) -> bool {
        self.seal.as_ref().is_some_and(|seal| seal.current(collection) != entry.seal)
    }

    async fn close(&self) {
        let (done, finished) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            let _ = finished.await;
        }
    }
}
