//! Watches: cursors into the shared history. A slow watcher costs nothing but its position; one that falls behind history is told so.

use std::sync::Arc;

use tokio::sync::watch;

use crate::memory::Memory;
use crate::{Event, Revision, StoreError};

const BATCH_EVENTS_MAX: usize = 512;

/// Changes of one collection, in order, none left out.
pub struct Watch {
    memory: Arc<Memory>,
    changed: watch::Receiver<Revision>,
    collection: String,
    prefix: String,
    position: Revision,
}

#[derive(Debug)]
pub struct Batch {
    /// May be empty when only other names changed.
    pub events: Vec<Arc<Event>>,
    /// Everything up to here has been handed out.
    pub revision: Revision,
}

impl Watch {
    pub(crate) fn start(
        memory: Arc<Memory>,
        collection: &str,
        prefix: &str,
        after: Revision,
    ) -> Result<Self, StoreError> {
        let changed = memory.subscribe(collection, after)?;
        Ok(Self { memory, changed, collection: collection.to_owned(), prefix: prefix.to_owned(), position: after })
    }

    /// What happened since the last call; waits when that is nothing. Safe to cancel.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            self.changed.borrow_and_update();
            let batch = self.now()?;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            self.changed.changed().await.map_err(|_| StoreError::Closed)?;
        }
    }

    /// Like [`Watch::next`] without waiting: an empty batch tells how far the watch has seen.
    pub fn now(&mut self) -> Result<Batch, StoreError> {
        let (events, revision) = self.memory.events(&self.collection, &self.prefix, self.position, BATCH_EVENTS_MAX)?;
        self.position = revision;
        Ok(Batch { events, revision })
    }
}
