//! Deployments. Source: `pkg/controller/deployment`.

mod rollout;
mod sets;
mod status;

use std::sync::Arc;

use coracle_api_types::Object;
use coracle_plan_core::owner::{self, Claim, claim};
use coracle_plan_core::select::{self, compile};
use coracle_plan_core::{Action, EventKind, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::template::scaled;

pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// What is known about one deployment.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub deployment: &'a Deployment,
    /// Replica sets of the namespace.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Pods of the namespace; looked at by `Recreate` only.
    pub pods: &'a [Arc<Pod>],
    /// The server's words when the last turn could not create a replica set, and whether its name was taken.
    pub failure: Option<CreateFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFailure {
    pub message: String,
    pub name_taken: bool,
}

/// A deployment with its sets sorted out.
struct Rollout<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    replicas: i32,
    max_surge: i32,
    max_unavailable: i32,
    now: Timestamp,
    new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    old: Vec<Arc<ReplicaSet>>,
}

#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let deployment = view.deployment;
    let Some(spec) = &deployment.spec else { return Plan::nothing() };
    let mut plan = Plan::nothing();
    let selector = compile(&spec.selector);
    if selector.is_everything() {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.push(Action::event(deployment, EventKind::Warning, "SelectingAll", message));
        if deployment.status.as_ref().and_then(|status| status.observed_generation) < deployment.metadata.generation {
            let mut observed = deployment.clone();
            observed.status.get_or_insert_default().observed_generation = deployment.metadata.generation;
            plan.push(Action::update_status(&observed));
            return plan;
        }
        return Plan::nothing();
    }
    let owned = claim_sets(view, &selector, &mut plan);
    if !plan.is_nothing() {
        return plan;
    }
    let rollout = Rollout::new(deployment, spec, owned, now);
    if deployment.is_deleting() {
        rollout.sync_status(&mut plan);
        return plan;
    }
    if rollout.sync_paused(&mut plan) || rollout.sync_new_set(&mut plan, false, None) {
        return plan;
    }
    if spec.paused == Some(true) || rollout.is_scaling() {
        rollout.sync(&mut plan);
        return plan;
    }
    match spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) {
        Some("Recreate") => rollout.recreate(view, &mut plan),
        _ => rollout.roll(view, &mut plan),
    }
    plan
}

/// The sets that are the deployment's; adoptions and releases go into the plan.
fn claim_sets(view: &View<'_>, selector: &select::LabelSelector, plan: &mut Plan) -> Vec<Arc<ReplicaSet>> {
    let reference = owner::controller_ref(view.deployment);
    let mut owned = Vec::new();
    for set in view.sets {
        let matches = select::matches(selector, set.metadata.labels.as_ref());
        match claim(&**set, &view.deployment.metadata, matches) {
            Claim::Owned => owned.push(set.clone()),
            Claim::Adopt => plan.push(owner::adopt(&**set, &reference)),
            Claim::Release => plan.push(owner::release(&**set, &reference.uid)),
            Claim::Ignore => {}
        }
    }
    owned.sort_by_key(|set| sets::age(set));
    owned
}

impl<'a> Rollout<'a> {
    fn new(deployment: &'a Deployment, spec: &'a DeploymentSpec, owned: Vec<Arc<ReplicaSet>>, now: Timestamp) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let (max_surge, max_unavailable) = fenceposts(spec, replicas);
        let is_new = |set: &ReplicaSet| sets::has_template(set, &spec.template);
        let new = owned.iter().find(|set| is_new(set)).cloned();
        let uid = new.as_ref().map(|set| set.uid().to_owned());
        let old = owned.into_iter().filter(|set| Some(set.uid()) != uid.as_deref()).collect();
        Self { deployment, spec, replicas, max_surge, max_unavailable, now, new, old }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    fn is_rolling(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
    }

    fn has_deadline(&self) -> bool {
        self.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
    }
}

/// `maxSurge` and `maxUnavailable` as counts. Both being zero would never end, so that one may then be unavailable.
fn fenceposts(spec: &DeploymentSpec, replicas: i32) -> (i32, i32) {
    let strategy = spec.strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return (0, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    let surge = scaled(surge, replicas, true).unwrap_or_default();
    let unavailable = scaled(unavailable, replicas, false).unwrap_or_default();
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (surge, if replicas == 0 { 0 } else { unavailable.min(replicas) })
}
