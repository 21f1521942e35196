//! What a deployment reports of itself. Source: `pkg/controller/deployment/{sync,progress}.go`.

use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::time::{from_seconds, left, seconds, since};
use coracle_plan_core::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::Rollout;
use super::sets::{available, replicas};

pub fn condition_of<'a>(deployment: &'a Deployment, kind: &str) -> Option<&'a DeploymentCondition> {
    deployment.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Sets a condition unless it has the same status and reason already.
pub fn set_condition(
    deployment: &mut Deployment,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let condition = new_condition(kind, status, reason, message, now);
    put(deployment.status.get_or_insert_default().conditions.get_or_insert_default(), condition);
}

fn new_condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    }
}

fn put(conditions: &mut Vec<DeploymentCondition>, mut condition: DeploymentCondition) {
    if let Some(before) = conditions.iter().find(|before| before.type_ == condition.type_) {
        if before.status == condition.status && before.reason == condition.reason {
            return;
        }
        if before.status == condition.status {
            condition.last_transition_time = before.last_transition_time.clone();
        }
    }
    conditions.retain(|before| before.type_ != condition.type_);
    conditions.push(condition);
}

fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|&count| count != 0)
}

impl Rollout<'_> {
    /// Tells when a deployment was paused or resumed. Says whether the plan has a step that must come first.
    pub(super) fn sync_paused(&self, plan: &mut Plan) -> bool {
        if !self.has_deadline() {
            return false;
        }
        let reason = condition_of(self.deployment, "Progressing").and_then(|condition| condition.reason.as_deref());
        if reason == Some("ProgressDeadlineExceeded") {
            return false;
        }
        let told = reason == Some("DeploymentPaused");
        let (reason, message) = match (self.spec.paused == Some(true), told) {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return false,
        };
        let mut deployment = self.deployment.clone();
        set_condition(&mut deployment, "Progressing", "Unknown", reason, message, self.now);
        plan.push(Action::update_status(&deployment));
        true
    }

    fn calculate(&self) -> DeploymentStatus {
        let status_sum = |of: &dyn Fn(&ReplicaSet) -> i32| self.all().map(|set| of(set)).sum::<i32>();
        let actual = |set: &ReplicaSet| set.status.as_ref().map(|status| status.replicas).unwrap_or_default();
        let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
        let ending =
            |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or_default();
        let up = status_sum(&available);
        let before = self.deployment.status.clone().unwrap_or_default();
        let mut conditions = before.conditions.unwrap_or_default();
        let (status, reason, message) = if up >= self.replicas - self.max_unavailable {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        put(&mut conditions, new_condition("Available", status, reason, message, self.now));
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: nonzero(status_sum(&actual)),
            updated_replicas: nonzero(self.new.as_deref().map(actual).unwrap_or_default()),
            ready_replicas: nonzero(status_sum(&ready)),
            available_replicas: nonzero(up),
            unavailable_replicas: nonzero((status_sum(&replicas) - up).max(0)),
            terminating_replicas: Some(status_sum(&ending)),
            collision_count: before.collision_count,
            conditions: Some(conditions),
        }
    }

    pub(super) fn sync_status(&self, plan: &mut Plan) {
        self.update(self.calculate(), plan);
    }

    /// Says whether the status changes.
    fn update(&self, status: DeploymentStatus, plan: &mut Plan) -> bool {
        if self.deployment.status.as_ref() == Some(&status) {
            return false;
        }
        let mut deployment = self.deployment.clone();
        deployment.status = Some(status);
        plan.push(Action::update_status(&deployment));
        true
    }

    pub(super) fn is_complete(&self) -> bool {
        self.deployment.status.as_ref().is_some_and(|status| self.completes(status))
    }

    fn completes(&self, status: &DeploymentStatus) -> bool {
        let wanted = Some(self.replicas);
        let of = |count: Option<i32>| Some(count.unwrap_or_default());
        of(status.updated_replicas) == wanted
            && of(status.replicas) == wanted
            && of(status.available_replicas) == wanted
            && status.observed_generation >= self.deployment.metadata.generation
    }

    /// Whether anything moved since the last status.
    fn progresses(&self, new: &DeploymentStatus) -> bool {
        let old = self.deployment.status.clone().unwrap_or_default();
        let of = |count: Option<i32>| count.unwrap_or_default();
        let outdated = |status: &DeploymentStatus| of(status.replicas) - of(status.updated_replicas);
        of(new.updated_replicas) > of(old.updated_replicas)
            || outdated(new) < outdated(&old)
            || of(new.ready_replicas) > of(old.ready_replicas)
            || of(new.available_replicas) > of(old.available_replicas)
    }

    fn times_out(&self, status: &DeploymentStatus) -> bool {
        let Some(condition) = progressing(status) else { return false };
        match condition.reason.as_deref() {
            Some("NewReplicaSetAvailable") => false,
            Some("ProgressDeadlineExceeded") => true,
            _ => self.deadline_left(condition).is_none(),
        }
    }

    fn deadline_left(&self, condition: &DeploymentCondition) -> Option<Duration> {
        let deadline = from_seconds(self.spec.progress_deadline_seconds.unwrap_or_default().into());
        let updated = condition.last_update_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        left(updated, deadline, self.now)
    }

    pub(super) fn sync_rollout_status(&self, plan: &mut Plan) {
        let mut status = self.calculate();
        let mut conditions = status.conditions.take().unwrap_or_default();
        if !self.has_deadline() {
            conditions.retain(|condition| condition.type_ != "Progressing");
        }
        let before = condition_of(self.deployment, "Progressing");
        let rolled_out = status.replicas == status.updated_replicas
            && before.is_some_and(|before| before.reason.as_deref() == Some("NewReplicaSetAvailable"));
        status.conditions = Some(conditions);
        if self.has_deadline() && !rolled_out {
            self.estimate(&mut status, before);
        }
        self.move_failures(&mut status);
        status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
        let requeue = self.stuck_after(&status);
        if !self.update(status, plan)
            && let Some(after) = requeue
        {
            plan.requeue(after);
        }
    }

    fn estimate(&self, status: &mut DeploymentStatus, before: Option<&DeploymentCondition>) {
        let subject = match &self.new {
            Some(new) => format!("ReplicaSet {:?}", new.name()),
            None => format!("Deployment {:?}", self.deployment.name()),
        };
        let make = |status: &str, reason: &str, text: &str| {
            new_condition("Progressing", status, reason, &format!("{subject} {text}"), self.now)
        };
        let completes = self.completes(status);
        let progresses = self.progresses(status);
        let times_out = self.times_out(status);
        let conditions = status.conditions.get_or_insert_default();
        if completes {
            put(conditions, make("True", "NewReplicaSetAvailable", "has successfully progressed."));
        } else if progresses {
            let mut condition = make("True", "ReplicaSetUpdated", "is progressing.");
            if let Some(before) = before {
                if before.status == "True" {
                    condition.last_transition_time = before.last_transition_time.clone();
                }
                conditions.retain(|condition| condition.type_ != "Progressing");
            }
            put(conditions, condition);
        } else if times_out {
            put(conditions, make("False", "ProgressDeadlineExceeded", "has timed out progressing."));
        }
    }

    /// Failures of the sets become the deployment's, those of the new set first.
    fn move_failures(&self, status: &mut DeploymentStatus) {
        let failure = self.new.iter().chain(&self.old).find_map(|set| {
            let conditions = set.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|condition| condition.type_ == "ReplicaFailure").cloned()
        });
        let conditions = status.conditions.get_or_insert_default();
        match failure {
            Some(failure) => put(
                conditions,
                DeploymentCondition {
                    type_: failure.type_,
                    status: failure.status,
                    reason: failure.reason,
                    message: failure.message,
                    last_update_time: failure.last_transition_time.clone(),
                    last_transition_time: failure.last_transition_time,
                },
            ),
            None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        }
    }

    /// When to look whether the deadline has passed.
    fn stuck_after(&self, status: &DeploymentStatus) -> Option<Duration> {
        let condition = condition_of(self.deployment, "Progressing").filter(|_| self.has_deadline())?;
        if self.completes(status) || condition.reason.as_deref() == Some("ProgressDeadlineExceeded") {
            return None;
        }
        let deadline = from_seconds(self.spec.progress_deadline_seconds.unwrap_or_default().into());
        let updated = condition.last_update_time.as_ref()?.0;
        Some(deadline.saturating_sub(since(updated, self.now)) + Duration::from_secs(1))
    }
}

fn progressing(status: &DeploymentStatus) -> Option<&DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Progressing")
}
