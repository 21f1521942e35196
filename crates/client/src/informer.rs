//! A cache of objects that follows the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{Api, Error, ListParams, Pool, Result, WatchEvent};

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Lists, then watches, for as long as its token lives. Clones share the cache.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
    synced: watch::Receiver<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), synced: self.synced.clone() }
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// The resource version up to which the cache follows the server.
    version: watch::Sender<u64>,
}

struct State<K> {
    objects: HashMap<ObjectKey, Arc<K>>,
    subscribers: Vec<Weak<Mailbox<K>>>,
}

/// What happened to one object since the subscriber last looked: several changes become one.
#[derive(Debug, Clone)]
pub struct Change<K> {
    pub key: ObjectKey,
    /// As the subscriber last saw it; `None` when it is new to it.
    pub old: Option<Arc<K>>,
    /// `None` when it is gone.
    pub new: Option<Arc<K>>,
}

/// A subscription. It holds at most one change per object, so a slow reader costs no more than the cache itself.
pub struct Changes<K> {
    mailbox: Arc<Mailbox<K>>,
}

struct Mailbox<K> {
    pending: Mutex<Pending<K>>,
    wake: Notify,
}

struct Pending<K> {
    order: Vec<ObjectKey>,
    changes: HashMap<ObjectKey, (Option<Arc<K>>, Option<Arc<K>>)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Object> Informer<K> {
    /// Begins to follow `api`; selectors of `params` are kept on every call.
    #[must_use]
    pub fn start(api: Api<K>, params: ListParams, stop: CancellationToken) -> Self {
        let state = Mutex::new(State { objects: HashMap::new(), subscribers: Vec::new() });
        let shared = Arc::new(Shared { state, version: watch::Sender::new(0) });
        let (sender, synced) = watch::channel(false);
        let reflector = Reflector { api, params, shared: shared.clone(), synced: sender };
        tokio::spawn(stop.run_until_cancelled_owned(reflector.run()));
        Self { shared, synced }
    }

    /// Waits until the first list is in the cache.
    pub async fn wait_synced(&self) {
        // An error means that the informer was stopped; there is nothing to wait for then.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// The resource version up to which the cache follows the server; changes after each event. Lets a writer wait
    /// until it reads its own writes.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get_key(&ObjectKey::new(namespace, name))
    }

    #[must_use]
    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        locked(&self.shared.state).objects.get(key).cloned()
    }

    /// Sorted by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.list_where(|_| true)
    }

    /// Sorted by name.
    #[must_use]
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.list_where(|key| key.namespace == namespace)
    }

    fn list_where(&self, keep: impl Fn(&ObjectKey) -> bool) -> Vec<Arc<K>> {
        let mut found: Vec<(ObjectKey, Arc<K>)> = {
            let state = locked(&self.shared.state);
            let kept = state.objects.iter().filter(|(key, _)| keep(key));
            kept.map(|(key, object)| (key.clone(), object.clone())).collect()
        };
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.into_iter().map(|(_, object)| object).collect()
    }

    /// Changes from now on, beginning with every object that is in the cache.
    #[must_use]
    pub fn subscribe(&self) -> Changes<K> {
        let mut state = locked(&self.shared.state);
        let order: Vec<ObjectKey> = state.objects.keys().cloned().collect();
        let changes = state.objects.iter().map(|(key, object)| (key.clone(), (None, Some(object.clone())))).collect();
        let mailbox = Arc::new(Mailbox { pending: Mutex::new(Pending { order, changes }), wake: Notify::new() });
        mailbox.wake.notify_one();
        state.subscribers.push(Arc::downgrade(&mailbox));
        Changes { mailbox }
    }
}

impl<K> Changes<K> {
    /// Waits for changes and takes all that are there, oldest first. Safe to cancel.
    pub async fn next(&mut self) -> Vec<Change<K>> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            self.mailbox.wake.notified().await;
        }
    }

    /// Takes the changes that are there, without waiting.
    #[must_use]
    pub fn take(&self) -> Vec<Change<K>> {
        let mut pending = locked(&self.mailbox.pending);
        let order = std::mem::take(&mut pending.order);
        let mut changes = std::mem::take(&mut pending.changes);
        drop(pending);
        let take = |key: ObjectKey| changes.remove(&key).map(|(old, new)| Change { key, old, new });
        order.into_iter().filter_map(take).collect()
    }
}

