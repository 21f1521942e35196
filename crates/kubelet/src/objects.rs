//! Config maps and secrets that pods of this node use, each followed by a watch of its own.
//!
//! One watch per object keeps the node from seeing what its pods do not use. Source: kubelet's watch-based manager.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::{Api, Client, Informer, ListParams};
use tokio_util::sync::CancellationToken;

use crate::source::Workers;
use crate::{Error, Result};

/// How long a first read may take.
const SYNC_WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) struct ObjectCache<K> {
    client: Client,
    workers: Workers,
    stop: CancellationToken,
    entries: Mutex<HashMap<ObjectKey, Entry<K>>>,
}

struct Entry<K> {
    informer: Informer<K>,
    /// Uids of pods.
    users: Arc<Mutex<BTreeSet<String>>>,
    stop: CancellationToken,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Object> ObjectCache<K> {
    pub(crate) fn new(client: &Client, workers: &Workers, stop: &CancellationToken) -> Self {
        let entries = Mutex::new(HashMap::new());
        Self { client: client.clone(), workers: workers.clone(), stop: stop.clone(), entries }
    }

    /// Follows these objects, and no others, for a pod; it is woken when one changes.
    pub(crate) fn follow(&self, pod_uid: &str, namespace: &str, names: &BTreeSet<String>) {
        let mut entries = locked(&self.entries);
        for name in names {
            let key = ObjectKey::new(namespace, name);
            let entry = entries.entry(key).or_insert_with(|| self.start(namespace, name));
            locked(&entry.users).insert(pod_uid.to_owned());
        }
        let wanted = |key: &ObjectKey| key.namespace == namespace && names.contains(&key.name);
        entries.retain(|key, entry| wanted(key) || !entry.leave(pod_uid));
    }

    /// The pod is gone.
    pub(crate) fn release(&self, pod_uid: &str) {
        locked(&self.entries).retain(|_, entry| !entry.leave(pod_uid));
    }

    fn start(&self, namespace: &str, name: &str) -> Entry<K> {
        let stop = self.stop.child_token();
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let informer = Informer::start(Api::<K>::namespaced(&self.client, namespace), params, stop.clone());
        let users: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let mut changes = informer.subscribe();
        let (woken, workers) = (users.clone(), self.workers.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                changes.next().await;
                for uid in locked(&woken).clone() {
                    workers.wake(&uid);
                }
            }
        }));
        Entry { informer, users, stop }
    }

    /// `None` when there is no such object.
    pub(crate) async fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>> {
        let informer = {
            let entries = locked(&self.entries);
            entries.get(&ObjectKey::new(namespace, name)).map(|entry| entry.informer.clone())
        };
        let Some(informer) = informer else {
            return Ok(Api::<K>::namespaced(&self.client, namespace).get_opt(name).await?.map(Arc::new));
        };
        if tokio::time::timeout(SYNC_WAIT_MAX, informer.wait_synced()).await.is_err() {
            let kind = K::KIND.to_lowercase();
            return Err(Error::message(format!("failed to sync {kind} cache: timed out waiting for the condition")));
        }
        Ok(informer.get(namespace, name))
    }
}

impl<K> Entry<K> {
    /// Returns whether nobody is left.
    fn leave(&self, pod_uid: &str) -> bool {
        let mut users = locked(&self.users);
        users.remove(pod_uid);
        let empty = users.is_empty();
        if empty {
            self.stop.cancel();
        }
        empty
    }
}
