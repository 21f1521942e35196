//! Node lifecycle, eviction by taint, and pods without a node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::Change;
use coracle_driver::{Planned, Queue, Request, feed, feed_with};
use coracle_plan_controllers::{node_lifecycle, pod_gc};
use coracle_plan_core::pod::node_name;
use coracle_plan_core::{Action, EventKind, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::Context;
use crate::informers::Informers;

const WORKERS: usize = 5;
const LEASES: &str = "kube-node-lease";

pub fn start(context: &Context) {
    start_lifecycle(context);
    start_eviction(context);
    start_pod_gc(context);
}

/// Moments at which something was first seen, by key.
#[derive(Default)]
struct Seen(Mutex<HashMap<String, (String, Timestamp)>>);

impl Seen {
    /// When `mark` was first seen for the key.
    fn since(&self, key: &str, mark: &str, now: Timestamp) -> Timestamp {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(key) {
            Some((known, since)) if known == mark => *since,
            Some(entry) => {
                *entry = (mark.to_owned(), now);
                now
            }
            None => {
                seen.insert(key.to_owned(), (mark.to_owned(), now));
                now
            }
        }
    }

    /// Says whether it was known.
    fn forget(&self, key: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some()
    }
}

fn pods_on(informers: &Informers, node: &str) -> Vec<Arc<Pod>> {
    let mut pods = informers.pods.list();
    pods.retain(|pod| node_name(pod) == node);
    pods
}

fn start_lifecycle(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.nodes, &queue);
    feed_with(&context.tasks, &context.stop, &informers.leases, &queue, |change| {
        let of_node = change.key.namespace == LEASES;
        if of_node { vec![ObjectKey::new("", &change.key.name)] } else { Vec::new() }
    });
    let heard = Seen::default();
    let registered = Seen::default();
    let plan = move |request: &Request<ObjectKey>| {
        let name = &request.key.name;
        let Some(node) = informers.nodes.get_key(&request.key) else {
            heard.forget(name);
            return if registered.forget(name) { Plan::from(vec![removing(name)]) } else { Plan::nothing() };
        };
        let since = heard.since(name, &heartbeat(&informers, &node), request.now);
        let ready = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = ready.into_iter().flatten().any(|own| own.type_ == "Ready" && own.status == "True");
        let pods = if ready { Vec::new() } else { pods_on(&informers, name) };
        let mut plan =
            node_lifecycle::plan(&node_lifecycle::View { node: &node, heard: since, pods: &pods }, request.now);
        if registered.since(name, node.uid(), request.now) == request.now {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            plan.push(Action::event(&*node, EventKind::Normal, "RegisteredNode", message));
        }
        plan
    };
    let name = "node-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn removing(name: &str) -> Action {
    let node = Node {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        ..Node::default()
    };
    let message = format!("Node {name} event: Removing Node {name} from Controller");
    Action::event(&node, EventKind::Normal, "RemovingNode", message)
}

/// Changes whenever the node gives a sign of life.
fn heartbeat(informers: &Informers, node: &Node) -> String {
    let lease = informers.leases.get(LEASES, node.name());
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let beat = ready.and_then(|ready| ready.last_heartbeat_time.as_ref().map(|time| time.0));
    format!("{renewed:?} {beat:?}")
}

fn key_of(pod: &Pod) -> ObjectKey {
    ObjectKey::new(pod.namespace(), pod.name())
}

fn no_execute(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let wanted = taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute");
    wanted.map(|taint| format!("{}={}", taint.key, taint.value.as_deref().unwrap_or_default())).collect()
}

fn start_eviction(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, |change| {
        let placed = |pod: &Arc<Pod>| !node_name(pod).is_empty();
        let moved = change.old.as_ref().is_none_or(|old| !placed(old)) && change.new.as_ref().is_some_and(placed);
        let tolerations = |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
        let other = match (&change.old, &change.new) {
            (Some(old), Some(new)) => tolerations(old) != tolerations(new),
            (_, new) => new.is_none(),
        };
        if moved || other { vec![change.key.clone()] } else { Vec::new() }
    });
    feed_with(&context.tasks, &context.stop, &informers.nodes, &queue, {
        let informers = informers.clone();
        move |change: &Change<Node>| {
            let taints = |node: &Option<Arc<Node>>| node.as_deref().map(no_execute).unwrap_or_default();
            if taints(&change.old) == taints(&change.new) {
                return Vec::new();
            }
            pods_on(&informers, &change.key.name).iter().map(|pod| key_of(pod)).collect()
        }
    });
    let tainted = Seen::default();
    let plan = move |request: &Request<ObjectKey>| {
        let key = request.key.to_string();
        let Some(pod) = informers.pods.get_key(&request.key) else {
            tainted.forget(&key);
            return Plan::nothing();
        };
        let node = informers.nodes.get("", node_name(&pod)).filter(|node| !no_execute(node).is_empty());
        let Some(node) = node.filter(|node| node_lifecycle::stay(&pod, node) != node_lifecycle::Stay::Forever) else {
            if tainted.forget(&key) && !pod.is_deleting() {
                let message = format!("Cancelling deletion of Pod {key}");
                return Plan::from(vec![Action::event(&*pod, EventKind::Normal, "TaintManagerEviction", message)]);
            }
            return Plan::nothing();
        };
        let since = tainted.since(&key, pod.uid(), request.now);
        node_lifecycle::plan_eviction(&pod, &node, since, request.now)
    };
    let name = "taint-eviction-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_pod_gc(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let informers = informers.clone();
        move |change: &Change<Pod>| {
            let stray = |pod: &Pod| {
                let node = node_name(pod);
                if node.is_empty() { pod.is_deleting() } else { informers.nodes.get("", node).is_none() }
            };
            let wanted = change.new.as_ref().is_none_or(|pod| stray(pod));
            if wanted { vec![change.key.clone()] } else { Vec::new() }
        }
    });
    feed_with(&context.tasks, &context.stop, &informers.nodes, &queue, {
        let informers = informers.clone();
        move |change: &Change<Node>| {
            if change.new.is_some() {
                return Vec::new();
            }
            pods_on(&informers, &change.key.name).iter().map(|pod| key_of(pod)).collect()
        }
    });
    let missing = Seen::default();
    let plan = move |request: &Request<ObjectKey>| {
        let key = request.key.to_string();
        let Some(pod) = informers.pods.get_key(&request.key) else {
            missing.forget(&key);
            return Plan::nothing();
        };
        let node = node_name(&pod);
        let lost = !node.is_empty() && informers.nodes.get("", node).is_none();
        if !lost {
            missing.forget(&key);
        }
        let since = lost.then(|| missing.since(&key, node, request.now));
        pod_gc::plan(&pod, since, request.now)
    };
    let name = "pod-garbage-collector";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_kept_until_the_mark_changes() {
        let seen = Seen::default();
        let moment = |second| Timestamp::from_second(second).expect("in range");
        assert_eq!(seen.since("a", "x", moment(1)), moment(1));
        assert_eq!(seen.since("a", "x", moment(2)), moment(1));
        assert_eq!(seen.since("a", "y", moment(3)), moment(3));
        assert!(seen.forget("a") && !seen.forget("a"));
    }
}
