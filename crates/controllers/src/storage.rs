//! Volumes and claims.

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_client::Change;
use coracle_driver::{Planned, Queue, Request, feed, feed_with};
use coracle_plan_controllers::volumes;
use coracle_plan_core::Plan;
use coracle_plan_core::pod::{is_finished, node_name};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use crate::Context;
use crate::informers::Informers;

pub fn start(context: &Context) {
    start_claims(context);
    start_volumes(context);
    start_ephemeral(context);
    start_attributes(context);
}

fn key_of(claim: &PersistentVolumeClaim) -> ObjectKey {
    ObjectKey::new(claim.namespace(), claim.name())
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// The claim that a volume names, and the claims that wait for one.
fn claims_for(informers: &Informers, change: &Change<PersistentVolume>) -> Vec<ObjectKey> {
    let named = change.old.iter().chain(&change.new).filter_map(|volume| {
        let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
        Some(ObjectKey::new(owner.namespace.as_deref()?, owner.name.as_deref()?))
    });
    let waiting = informers.claims.list().into_iter().filter(|claim| !is_bound(claim));
    named.chain(waiting.map(|claim| key_of(&claim))).collect()
}

/// Claims of a pod that begins or ends to use them.
fn claims_of(change: &Change<Pod>) -> Vec<ObjectKey> {
    let uses = |pod: Option<&Pod>| pod.is_some_and(|pod| !is_finished(pod) && !node_name(pod).is_empty());
    if uses(change.old.as_deref()) == uses(change.new.as_deref()) && change.new.is_some() {
        return Vec::new();
    }
    let pods = change.old.iter().chain(&change.new);
    pods.flat_map(|pod| volumes::claims_of(pod)).map(|name| ObjectKey::new(&change.key.namespace, name)).collect()
}

fn start_claims(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.claims, &queue);
    feed_with(&context.tasks, &context.stop, &informers.volumes, &queue, {
        let informers = informers.clone();
        move |change| claims_for(&informers, change)
    });
    feed_with(&context.tasks, &context.stop, &informers.classes, &queue, {
        let claims = informers.claims.clone();
        move |_| claims.list().iter().filter(|claim| !is_bound(claim)).map(|claim| key_of(claim)).collect()
    });
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, claims_of);
    let plan = move |request: &Request<ObjectKey>| {
        let Some(claim) = informers.claims.get_key(&request.key) else { return Plan::nothing() };
        let name = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        let class = informers.classes.get("", name);
        let view = volumes::ClaimView {
            claim: &claim,
            volumes: &informers.volumes.list(),
            class: class.as_deref(),
            pods: &if claim.is_deleting() { informers.pods.list_namespace(claim.namespace()) } else { Vec::new() },
        };
        volumes::plan_claim(&view)
    };
    // One worker: two claims must not choose the same volume.
    let name = "persistentvolume-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}

fn start_volumes(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.volumes, &queue);
    feed_with(&context.tasks, &context.stop, &informers.claims, &queue, |change| {
        let named = change.old.iter().chain(&change.new).filter_map(|claim| claim.spec.as_ref()?.volume_name.clone());
        named.filter(|name| !name.is_empty()).map(|name| ObjectKey::new("", name)).collect()
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(volume) = informers.volumes.get_key(&request.key) else { return Plan::nothing() };
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
        let claim = informers.claims.get(&owner.namespace.unwrap_or_default(), &owner.name.unwrap_or_default());
        volumes::plan_volume(&volume, claim.as_deref())
    };
    let name = "persistentvolume-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}

fn start_ephemeral(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, |change: &Change<Pod>| {
        let wanted = change.new.as_ref().is_some_and(|pod| {
            let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
            volumes.iter().any(|volume| volume.ephemeral.is_some())
        });
        if wanted && change.old.is_none() { vec![change.key.clone()] } else { Vec::new() }
    });
    let plan = move |request: &Request<ObjectKey>| match informers.pods.get_key(&request.key) {
        Some(pod) => volumes::plan_ephemeral(&pod, |name| informers.claims.get(&request.key.namespace, name)),
        None => Plan::nothing(),
    };
    let name = "ephemeral_volume";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}

fn start_attributes(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.attributes_classes, &queue);
    let deleted = |informers: &Informers| {
        let classes = informers.attributes_classes.list().into_iter().filter(|class| class.is_deleting());
        classes.map(|class| ObjectKey::new("", class.name())).collect::<Vec<_>>()
    };
    feed_with(&context.tasks, &context.stop, &informers.claims, &queue, {
        let informers = informers.clone();
        move |_| deleted(&informers)
    });
    feed_with(&context.tasks, &context.stop, &informers.volumes, &queue, {
        let informers = informers.clone();
        move |_| deleted(&informers)
    });
    let plan = move |request: &Request<ObjectKey>| match informers.attributes_classes.get_key(&request.key) {
        Some(class) => volumes::plan_attributes(&class, &informers.claims.list(), &informers.volumes.list()),
        None => Plan::nothing(),
    };
    let name = "volumeattributesclass-protection-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}