impl<K> Mailbox<K> {
    fn post(&self, key: &ObjectKey, old: Option<Arc<K>>, new: Option<Arc<K>>) {
        let mut pending = locked(&self.pending);
        if let Some((_, latest)) = pending.changes.get_mut(key) {
            *latest = new;
        } else {
            pending.order.push(key.clone());
            pending.changes.insert(key.clone(), (old, new));
        }
        drop(pending);
        self.wake.notify_one();
    }
}

impl<K: Object> Shared<K> {
    fn set(&self, key: ObjectKey, new: Option<Arc<K>>) {
        let mut state = locked(&self.state);
        let old = match &new {
            Some(object) => state.objects.insert(key.clone(), object.clone()),
            None => state.objects.remove(&key),
        };
        if old.is_none() && new.is_none() {
            return;
        }
        state.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(mailbox) => {
                mailbox.post(&key, old.clone(), new.clone());
                true
            }
            None => false,
        });
    }

    fn reached(&self, version: &str) {
        let version: u64 = version.parse().unwrap_or_default();
        self.version.send_modify(|reached| *reached = version.max(*reached));
    }

    /// Makes the cache equal to a list.
    fn replace(&self, items: Vec<K>, pool: &Pool) {
        let fresh: HashMap<ObjectKey, Arc<K>> =
            items.into_iter().map(|object| (key_of(&object), pool.share(object))).collect();
        let gone: Vec<ObjectKey> = {
            let state = locked(&self.state);
            state.objects.keys().filter(|key| !fresh.contains_key(*key)).cloned().collect()
        };
        for key in gone {
            self.set(key, None);
        }
        for (key, object) in fresh {
            let known = locked(&self.state).objects.get(&key).cloned();
            if known.is_none_or(|known| known.resource_version() != object.resource_version()) {
                self.set(key, Some(object));
            }
        }
    }
}

fn key_of<K: Object>(object: &K) -> ObjectKey {
    ObjectKey::new(object.namespace(), object.name())
}

fn failed(kind: &str, error: &Error) {
    tracing::debug!(kind, %error, "list and watch");
}

struct Reflector<K> {
    api: Api<K>,
    params: ListParams,
    shared: Arc<Shared<K>>,
    synced: watch::Sender<bool>,
}

impl<K: Object> Reflector<K> {
    async fn run(self) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match self.list_and_watch(&mut backoff).await {
                Ok(()) => {}
                Err(error) if error.is_expired() => {
                    failed(K::KIND, &error);
                    continue;
                }
                Err(error) => failed(K::KIND, &error),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn list_and_watch(&self, backoff: &mut Duration) -> Result<()> {
        let list = self.api.list(&self.params).await?;
        let mut version = list.resource_version;
        self.shared.replace(list.items, self.api.dynamic().client().pool());
        self.shared.reached(&version);
        self.synced.send_replace(true);
        loop {
            let params = ListParams { resource_version: version.clone(), ..self.params.clone() };
            let mut stream = self.api.dynamic().watch(&params).await?;
            *backoff = BACKOFF_FIRST;
            let mut seen = false;
            loop {
                match stream.next().await {
                    Ok(Some(event)) => {
                        version = self.handle(&event)?;
                        seen = true;
                    }
                    Ok(None) => break,
                    Err(error @ Error::Transport(_)) => {
                        failed(K::KIND, &error);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            if !seen {
                tokio::time::sleep(BACKOFF_FIRST).await;
            }
        }
    }

    /// Returns the resource version that the event brought.
    fn handle(&self, event: &WatchEvent) -> Result<String> {
        let (WatchEvent::Added(bytes)
        | WatchEvent::Modified(bytes)
        | WatchEvent::Deleted(bytes)
        | WatchEvent::Bookmark(bytes)) = event;
        let object = K::from_slice(bytes)?;
        let version = object.resource_version().to_owned();
        match event {
            WatchEvent::Added(_) | WatchEvent::Modified(_) => {
                let pool = self.api.dynamic().client().pool();
                self.shared.set(key_of(&object), Some(pool.share(object)));
            }
            WatchEvent::Deleted(_) => self.shared.set(key_of(&object), None),
            WatchEvent::Bookmark(_) => {}
        }
        self.shared.reached(&version);
        Ok(version)
    }
}
