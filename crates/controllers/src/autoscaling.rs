//! Horizontal pod autoscalers.

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::Change;
use coracle_driver::{Planned, Queue, Request, feed, feed_with};
use coracle_plan_controllers::autoscaling::{self, Scale};
use coracle_plan_core::{Plan, Target};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;

use crate::Context;
use crate::informers::Informers;

fn scale_of(informers: &Informers, namespace: &str, target: &CrossVersionObjectReference) -> Option<Scale> {
    let name = &target.name;
    let (target, wanted, actual) = match target.kind.as_str() {
        "Deployment" => {
            let own = informers.deployments.get(namespace, name)?;
            let actual = own.status.as_ref().and_then(|status| status.replicas);
            (Target::named::<Deployment>(namespace, name), own.spec.as_ref()?.replicas, actual)
        }
        "ReplicaSet" => {
            let own = informers.replica_sets.get(namespace, name)?;
            let actual = own.status.as_ref().map(|status| status.replicas);
            (Target::named::<ReplicaSet>(namespace, name), own.spec.as_ref()?.replicas, actual)
        }
        "StatefulSet" => {
            let own = informers.stateful_sets.get(namespace, name)?;
            let actual = own.status.as_ref().map(|status| status.replicas);
            (Target::named::<StatefulSet>(namespace, name), own.spec.as_ref()?.replicas, actual)
        }
        _ => return None,
    };
    Some(Scale { target, wanted: wanted.unwrap_or(1), actual: actual.unwrap_or_default() })
}

/// Autoscalers of the changed object.
fn scalers_of<K: Object>(informers: &Informers, change: &Change<K>) -> Vec<ObjectKey> {
    let scalers = informers.autoscalers.list_namespace(&change.key.namespace).into_iter();
    let aims = scalers.filter(|scaler| {
        let target = &scaler.spec.scale_target_ref;
        target.kind == K::KIND && target.name == change.key.name
    });
    aims.map(|scaler| ObjectKey::new(scaler.namespace(), scaler.name())).collect()
}

pub fn start(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.autoscalers, &queue);
    let own = informers.clone();
    feed_with(&context.tasks, &context.stop, &informers.deployments, &queue, move |change| scalers_of(&own, change));
    let own = informers.clone();
    feed_with(&context.tasks, &context.stop, &informers.replica_sets, &queue, move |change| scalers_of(&own, change));
    let own = informers.clone();
    feed_with(&context.tasks, &context.stop, &informers.stateful_sets, &queue, move |change| scalers_of(&own, change));
    let plan = move |request: &Request<ObjectKey>| {
        let Some(scaler) = informers.autoscalers.get_key(&request.key) else { return Plan::nothing() };
        let scale = scale_of(&informers, &request.key.namespace, &scaler.spec.scale_target_ref);
        autoscaling::plan(&scaler, scale.as_ref(), request.now)
    };
    let name = "horizontal-pod-autoscaler";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}
