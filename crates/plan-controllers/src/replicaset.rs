//! Replica sets, and replication controllers in their form. Source: `pkg/controller/replicaset`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::owner::{self, Claim, claim, controller_of};
use coracle_plan_core::select::{self, compile};
use coracle_plan_core::time::{from_seconds, left, seconds};
use coracle_plan_core::{Action, ObjectRef, Plan, Report, Target, pod};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};

use crate::template;

/// Pods made or ended in one turn. Source: `BurstReplicas`.
const BURST_PODS: usize = 500;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What is known about one set.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub set: &'a ReplicaSet,
    /// The set itself, or the replication controller whose form it is.
    pub about: ObjectRef,
    pub owner: OwnerReference,
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
    /// Why the last turn could not make or end pods.
    pub failure: Option<String>,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn of(set: &'a ReplicaSet, pods: &'a [Arc<Pod>], failure: Option<String>) -> Self {
        Self { set, about: ObjectRef::of(set), owner: owner::controller_ref(set), pods, failure }
    }
}

/// The set that a replication controller amounts to.
#[must_use]
pub fn from_controller(controller: &ReplicationController) -> ReplicaSet {
    let spec = controller.spec.clone().unwrap_or_default();
    let status = controller.status.clone().unwrap_or_default();
    let conditions = status.conditions.into_iter().flatten().map(|condition| ReplicaSetCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    });
    ReplicaSet {
        metadata: controller.metadata.clone(),
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
            template: spec.template,
        }),
        status: Some(ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: Some(conditions.collect::<Vec<_>>()).filter(|conditions| !conditions.is_empty()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        }),
    }
}

/// The status in a replication controller's form.
#[must_use]
pub fn controller_status(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    let conditions = status.conditions.into_iter().flatten().map(|condition| {
        k8s_openapi::api::core::v1::ReplicationControllerCondition {
            last_transition_time: condition.last_transition_time,
            message: condition.message,
            reason: condition.reason,
            status: condition.status,
            type_: condition.type_,
        }
    });
    ReplicationControllerStatus {
        available_replicas: status.available_replicas,
        conditions: Some(conditions.collect::<Vec<_>>()).filter(|conditions| !conditions.is_empty()),
        fully_labeled_replicas: status.fully_labeled_replicas,
        observed_generation: status.observed_generation,
        ready_replicas: status.ready_replicas,
        replicas: status.replicas,
    }
}

/// The plan for a replica set.
#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if let Some(status) = decide(view, now, &mut plan) {
        let mut set = view.set.clone();
        set.status = Some(status);
        insert_status(&mut plan, Action::update_status(&set), view.failure.is_some());
    }
    plan
}

/// The plan for a replication controller; `view` is made of [`from_controller`].
#[must_use]
pub fn plan_controller(controller: &ReplicationController, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if let Some(mut status) = decide(view, now, &mut plan) {
        status.terminating_replicas = None;
        let mut controller = controller.clone();
        let status = controller_status(status);
        if controller.status.as_ref() != Some(&status) {
            controller.status = Some(status);
            insert_status(&mut plan, Action::update_status(&controller), view.failure.is_some());
        }
    }
    plan
}

/// After a failure the status comes first, so that it is told even if the next attempt fails too.
fn insert_status(plan: &mut Plan, action: Action, first: bool) {
    let position = if first { 0 } else { plan.actions.len() };
    plan.actions.insert(position, action);
}

/// Adds what to do about pods to the plan, and answers the status if it changes.
fn decide(view: &View<'_>, now: Timestamp, plan: &mut Plan) -> Option<ReplicaSetStatus> {
    let spec = view.set.spec.as_ref()?;
    let mut owned = Vec::new();
    let selector = compile(&spec.selector);
    if selector.is_everything() {
        return None;
    }
    for pod in view.pods {
        if pod::is_finished(pod) {
            continue;
        }
        let matches = select::matches(&selector, pod.metadata.labels.as_ref());
        match claim(&**pod, &view.set.metadata, matches) {
            Claim::Owned => owned.push(pod),
            Claim::Adopt => {
                plan.push(owner::adopt(&**pod, &view.owner));
                owned.push(pod);
            }
            Claim::Release => plan.push(owner::release(&**pod, &view.owner.uid)),
            Claim::Ignore => {}
        }
    }
    let active: Vec<&Arc<Pod>> = owned.iter().copied().filter(|pod| pod::is_active(pod)).collect();
    if view.set.metadata.deletion_timestamp.is_none() {
        manage(view, spec, &active, now, plan);
    }
    requeue_for_availability(&active, spec.min_ready_seconds.unwrap_or_default(), now, plan);
    let terminating = owned.len() - active.len();
    let status = status_of(view, spec, &active, terminating, now);
    (view.set.status.as_ref() != Some(&status)).then_some(status)
}

