//! What happens in the cluster, brought into the scheduler's state.

use std::sync::Arc;

use coracle_api_types::Object;
use coracle_client::{Change, Changes};
use coracle_plan_core::pod::{is_finished, node_name};
use coracle_plan_scheduler::{Happening, PodInfo};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;

use crate::{Informers, Scheduler};

/// Subscriptions to everything that matters.
pub struct Feeds {
    pods: Changes<Pod>,
    nodes: Changes<Node>,
    namespaces: Changes<Namespace>,
    claims: Changes<PersistentVolumeClaim>,
    volumes: Changes<PersistentVolume>,
    classes: Changes<StorageClass>,
    budgets: Changes<PodDisruptionBudget>,
}

pub enum Batch {
    Pods(Vec<Change<Pod>>),
    Nodes(Vec<Change<Node>>),
    Namespaces(Vec<Change<Namespace>>),
    Claims(Vec<Change<PersistentVolumeClaim>>),
    Volumes(Vec<Change<PersistentVolume>>),
    Classes(Vec<Change<StorageClass>>),
    Budgets(Vec<Change<PodDisruptionBudget>>),
}

impl Feeds {
    pub fn new(informers: &Informers) -> Self {
        Self {
            pods: informers.pods.subscribe(),
            nodes: informers.nodes.subscribe(),
            namespaces: informers.namespaces.subscribe(),
            claims: informers.claims.subscribe(),
            volumes: informers.volumes.subscribe(),
            classes: informers.classes.subscribe(),
            budgets: informers.budgets.subscribe(),
        }
    }

    /// What came next; what pods need comes before pods. Safe to cancel.
    pub async fn next(&mut self) -> Batch {
        tokio::select! {
            biased;
            changes = self.namespaces.next() => Batch::Namespaces(changes),
            changes = self.classes.next() => Batch::Classes(changes),
            changes = self.volumes.next() => Batch::Volumes(changes),
            changes = self.claims.next() => Batch::Claims(changes),
            changes = self.budgets.next() => Batch::Budgets(changes),
            changes = self.nodes.next() => Batch::Nodes(changes),
            changes = self.pods.next() => Batch::Pods(changes),
        }
    }
}

impl Scheduler {
    pub fn take(&mut self, batch: Batch, now: Timestamp) {
        match batch {
            Batch::Pods(changes) => changes.into_iter().for_each(|change| self.take_pod(change, now)),
            Batch::Nodes(changes) => changes.into_iter().for_each(|change| self.take_node(change, now)),
            Batch::Namespaces(changes) => {
                for change in changes {
                    let name = change.key.name;
                    match change.new {
                        Some(new) => {
                            drop(self.cluster.namespaces.insert(name, new.metadata.labels.clone().unwrap_or_default()))
                        }
                        None => drop(self.cluster.namespaces.remove(&name)),
                    }
                }
            }
            Batch::Budgets(changes) => {
                for change in changes {
                    match change.new {
                        Some(new) => drop(self.cluster.budgets.insert(change.key, new)),
                        None => drop(self.cluster.budgets.remove(&change.key)),
                    }
                }
            }
            Batch::Claims(changes) => {
                for change in changes {
                    match change.new {
                        Some(new) => drop(self.cluster.claims.insert(change.key, new)),
                        None => drop(self.cluster.claims.remove(&change.key)),
                    }
                }
                self.queue.happened(Happening::Storage, now);
            }
            Batch::Volumes(changes) => {
                for change in changes {
                    match change.new {
                        Some(new) => drop(self.cluster.volumes.insert(change.key.name, new)),
                        None => drop(self.cluster.volumes.remove(&change.key.name)),
                    }
                }
                self.queue.happened(Happening::Storage, now);
            }
            Batch::Classes(changes) => {
                for change in changes {
                    match change.new {
                        Some(new) => drop(self.cluster.classes.insert(change.key.name, new)),
                        None => drop(self.cluster.classes.remove(&change.key.name)),
                    }
                }
                self.queue.happened(Happening::Storage, now);
            }
        }
    }

    fn take_node(&mut self, change: Change<Node>, now: Timestamp) {
        match change.new {
            Some(node) => {
                let matters = change.old.as_deref().is_none_or(|old| node_matters(old, &node));
                self.cluster.set_node(node);
                if matters {
                    self.queue.happened(Happening::Node, now);
                }
            }
            None => self.cluster.remove_node(&change.key.name),
        }
    }

    fn take_pod(&mut self, change: Change<Pod>, now: Timestamp) {
        if let Some(old) = &change.old
            && change.new.as_ref().is_none_or(|new| new.uid() != old.uid())
        {
            self.remove_pod(old, now);
        }
        let Some(pod) = change.new else { return };
        if !node_name(&pod).is_empty() {
            self.take_assigned(change.old.as_deref(), &pod, now);
        } else if pod.is_deleting() || is_finished(&pod) {
            self.queue.remove(pod.uid());
            self.cluster.nominated.remove(pod.uid());
        } else if self.is_ours(&pod) && !self.cluster.is_assumed(pod.uid()) {
            self.queue.set(Arc::new(PodInfo::new(pod)), now);
        }
    }

    fn take_assigned(&mut self, old: Option<&Pod>, pod: &Arc<Pod>, now: Timestamp) {
        let placed = old.is_none_or(|old| node_name(old).is_empty());
        let changed = old.is_none_or(|old| {
            old.spec != pod.spec
                || old.metadata.labels != pod.metadata.labels
                || old.is_deleting() != pod.is_deleting()
                || is_finished(old) != is_finished(pod)
                || coracle_plan_core::pod::condition(old, "DisruptionTarget")
                    != coracle_plan_core::pod::condition(pod, "DisruptionTarget")
        });
        if placed {
            self.queue.remove(pod.uid());
        }
        if changed {
            self.cluster.set_pod(pod);
            self.queue.happened(Happening::PodPlaced, now);
            if !placed {
                self.queue.happened(Happening::PodGone, now);
            }
        }
    }

    fn remove_pod(&mut self, pod: &Pod, now: Timestamp) {
        self.queue.remove(pod.uid());
        self.cluster.nominated.remove(pod.uid());
        self.cluster.remove_pod(pod.uid());
        if !node_name(pod).is_empty() {
            self.queue.happened(Happening::PodGone, now);
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.unwrap_or("default-scheduler") == self.config.scheduler_name
    }
}

/// Heartbeats and the like wake nobody.
fn node_matters(old: &Node, new: &Node) -> bool {
    let offer = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || offer(old) != offer(new)
}
