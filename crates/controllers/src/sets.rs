//! Daemon sets and stateful sets.

use coracle_api_meta::{ObjectKey, reason};
use coracle_api_types::Object;
use coracle_client::Change;
use coracle_driver::{Failure, Planned, Queue, Request, feed, feed_with};
use coracle_plan_controllers::{daemonset, statefulset};
use coracle_plan_core::Plan;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};

use crate::Context;
use crate::workloads::{adopters, owners_of};

const WORKERS: usize = 2;

pub fn start(context: &Context) {
    start_daemon_sets(context);
    start_stateful_sets(context);
}

fn name_taken(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| {
        failure.verb == "create"
            && failure.resource == "controllerrevisions"
            && failure.reason == reason::ALREADY_EXISTS
    })
}

/// Heartbeats of nodes do not matter to daemon sets.
fn node_matters(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    old.metadata.labels != new.metadata.labels || taints(old) != taints(new)
}

fn start_daemon_sets(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.daemon_sets, &queue);
    feed_with(&context.tasks, &context.stop, &informers.nodes, &queue, {
        let sets = informers.daemon_sets.clone();
        move |change| {
            if !node_matters(change) {
                return Vec::new();
            }
            sets.list().iter().map(|set| ObjectKey::new(set.namespace(), set.name())).collect()
        }
    });
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let sets = informers.daemon_sets.clone();
        move |change| {
            owners_of(change, "DaemonSet", |pod: &Pod| {
                adopters(&sets, pod, |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.selector.clone()))
            })
        }
    });
    feed_with(&context.tasks, &context.stop, &informers.revisions, &queue, {
        let sets = informers.daemon_sets.clone();
        move |change| {
            owners_of(change, "DaemonSet", |revision: &ControllerRevision| {
                adopters(&sets, revision, |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.selector.clone()))
            })
        }
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(set) = informers.daemon_sets.get_key(&request.key) else { return Plan::nothing() };
        let view = daemonset::View {
            set: &set,
            nodes: &informers.nodes.list(),
            pods: &informers.pods.list_namespace(&request.key.namespace),
            revisions: &informers.revisions.list_namespace(&request.key.namespace),
            name_taken: name_taken(request.failure.as_ref()),
        };
        daemonset::plan(&view, request.now)
    };
    let name = "daemonset-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_stateful_sets(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.stateful_sets, &queue);
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let sets = informers.stateful_sets.clone();
        move |change| {
            owners_of(change, "StatefulSet", |pod: &Pod| {
                adopters(&sets, pod, |set: &StatefulSet| set.spec.as_ref().map(|spec| spec.selector.clone()))
            })
        }
    });
    feed_with(&context.tasks, &context.stop, &informers.revisions, &queue, {
        let sets = informers.stateful_sets.clone();
        move |change| {
            owners_of(change, "StatefulSet", |revision: &ControllerRevision| {
                adopters(&sets, revision, |set: &StatefulSet| set.spec.as_ref().map(|spec| spec.selector.clone()))
            })
        }
    });
    feed_with(&context.tasks, &context.stop, &informers.claims, &queue, {
        let sets = informers.stateful_sets.clone();
        move |change: &Change<PersistentVolumeClaim>| {
            if change.new.is_some() {
                return Vec::new();
            }
            let owned = sets.list_namespace(&change.key.namespace).into_iter();
            owned.map(|set| ObjectKey::new(set.namespace(), set.name())).collect()
        }
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(set) = informers.stateful_sets.get_key(&request.key) else { return Plan::nothing() };
        let view = statefulset::View {
            set: &set,
            pods: &informers.pods.list_namespace(&request.key.namespace),
            revisions: &informers.revisions.list_namespace(&request.key.namespace),
            claims: &informers.claims.list_namespace(&request.key.namespace),
            name_taken: name_taken(request.failure.as_ref()),
        };
        statefulset::plan(&view, request.now)
    };
    let name = "statefulset-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}
