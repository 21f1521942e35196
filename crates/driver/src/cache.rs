//! Waiting until caches show what was written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api_meta::{Gvr, ObjectKey};
use coracle_api_types::Object;
use coracle_client::Informer;
use tokio::sync::watch;

/// How long a plan waits for its own writes to come back. A cache that is further behind has lost its watch.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A cache that follows one resource.
pub trait Cache: Send + Sync + 'static {
    fn version(&self) -> watch::Receiver<u64>;
    /// Whether the object is there and not being deleted.
    fn is_alive(&self, key: &ObjectKey, uid: &str) -> bool;
}

impl<K: Object> Cache for Informer<K> {
    fn version(&self) -> watch::Receiver<u64> {
        Self::version(self)
    }

    fn is_alive(&self, key: &ObjectKey, uid: &str) -> bool {
        self.get_key(key).is_some_and(|object| object.uid() == uid && !object.is_deleting())
    }
}

/// The caches of a process, by resource.
#[derive(Clone, Default)]
pub struct Caches {
    by_gvr: HashMap<Gvr, Arc<dyn Cache>>,
}

impl Caches {
    pub fn add<K: Object>(&mut self, informer: &Informer<K>) {
        self.by_gvr.insert(Gvr::new(K::GROUP, K::VERSION, K::PLURAL), Arc::new(informer.clone()));
    }

    /// Waits, for a limited time, until the resource's cache has followed the server up to `version`.
    pub async fn wait_version(&self, gvr: &Gvr, version: u64) {
        let Some(cache) = self.by_gvr.get(gvr) else { return };
        let mut reached = cache.version();
        let waited = tokio::time::timeout(WAIT_MAX, reached.wait_for(|reached| *reached >= version)).await;
        if waited.is_err() {
            tracing::debug!(resource = gvr.group_resource(), version, "the cache is behind");
        }
    }

    /// Waits, for a limited time, until the cache shows the object gone or going.
    pub async fn wait_deleted(&self, gvr: &Gvr, key: &ObjectKey, uid: &str) {
        let Some(cache) = self.by_gvr.get(gvr) else { return };
        let mut reached = cache.version();
        let gone = reached.wait_for(|_| !cache.is_alive(key, uid));
        if tokio::time::timeout(WAIT_MAX, gone).await.is_err() {
            tracing::debug!(resource = gvr.group_resource(), %key, "the cache still shows what was deleted");
        }
    }
}
