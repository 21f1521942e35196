//! Who may use what of this node: pods that were taken, with the resources they were granted.
//!
//! What is decided, `plan-pods` decides; here it is remembered. Grants of pods that run are learned again from their
//! status after a restart, so nothing is kept on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_api_types::Object;
use coracle_client::Informer;
use coracle_plan_pods::Ended;
use coracle_plan_pods::admission::{Rejection, Room, admit, make_room};
use coracle_plan_pods::resize::{same_resources, with_reported_resources, with_resources_of};
use coracle_plan_pods::resources::pod_requests;
use k8s_openapi::api::core::v1::{Node, Pod};

use tokio::sync::watch;

use crate::source::Workers;

pub(crate) struct Admission {
    node: Informer<Node>,
    /// What is known of the node before the API has its object.
    stand_in: Node,
    workers: Workers,
    state: Mutex<State>,
    /// Conditions of the node that are true, by name.
    pressure: watch::Sender<Vec<&'static str>>,
    /// Counts pods that have left.
    left: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// By uid, with the resources granted.
    pods: BTreeMap<String, Arc<Pod>>,
    /// Uids of pods whose resize waits for room.
    deferred: BTreeSet<String>,
}

/// What became of a pod's wish for other resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resized {
    /// It asks for what it has.
    Same,
    Granted,
    /// There is no room, and why.
    Deferred(String),
}

impl Admission {
    pub(crate) fn new(node: Informer<Node>, stand_in: Node, workers: Workers) -> Self {
        let (pressure, left) = (watch::Sender::default(), watch::Sender::default());
        Self { node, stand_in, workers, state: Mutex::default(), pressure, left }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node as the API has it.
    pub(crate) fn node(&self) -> Arc<Node> {
        self.node.get("", self.stand_in.name()).unwrap_or_else(|| Arc::new(self.stand_in.clone()))
    }

    /// Takes a pod that runs already, whatever the node looks like by now.
    pub(crate) fn adopt(&self, pod: &Pod) {
        let granted = Arc::new(with_reported_resources(pod));
        self.locked().pods.insert(pod.uid().to_owned(), granted);
    }

    /// Takes a new pod, if there is room for it.
    pub(crate) fn admit(&self, pod: &Arc<Pod>) -> Result<(), Rejection> {
        let node = self.node();
        let pressure = self.pressure();
        let mut state = self.locked();
        let leaving = match state.check(pod, &node, &pressure) {
            Ok(()) => Vec::new(),
            Err(rejection) => state.make_room(pod, &node, &pressure).ok_or(rejection)?,
        };
        state.pods.insert(pod.uid().to_owned(), pod.clone());
        for uid in &leaving {
            state.pods.remove(uid);
        }
        drop(state);
        for inbox in leaving.iter().filter_map(|uid| self.workers.get(uid)) {
            inbox.post(|news| news.evict = Some(preempted()));
        }
        Ok(())
    }

    /// Grants the resources of the newest spec, if there is room. Returns the pod with what it may use.
    pub(crate) fn resize(&self, pod: &Arc<Pod>) -> (Arc<Pod>, Resized) {
        let (node, pressure) = (self.node(), self.pressure());
        let mut state = self.locked();
        let uid = pod.uid().to_owned();
        let Some(granted) = state.pods.get(&uid).cloned() else { return (pod.clone(), Resized::Same) };
        state.deferred.remove(&uid);
        if same_resources(pod, &granted) {
            state.pods.insert(uid, pod.clone());
            return (pod.clone(), Resized::Same);
        }
        if let Err(rejection) = state.check(pod, &node, &pressure) {
            let kept = Arc::new(with_resources_of(pod, &granted));
            state.pods.insert(uid.clone(), kept.clone());
            state.deferred.insert(uid);
            return (kept, Resized::Deferred(rejection.message));
        }
        state.pods.insert(uid, pod.clone());
        let waiting = if pod_requests(pod) == pod_requests(&granted) { Vec::new() } else { state.waiting() };
        drop(state);
        self.retry(&waiting);
        (pod.clone(), Resized::Granted)
    }

    /// The pod uses nothing any more.
    pub(crate) fn release(&self, uid: &str) {
        let mut state = self.locked();
        state.deferred.remove(uid);
        if state.pods.remove(uid).is_none() {
            return;
        }
        let waiting = state.waiting();
        drop(state);
        self.left.send_modify(|count| *count += 1);
        self.retry(&waiting);
    }

    /// Whether the pod holds resources.
    pub(crate) fn holds(&self, uid: &str) -> bool {
        self.locked().pods.contains_key(uid)
    }

    /// Waits until the pod uses nothing any more.
    pub(crate) async fn wait_released(&self, uid: &str) {
        let mut left = self.left.subscribe();
        while self.holds(uid) && left.changed().await.is_ok() {}
    }

    /// Conditions of the node that are true, by name.
    pub(crate) fn set_pressure(&self, pressure: Vec<&'static str>) {
        self.pressure.send_if_modified(|known| std::mem::replace(known, pressure.clone()) != pressure);
    }

    pub(crate) fn pressure(&self) -> Vec<&'static str> {
        self.pressure.borrow().clone()
    }

    pub(crate) async fn pressure_changed(&self) {
        // The sender lives as long as this does.
        let _ = self.pressure.subscribe().changed().await;
    }

    fn retry(&self, waiting: &[String]) {
        for inbox in waiting.iter().filter_map(|uid| self.workers.get(uid)) {
            inbox.post(|news| news.room = true);
        }
    }
}

/// How a pod ends whose room another needs more.
fn preempted() -> Ended {
    Ended {
        reason: "Preempting".to_owned(),
        message: "Preempted in order to admit critical pod".to_owned(),
        grace_seconds: None,
        disrupted: true,
    }
}

impl State {
    fn check(&self, pod: &Pod, node: &Node, pressure: &[&str]) -> Result<(), Rejection> {
        let others: Vec<&Pod> = self.pods.values().map(Arc::as_ref).filter(|other| other.uid() != pod.uid()).collect();
        admit(pod, &Room { node, others: &others, pressure })
    }

    fn make_room(&self, pod: &Pod, node: &Node, pressure: &[&str]) -> Option<Vec<String>> {
        let others: Vec<&Pod> = self.pods.values().map(Arc::as_ref).filter(|other| other.uid() != pod.uid()).collect();
        make_room(pod, &Room { node, others: &others, pressure })
    }

    fn waiting(&self) -> Vec<String> {
        self.deferred.iter().cloned().collect()
    }
}
