//! Deployments, replica sets and replication controllers.

use std::sync::Arc;

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::{Change, Informer};
use coracle_driver::{Failure, Planned, Queue, Request, feed, feed_with};
use coracle_plan_controllers::{deployment, replicaset};
use coracle_plan_core::owner::controller_of;
use coracle_plan_core::select::{compile_opt, matches};
use coracle_plan_core::{ObjectRef, Plan, owner};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::Context;
use crate::informers::Informers;

const WORKERS: usize = 5;

pub fn start(context: &Context) {
    start_replica_sets(context);
    start_replication_controllers(context);
    start_deployments(context);
}

/// Keys of the owners of kind `kind` that a changed object has or had, and, when it has none, of those that might
/// adopt it.
pub fn owners_of<K: Object>(change: &Change<K>, kind: &str, adopters: impl Fn(&K) -> Vec<ObjectKey>) -> Vec<ObjectKey> {
    let mut keys: Vec<ObjectKey> = Vec::new();
    for object in change.old.iter().chain(&change.new) {
        match controller_of(object.metadata()) {
            Some(owner) if owner.kind == kind => keys.push(ObjectKey::new(object.namespace(), &owner.name)),
            _ => {}
        }
    }
    if let Some(new) = &change.new
        && controller_of(new.metadata()).is_none()
    {
        keys.extend(adopters(new));
    }
    keys.dedup();
    keys
}

/// Keys of the objects in the namespace whose selector matches.
pub fn adopters<K: Object, D: Object>(
    informer: &Informer<K>,
    orphan: &D,
    selector: impl Fn(&K) -> Option<LabelSelector>,
) -> Vec<ObjectKey> {
    let candidates = informer.list_namespace(orphan.namespace()).into_iter();
    candidates
        .filter(|candidate| {
            let selector = compile_opt(selector(candidate).as_ref());
            !selector.is_everything() && matches(&selector, orphan.metadata().labels.as_ref())
        })
        .map(|candidate| ObjectKey::new(candidate.namespace(), candidate.name()))
        .collect()
}

/// What went wrong with pods, in the server's words.
fn pod_failure(failure: Option<&Failure>) -> Option<String> {
    failure.filter(|failure| failure.resource == "pods").map(|failure| failure.message.clone())
}

fn start_replica_sets(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.replica_sets, &queue);
    let sets = informers.replica_sets.clone();
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, move |change| {
        owners_of(change, "ReplicaSet", |pod: &Pod| {
            adopters(&sets, pod, |set: &ReplicaSet| set.spec.as_ref().map(|spec| spec.selector.clone()))
        })
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(set) = informers.replica_sets.get_key(&request.key) else { return Plan::nothing() };
        let pods = informers.pods.list_namespace(&request.key.namespace);
        let view = replicaset::View::of(&set, &pods, pod_failure(request.failure.as_ref()));
        replicaset::plan(&view, request.now)
    };
    let name = "replicaset-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_replication_controllers(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.replication_controllers, &queue);
    let controllers = informers.replication_controllers.clone();
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, move |change| {
        owners_of(change, "ReplicationController", |pod: &Pod| {
            adopters(&controllers, pod, |controller: &ReplicationController| {
                let labels = controller.spec.as_ref()?.selector.clone();
                Some(LabelSelector { match_labels: labels, match_expressions: None })
            })
        })
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(controller) = informers.replication_controllers.get_key(&request.key) else {
            return Plan::nothing();
        };
        let pods = informers.pods.list_namespace(&request.key.namespace);
        let set = replicaset::from_controller(&controller);
        let view = replicaset::View {
            set: &set,
            about: ObjectRef::of(&*controller),
            owner: owner::controller_ref(&*controller),
            pods: &pods,
            failure: pod_failure(request.failure.as_ref()),
        };
        replicaset::plan_controller(&controller, &view, request.now)
    };
    let name = "replication-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_deployments(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.deployments, &queue);
    let deployments = informers.deployments.clone();
    feed_with(&context.tasks, &context.stop, &informers.replica_sets, &queue, move |change| {
        owners_of(change, "Deployment", |set: &ReplicaSet| {
            adopters(&deployments, set, |deployment: &Deployment| {
                deployment.spec.as_ref().map(|spec| spec.selector.clone())
            })
        })
    });
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let informers = informers.clone();
        move |change| recreate_waiting(&informers, change)
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(deployment) = informers.deployments.get_key(&request.key) else { return Plan::nothing() };
        let sets = informers.replica_sets.list_namespace(&request.key.namespace);
        let pods = pods_if_recreate(&informers, &deployment);
        let view = deployment::View {
            deployment: &deployment,
            sets: &sets,
            pods: &pods,
            failure: create_failure(request.failure.as_ref()),
        };
        deployment::plan(&view, request.now)
    };
    let name = "deployment-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

fn pods_if_recreate(informers: &Informers, deployment: &Deployment) -> Vec<Arc<Pod>> {
    if is_recreate(deployment) { informers.pods.list_namespace(deployment.namespace()) } else { Vec::new() }
}

/// A deployment that recreates goes on when an old pod is gone.
fn recreate_waiting(informers: &Informers, change: &Change<Pod>) -> Vec<ObjectKey> {
    if change.new.is_some() {
        return Vec::new();
    }
    let Some(pod) = &change.old else { return Vec::new() };
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
    let set = owner.and_then(|owner| informers.replica_sets.get(pod.namespace(), &owner.name));
    let owner = set.as_ref().and_then(|set| controller_of(&set.metadata)).filter(|owner| owner.kind == "Deployment");
    let deployment = owner.and_then(|owner| informers.deployments.get(pod.namespace(), &owner.name));
    let waiting = deployment.filter(|deployment| is_recreate(deployment));
    waiting.map(|deployment| ObjectKey::new(deployment.namespace(), deployment.name())).into_iter().collect()
}

fn create_failure(failure: Option<&Failure>) -> Option<deployment::CreateFailure> {
    let failure = failure.filter(|failure| failure.verb == "create" && failure.resource == "replicasets")?;
    Some(deployment::CreateFailure {
        message: failure.message.clone(),
        name_taken: failure.reason == coracle_api_meta::reason::ALREADY_EXISTS,
    })
}
