//! A deployment's replica sets: revisions, annotations, sizes.

use coracle_api_types::Object;
use coracle_plan_core::{Action, EventKind, Plan, owner};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::status::{condition_of, set_condition};
use super::{CreateFailure, REVISION, Rollout};
use crate::template;

const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that are not copied from a deployment to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
const REVISION_HISTORY_BYTES_MAX: usize = 2000;

pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

/// Oldest first, then by name.
pub fn age(set: &ReplicaSet) -> (Option<Timestamp>, String) {
    (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.name().to_owned())
}

pub fn has_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    own.is_some_and(|own| template::equal_but_hash(own, template))
}

pub fn revision(set: &ReplicaSet) -> i64 {
    set.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn annotate(meta: &mut ObjectMeta, key: &str, value: String) -> bool {
    let before = meta.annotations.get_or_insert_default().insert(key.to_owned(), value.clone());
    before != Some(value)
}

impl Rollout<'_> {
    fn new_revision(&self) -> i64 {
        self.old.iter().map(|set| revision(set)).max().unwrap_or_default().saturating_add(1)
    }

    /// Brings annotations of the set in line with the deployment. Says whether anything changed.
    fn annotate_new(&self, set: &mut ReplicaSet, exists: bool) -> bool {
        let mut changed = false;
        for (key, value) in self.deployment.metadata.annotations.iter().flatten() {
            if !NOT_COPIED.contains(&key.as_str()) {
                changed |= annotate(&mut set.metadata, key, value.clone());
            }
        }
        let before = set.annotation(REVISION).map(str::to_owned);
        let old: Option<i64> = before.as_deref().map_or(Some(0), |text| text.parse().ok());
        let new = self.new_revision();
        if old.is_some_and(|old| old < new) {
            annotate(&mut set.metadata, REVISION, new.to_string());
            if let Some(before) = before {
                note_history(&mut set.metadata, &before);
            }
            changed = true;
        }
        if !exists {
            changed |= self.annotate_sizes(&mut set.metadata);
        }
        changed
    }

    fn annotate_sizes(&self, meta: &mut ObjectMeta) -> bool {
        let desired = annotate(meta, DESIRED_REPLICAS, self.replicas.to_string());
        let max = annotate(meta, MAX_REPLICAS, (self.replicas + self.max_surge).to_string());
        desired || max
    }

    /// Whether the deployment was scaled since its sets were last sized.
    pub(super) fn is_scaling(&self) -> bool {
        self.all().filter(|set| replicas(set) > 0).any(|set| {
            let desired = set.annotation(DESIRED_REPLICAS).and_then(|text| text.parse::<i32>().ok());
            desired.is_some_and(|desired| desired != self.replicas)
        })
    }

    /// Finds, updates or makes the set of the current template. Says whether the plan has a step that must come first.
    pub(super) fn sync_new_set(&self, plan: &mut Plan, create: bool, failure: Option<&CreateFailure>) -> bool {
        let Some(set) = &self.new else {
            if create {
                self.create_new(plan, failure);
            }
            return create;
        };
        let mut updated = ReplicaSet::clone(set);
        let annotated = self.annotate_new(&mut updated, true);
        let min_ready = self.spec.min_ready_seconds.filter(|&seconds| seconds != 0);
        let spec = updated.spec.get_or_insert_default();
        if annotated || spec.min_ready_seconds.filter(|&seconds| seconds != 0) != min_ready {
            spec.min_ready_seconds = min_ready;
            plan.push(Action::update(&updated));
            return true;
        }
        let mut deployment = self.deployment.clone();
        let mut changed = note_revision(&mut deployment, updated.annotation(REVISION).unwrap_or_default());
        if self.has_deadline() && condition_of(self.deployment, "Progressing").is_none() {
            let message = format!("Found new replica set {:?}", set.name());
            set_condition(&mut deployment, "Progressing", "True", "FoundNewReplicaSet", &message, self.now);
            changed = true;
        }
        if changed {
            plan.push(Action::update_status(&deployment));
        }
        changed
    }

    fn create_new(&self, plan: &mut Plan, failure: Option<&CreateFailure>) {
        let mut deployment = self.deployment.clone();
        if let Some(failure) = failure {
            if failure.name_taken {
                *deployment.status.get_or_insert_default().collision_count.get_or_insert_default() += 1;
                plan.because("count a collision", "the name of the new replica set is taken by another");
                plan.push(Action::update_status(&deployment));
                return;
            }
            self.tell_failure(&mut deployment, failure, plan);
        }
        let set = self.new_set(&deployment);
        let size = replicas(&set);
        let mut noted = deployment.clone();
        let mut changed = note_revision(&mut noted, &self.new_revision().to_string());
        plan.because(format!("create replica set {}", set.name()), "no replica set has the current template");
        plan.push(Action::create(&set));
        if size > 0 {
            let message = format!("Scaled up replica set {} from 0 to {size}", set.name());
            plan.push(Action::event(self.deployment, EventKind::Normal, "ScalingReplicaSet", message));
        }
        if self.has_deadline() {
            let message = format!("Created new replica set {:?}", set.name());
            set_condition(&mut noted, "Progressing", "True", "NewReplicaSetCreated", &message, self.now);
            changed = true;
        }
        if changed && failure.is_none() {
            plan.push(Action::update_status(&noted));
        }
    }

    fn tell_failure(&self, deployment: &mut Deployment, failure: &CreateFailure, plan: &mut Plan) {
        let name = self.new_set(deployment).name().to_owned();
        let message = format!("Failed to create new replica set {name:?}: {}", failure.message);
        if self.has_deadline() {
            set_condition(deployment, "Progressing", "False", "ReplicaSetCreateError", &message, self.now);
            if deployment.status != self.deployment.status {
                plan.push(Action::update_status(deployment));
            }
        }
        plan.push(Action::event(self.deployment, EventKind::Warning, "ReplicaSetCreateError", message));
    }

    fn new_set(&self, deployment: &Deployment) -> ReplicaSet {
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template::hash(&self.spec.template, collisions);
        let template = template::with_label(&self.spec.template, template::POD_TEMPLATE_HASH, &hash);
        let selector = template::selector_with_label(&self.spec.selector, template::POD_TEMPLATE_HASH, &hash);
        let name = format!("{}-{hash}", deployment.name());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(deployment.namespace().to_owned()),
                labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
                owner_references: Some(vec![owner::controller_ref(deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                min_ready_seconds: self.spec.min_ready_seconds.filter(|&seconds| seconds != 0),
                replicas: Some(self.new_size(0)),
                selector,
                template: Some(template),
            }),
            status: None,
        };
        self.annotate_new(&mut set, false);
        set
    }

    /// What the new set may grow to from its current size. Source: `NewRSNewReplicas`.
    pub(super) fn new_size(&self, current: i32) -> i32 {
        if !self.is_rolling() {
            return self.replicas;
        }
        let total: i32 = self.all().map(|set| replicas(set)).sum();
        let room = self.replicas + self.max_surge - total;
        if room <= 0 { current } else { current + room.min(self.replicas - current) }
    }

    /// Sizes a set. Says whether its size changed.
    pub(super) fn scale_set(&self, set: &ReplicaSet, size: i32, plan: &mut Plan) -> bool {
        let before = replicas(set);
        let mut updated = set.clone();
        let annotated = self.annotate_sizes(&mut updated.metadata);
        if before == size && !annotated {
            return false;
        }
        updated.spec.get_or_insert_default().replicas = Some(size);
        plan.push(Action::update(&updated));
        if before == size {
            return false;
        }
        let way = if before < size { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {} from {before} to {size}", set.name());
        plan.push(Action::event(self.deployment, EventKind::Normal, "ScalingReplicaSet", message));
        true
    }

    /// Deletes old sets beyond the history limit.
    pub(super) fn clean_up(&self, plan: &mut Plan) {
        let Some(limit) = self.spec.revision_history_limit.filter(|&limit| limit != i32::MAX) else { return };
        let mut cleanable: Vec<_> = self.old.iter().filter(|set| !set.is_deleting()).collect();
        let limit = usize::try_from(limit).unwrap_or_default();
        let excess = cleanable.len().saturating_sub(limit);
        cleanable.sort_by_key(|set| (revision(set), age(set)));
        for set in cleanable.into_iter().take(excess) {
            let status = set.status.clone().unwrap_or_default();
            let settled = set.metadata.generation <= status.observed_generation;
            if status.replicas == 0 && replicas(set) == 0 && settled {
                plan.because(format!("delete replica set {}", set.name()), format!("{limit} old revisions are kept"));
                plan.push(Action::delete(&**set));
            }
        }
    }
}

fn note_revision(deployment: &mut Deployment, revision: &str) -> bool {
    annotate(&mut deployment.metadata, REVISION, revision.to_owned())
}

fn note_history(meta: &mut ObjectMeta, revision: &str) {
    let annotations = meta.annotations.get_or_insert_default();
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    let mut revisions: Vec<&str> = history.split(',').filter(|text| !text.is_empty()).collect();
    revisions.push(revision);
    while revisions.len() > 1 && revisions.join(",").len() > REVISION_HISTORY_BYTES_MAX {
        revisions.remove(0);
    }
    let joined = revisions.join(",");
    annotations.insert(REVISION_HISTORY.to_owned(), joined);
}
