//! Which pods this node runs: those bound to it in the API, and those of manifest files.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_api_types::Object;
use coracle_plan_pods::RuntimePod;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{Notify, watch};

/// The pods that have a worker, by uid. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Workers {
    inboxes: Arc<Mutex<HashMap<String, Arc<Inbox>>>>,
    /// Told of every pod that comes, goes or changes.
    changed: Arc<Notify>,
}

/// What a worker is to look at when it wakes. Several changes become one.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    wake: Notify,
    changed: Arc<Notify>,
    /// Counts what the worker made known.
    published: watch::Sender<u64>,
}

#[derive(Default)]
struct InboxState {
    news: News,
    /// Latest pod and status, for readers.
    pod: Option<Arc<Pod>>,
    status: Option<Arc<PodStatus>>,
    runtime: Arc<RuntimePod>,
}

/// Since the worker last looked.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) pod: Option<Arc<Pod>>,
    /// What the API shows of a static pod.
    pub(crate) mirror: Option<Arc<Pod>>,
    /// The object is gone from its source.
    pub(crate) gone: bool,
    /// Ids of the runtime's to ask about, found by others.
    pub(crate) sandboxes: Vec<String>,
    pub(crate) containers: Vec<String>,
    /// Verdicts of probes: container id, kind, success.
    pub(crate) verdicts: Vec<(String, coracle_plan_pods::ProbeKind, bool)>,
    /// Another pod has left room for a resize that waits.
    pub(crate) room: bool,
    pub(crate) evict: Option<coracle_plan_pods::Ended>,
    /// Something that the pod's volumes show has changed.
    pub(crate) objects: bool,
}

impl Inbox {
    fn locked(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn post(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.locked().news);
        self.wake.notify_one();
    }

    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut self.locked().news)
    }

    /// Whether the pod has to end, as far as the worker has not seen yet.
    pub(crate) fn has_end(&self) -> bool {
        let state = self.locked();
        let deleting = state.news.pod.as_ref().is_some_and(|pod| pod.is_deleting());
        state.news.gone || deleting || state.news.evict.is_some()
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn publish(&self, pod: &Arc<Pod>, status: &PodStatus, runtime: &RuntimePod) {
        let mut state = self.locked();
        state.pod = Some(pod.clone());
        state.status = Some(Arc::new(status.clone()));
        state.runtime = Arc::new(runtime.clone());
        drop(state);
        self.changed.notify_one();
        self.published.send_modify(|count| *count += 1);
    }

    /// Tells when the pod, its status or its containers have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.locked();
        Snapshot { pod: state.pod.clone(), status: state.status.clone(), runtime: state.runtime.clone() }
    }
}

/// A pod as its worker last saw it.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) pod: Option<Arc<Pod>>,
    pub(crate) status: Option<Arc<PodStatus>>,
    pub(crate) runtime: Arc<RuntimePod>,
}

impl Workers {
    fn locked(&self) -> MutexGuard<'_, HashMap<String, Arc<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Inbox>> {
        self.locked().get(uid).cloned()
    }

    /// A new inbox, unless there is one.
    pub(crate) fn open(&self, uid: &str) -> Option<Arc<Inbox>> {
        let mut inboxes = self.locked();
        if inboxes.contains_key(uid) {
            return None;
        }
        let inbox = Arc::new(Inbox { changed: self.changed.clone(), ..Inbox::default() });
        inboxes.insert(uid.to_owned(), inbox.clone());
        Some(inbox)
    }

    pub(crate) fn close(&self, uid: &str) {
        self.locked().remove(uid);
        self.changed.notify_one();
    }

    /// Waits until some pod has come, gone or changed. For one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn wake(&self, uid: &str) {
        if let Some(inbox) = self.get(uid) {
            inbox.post(|news| news.objects = true);
        }
    }

    /// All pods by uid, as their workers last saw them.
    pub(crate) fn snapshots(&self) -> BTreeMap<String, Snapshot> {
        self.locked().iter().map(|(uid, inbox)| (uid.clone(), inbox.snapshot())).collect()
    }

    /// The pod of a name; with a uid only that one.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: &str) -> Option<Snapshot> {
        let is_it = |snapshot: &Snapshot| {
            let Some(pod) = &snapshot.pod else { return false };
            pod.namespace() == namespace && pod.name() == name && (uid.is_empty() || pod.uid() == uid)
        };
        self.snapshots().into_values().find(is_it)
    }
}