fn manage(view: &View<'_>, spec: &ReplicaSetSpec, active: &[&Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
    if active.len() < wanted {
        let Some(template) = &spec.template else { return };
        let missing = (wanted - active.len()).min(BURST_PODS);
        plan.because(format!("create {missing} pods"), format!("{wanted} are wanted and {} are active", active.len()));
        let pod = template::pod(template, view.set.namespace(), &view.owner);
        let create = Action::create(&pod).reported(Report::pod_create(view.about.clone()));
        plan.actions.extend(std::iter::repeat_n(create, missing));
    } else if active.len() > wanted {
        let excess = (active.len() - wanted).min(BURST_PODS);
        plan.because(format!("delete {excess} pods"), format!("{wanted} are wanted and {} are active", active.len()));
        for pod in ranked_for_deletion(active, now).into_iter().take(excess) {
            plan.push(Action::delete(&**pod).reported(Report::pod_delete(view.about.clone())));
        }
    }
}

/// The pods in the order in which they are ended. Source: `ActivePodsWithRanks`.
#[must_use]
pub fn ranked_for_deletion<'a>(pods: &[&'a Arc<Pod>], now: Timestamp) -> Vec<&'a Arc<Pod>> {
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod::is_ready(pod)) {
        *on_node.entry(pod::node_name(pod)).or_default() += 1;
    }
    let phase = |pod: &Pod| match pod::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    // Times count by the power of two of their age only, so that the uid spreads the choice.
    let age_class = |since: Option<Timestamp>| {
        since.map_or(u32::MAX, |since| u64::BITS - coracle_plan_core::time::since(since, now).as_secs().leading_zeros())
    };
    let key = |pod: &Pod| {
        let cost = pod.annotation(DELETION_COST).and_then(|cost| cost.parse::<i32>().ok()).unwrap_or_default();
        let ready = pod::is_ready(pod);
        (
            !pod::node_name(pod).is_empty(),
            phase(pod),
            ready,
            cost,
            std::cmp::Reverse(on_node.get(pod::node_name(pod)).copied().unwrap_or_default()),
            if ready { age_class(pod::ready_since(pod)) } else { 0 },
            std::cmp::Reverse(pod::restarts(pod)),
            age_class(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        )
    };
    let mut ranked = pods.to_vec();
    ranked.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.uid().cmp(b.uid())));
    ranked
}

fn requeue_for_availability(active: &[&Arc<Pod>], min_ready_seconds: i32, now: Timestamp, plan: &mut Plan) {
    if min_ready_seconds <= 0 {
        return;
    }
    let span = from_seconds(min_ready_seconds.into());
    for since in active.iter().filter_map(|pod| pod::ready_since(pod)) {
        if let Some(left) = left(since, span, now) {
            plan.requeue(left + Duration::from_millis(1));
        }
    }
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

fn nonzero(pods: usize) -> Option<i32> {
    Some(count(pods)).filter(|&pods| pods != 0)
}

fn status_of(
    view: &View<'_>,
    spec: &ReplicaSetSpec,
    active: &[&Arc<Pod>],
    terminating: usize,
    now: Timestamp,
) -> ReplicaSetStatus {
    let before = view.set.status.clone().unwrap_or_default();
    let min_ready_seconds = spec.min_ready_seconds.unwrap_or_default();
    let labels = spec.template.as_ref().and_then(template::labels).cloned().unwrap_or_default();
    let template_labels = select::from_map(&labels);
    let labelled = active.iter().filter(|pod| select::matches(&template_labels, pod.metadata.labels.as_ref())).count();
    let ready = active.iter().filter(|pod| pod::is_ready(pod)).count();
    let available = active.iter().filter(|pod| pod::is_available(pod, min_ready_seconds, now)).count();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
    let mut conditions = before.conditions.unwrap_or_default();
    let known = conditions.iter().any(|condition| condition.type_ == "ReplicaFailure");
    match &view.failure {
        Some(message) if !known => conditions.push(ReplicaSetCondition {
            last_transition_time: Some(seconds(now)),
            message: Some(message.clone()),
            reason: Some(if active.len() < wanted { "FailedCreate" } else { "FailedDelete" }.to_owned()),
            status: "True".to_owned(),
            type_: "ReplicaFailure".to_owned(),
        }),
        // The failure is over when nothing is left to be done.
        None if known && active.len() == wanted => {
            conditions.retain(|condition| condition.type_ != "ReplicaFailure");
        }
        _ => {}
    }
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: nonzero(labelled),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        terminating_replicas: Some(count(terminating)),
        observed_generation: view.set.metadata.generation,
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
    }
}

/// The set that a pod belongs to by reference.
#[must_use]
pub fn owner_name<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    controller_of(&pod.metadata).filter(|owner| owner.kind == kind).map(|owner| owner.name.as_str())
}

/// Where a replica set is found.
#[must_use]
pub fn target(namespace: &str, name: &str) -> Target {
    Target::named::<ReplicaSet>(namespace, name)
}
