//! Which pod is next: active, backing off, or waiting for something to change.
//! Source: `pkg/scheduler/backend/queue`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use jiff::Timestamp;

use crate::info::PodInfo;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// After so long a pod is tried again even if nothing seems to have changed for it.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);

/// Something that may make a pod schedulable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// A node came, or changed what it offers.
    Node,
    /// A pod that was on a node is gone or is smaller.
    PodGone,
    /// A pod was placed on a node or changed its labels.
    PodPlaced,
    /// Volumes, claims or classes changed.
    Storage,
}

impl Happening {
    /// Whether it could change the mind of a plugin.
    #[must_use]
    pub fn concerns(self, plugin: &str) -> bool {
        match self {
            Self::Node => true,
            Self::PodGone => {
                matches!(plugin, "NodeResourcesFit" | "NodePorts" | "InterPodAffinity" | "PodTopologySpread")
            }
            Self::PodPlaced => matches!(plugin, "InterPodAffinity" | "PodTopologySpread"),
            Self::Storage => plugin == "VolumeBinding",
        }
    }
}

/// Higher priority first, then longer waiting, then name.
type Rank = (std::cmp::Reverse<i32>, Timestamp, String);

#[derive(Debug, Clone)]
struct Waiting {
    pod: Arc<PodInfo>,
    attempts: u32,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Active(Rank),
    Backoff(Timestamp),
    Unschedulable {
        plugins: BTreeSet<&'static str>,
        since: Timestamp,
    },
    Gated,
    /// Handed out by [`Queue::pop`].
    InFlight,
}

/// Pods that want a node.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    pods: BTreeMap<String, Waiting>,
    active: BTreeMap<Rank, String>,
    /// Happenings while a pod is in flight, which its verdict may have missed.
    missed: BTreeSet<Happening>,
}

fn is_gated(pod: &PodInfo) -> bool {
    pod.spec().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}

/// What of a pod can matter for scheduling: its status alone does not.
fn matters(before: &PodInfo, after: &PodInfo) -> bool {
    before.pod.spec != after.pod.spec || before.pod.metadata.labels != after.pod.metadata.labels
}

impl Queue {
    /// A pod is new or has changed.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let uid = pod.pod.uid().to_owned();
        let Some(waiting) = self.pods.get_mut(&uid) else {
            let place = if is_gated(&pod) { Place::Gated } else { Place::InFlight };
            let gated = place == Place::Gated;
            self.pods.insert(uid.clone(), Waiting { pod, attempts: 0, place });
            if !gated {
                self.activate(&uid, now);
            }
            return;
        };
        let changed = matters(&waiting.pod, &pod);
        let open = !is_gated(&pod);
        waiting.pod = pod;
        match waiting.place {
            Place::Gated if open => self.activate(&uid, now),
            Place::Unschedulable { .. } if changed && open => self.activate(&uid, now),
            _ => {}
        }
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(Waiting { place: Place::Active(rank), .. }) = self.pods.remove(uid) {
            self.active.remove(&rank);
        }
    }

    #[must_use]
    pub fn contains(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    fn activate(&mut self, uid: &str, now: Timestamp) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        let rank = (std::cmp::Reverse(waiting.pod.priority()), now, uid.to_owned());
        if let Place::Active(before) = &waiting.place {
            self.active.remove(before);
        }
        waiting.place = Place::Active(rank.clone());
        self.active.insert(rank, uid.to_owned());
    }

    /// The next pod to schedule. [`Self::failed`] or [`Self::remove`] must follow.
    pub fn pop(&mut self, now: Timestamp) -> Option<Arc<PodInfo>> {
        self.promote(now);
        let (_, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.place = Place::InFlight;
        waiting.attempts += 1;
        self.missed.clear();
        Some(waiting.pod.clone())
    }

    fn promote(&mut self, now: Timestamp) {
        let due = |waiting: &Waiting| match &waiting.place {
            Place::Backoff(until) => *until <= now,
            Place::Unschedulable { since, .. } => *since + UNSCHEDULABLE_MAX <= now,
            _ => false,
        };
        let ready: Vec<String> = self.pods.iter().filter(|(_, own)| due(own)).map(|(uid, _)| uid.clone()).collect();
        ready.iter().for_each(|uid| self.activate(uid, now));
    }

    /// When [`Self::pop`] will have something although nothing happens.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let due = |waiting: &Waiting| match &waiting.place {
            Place::Backoff(until) => Some(*until),
            Place::Unschedulable { since, .. } => Some(*since + UNSCHEDULABLE_MAX),
            _ => None,
        };
        self.pods.values().filter_map(due).min()
    }

    /// The pod found no node. Without plugins it was an error: it is tried again after its backoff.
    pub fn failed(&mut self, uid: &str, plugins: BTreeSet<&'static str>, now: Timestamp) {
        let missed = self.missed.iter().any(|happening| plugins.iter().any(|plugin| happening.concerns(plugin)));
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.place = if plugins.is_empty() || missed {
            Place::Backoff(now + backoff(waiting.attempts))
        } else {
            Place::Unschedulable { plugins, since: now }
        };
    }

    /// Wakes the pods whose plugins it concerns; those still in their backoff wait for its end.
    pub fn happened(&mut self, happening: Happening, now: Timestamp) {
        self.missed.insert(happening);
        let mut ready = Vec::new();
        for (uid, waiting) in &mut self.pods {
            let Place::Unschedulable { plugins, since } = &waiting.place else { continue };
            if !plugins.iter().any(|plugin| happening.concerns(plugin)) {
                continue;
            }
            let until = *since + backoff(waiting.attempts);
            if until <= now {
                ready.push(uid.clone());
            } else {
                waiting.place = Place::Backoff(until);
            }
        }
        ready.iter().for_each(|uid| self.activate(uid, now));
    }
}

fn backoff(attempts: u32) -> Duration {
    (BACKOFF_FIRST * 2_u32.pow(attempts.saturating_sub(1).min(8))).min(BACKOFF_MAX)
}
