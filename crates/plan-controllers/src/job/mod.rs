//! Jobs: pods that run to their end. Source: `pkg/controller/job`.
//!
//! Each finished pod is counted once: its uid goes into the status, then its finalizer is taken away, then it is added
//! to the totals. The steps are spread over turns, and each can be repeated.

mod indexes;
mod manage;
mod policy;
mod tracking;

use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::owner::{self, Claim, claim, controller_of, controller_ref};
use coracle_plan_core::select::{self, compile_opt};
use coracle_plan_core::time::{from_seconds, left, seconds};
use coracle_plan_core::{Action, EventKind, Plan, pod};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use indexes::Indexes;

pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// What is known about one job.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub job: &'a Job,
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
}

/// The end that was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    success: bool,
    reason: String,
    message: String,
}

struct Turn<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    owner: OwnerReference,
    now: Timestamp,
    pods: Vec<&'a Arc<Pod>>,
    active: Vec<&'a Arc<Pod>>,
    succeeded_indexes: Indexes,
    failed_indexes: Indexes,
    status: JobStatus,
}

#[must_use]
pub fn is_finished(job: &Job) -> bool {
    finished_condition(job).is_some()
}

/// The condition that says how the job ended.
#[must_use]
pub fn finished_condition(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|own| matches!(own.type_.as_str(), "Complete" | "Failed") && own.status == "True")
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn is_true(status: &JobStatus, kind: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition.status == "True")
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|name| name == TRACKING)
}

fn untrack(pod: &Pod) -> Action {
    let patch = json!({"metadata": {"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [TRACKING]}});
    Action::strategic(pod, "", patch)
}

/// Pods that keep the finalizer of a job that is gone.
#[must_use]
pub fn plan_orphans(pods: &[Arc<Pod>], job_name: &str, job_exists: impl Fn(&str) -> bool) -> Plan {
    let orphaned = |pod: &&Arc<Pod>| {
        is_tracked(pod)
            && controller_of(&pod.metadata)
                .is_some_and(|owner| owner.kind == Job::KIND && owner.name == job_name && !job_exists(&owner.uid))
    };
    Plan::from(pods.iter().filter(orphaned).map(|pod| untrack(pod)).collect::<Vec<_>>())
}

#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let Some(spec) = &view.job.spec else { return plan };
    let owner = controller_ref(view.job);
    let selector = compile_opt(spec.selector.as_ref());
    let mut pods = Vec::new();
    for pod in view.pods {
        let matches = select::matches(&selector, pod.metadata.labels.as_ref());
        match claim(&**pod, &view.job.metadata, matches) {
            Claim::Owned => pods.push(pod),
            Claim::Adopt => {
                let patch = json!({"metadata": {
                    "uid": pod.uid(), "ownerReferences": [owner], "finalizers": [TRACKING]}});
                plan.push(Action::strategic(&**pod, "", patch));
            }
            Claim::Release => {
                plan.push(owner::release(&**pod, &owner.uid));
                if is_tracked(pod) {
                    plan.push(untrack(pod));
                }
            }
            Claim::Ignore => {}
        }
    }
    if !plan.is_nothing() {
        return plan;
    }
    if view.job.is_deleting() || is_finished(view.job) {
        plan.actions.extend(pods.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack(pod)));
        return plan;
    }
    Turn::new(view.job, spec, owner, pods, now).run(&mut plan);
    plan
}

impl<'a> Turn<'a> {
    fn new(job: &'a Job, spec: &'a JobSpec, owner: OwnerReference, pods: Vec<&'a Arc<Pod>>, now: Timestamp) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let active = pods.iter().copied().filter(|pod| pod::is_active(pod)).collect();
        let mut turn = Self {
            job,
            spec,
            owner,
            now,
            pods,
            active,
            succeeded_indexes: Indexes::default(),
            failed_indexes: Indexes::default(),
            status,
        };
        if turn.is_indexed() {
            turn.succeeded_indexes = turn.count_succeeded_indexes();
            turn.failed_indexes = turn.count_failed_indexes();
        }
        turn
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Only pods that have ended are replaced, not those that are ending.
    fn replaces_failed_only(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed") || self.spec.pod_failure_policy.is_some()
    }

    fn is_failed(&self, pod: &Pod) -> bool {
        let phase = pod::phase(pod);
        phase == "Failed" || (!self.replaces_failed_only() && pod.is_deleting() && phase != "Succeeded")
    }

    fn run(mut self, plan: &mut Plan) {
        let finalizers = self.track();
        if self.status.start_time.is_none() && !self.is_suspended() {
            self.status.start_time = Some(seconds(self.now));
        }
        let end = self.decide_end(plan);
        let mut deleted = 0;
        match &end {
            Some(end) => deleted = self.end_pods(end, plan),
            None => {
                self.sync_suspension(plan);
                self.manage(plan);
                if self.is_complete() {
                    let end = End {
                        success: true,
                        reason: "CompletionsReached".to_owned(),
                        message: "Reached expected number of succeeded pods".to_owned(),
                    };
                    deleted = self.end_pods(&end, plan);
                }
            }
        }
        self.count_pods(deleted);
        let over = self.finish(plan);
        if self.job.status.as_ref() != Some(&self.status) {
            let mut job = self.job.clone();
            job.status = Some(self.status.clone());
            // The status comes first: what it counts must not be lost when the rest fails.
            plan.actions.insert(0, Action::update_status(&job));
        }
        let last = if over {
            self.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack(pod)).collect()
        } else {
            finalizers
        };
        plan.actions.extend(last);
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) -> bool {
        let conditions = self.status.conditions.get_or_insert_default();
        let condition = JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(seconds(self.now)),
            last_transition_time: Some(seconds(self.now)),
        };
        match conditions.iter_mut().find(|own| own.type_ == kind) {
            Some(own) if own.status == status && own.reason.as_deref() == Some(reason) => false,
            Some(own) => {
                *own = condition;
                true
            }
            None => {
                conditions.push(condition);
                true
            }
        }
    }

    fn sync_suspension(&mut self, plan: &mut Plan) {
        if self.is_suspended() {
            if self.set_condition("Suspended", "True", "JobSuspended", "Job suspended") {
                plan.push(Action::event(self.job, EventKind::Normal, "Suspended", "Job suspended"));
            }
            self.status.start_time = None;
        } else if is_true(&self.status, "Suspended") {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            plan.push(Action::event(self.job, EventKind::Normal, "Resumed", "Job resumed"));
            self.status.start_time = Some(seconds(self.now));
        }
    }

    fn succeeded(&self) -> i32 {
        if self.is_indexed() {
            return self.succeeded_indexes.total();
        }
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let waiting = uncounted.and_then(|own| own.succeeded.as_ref()).map_or(0, Vec::len);
        self.status.succeeded.unwrap_or_default() + i32::try_from(waiting).unwrap_or(i32::MAX)
    }

    fn failed(&self) -> i32 {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let waiting = uncounted.and_then(|own| own.failed.as_ref()).map_or(0, Vec::len);
        self.status.failed.unwrap_or_default() + i32::try_from(waiting).unwrap_or(i32::MAX)
    }

    fn is_complete(&self) -> bool {
        match self.spec.completions {
            // Without a count, one success and the end of all others is the end.
            None => self.succeeded() > 0 && self.active.is_empty(),
            Some(wanted) => self.succeeded() >= wanted,
        }
    }

    /// Why the job ends, if it does for another reason than being complete.
    fn decide_end(&self, plan: &mut Plan) -> Option<End> {
        if let Some(met) = condition(&self.status, "SuccessCriteriaMet").filter(|own| own.status == "True") {
            return Some(end_of(met, true));
        }
        if let Some(target) = condition(&self.status, "FailureTarget").filter(|own| own.status == "True") {
            return Some(end_of(target, false));
        }
        if let Some(message) = self.fail_job_message() {
            return Some(failure("PodFailurePolicy", &message));
        }
        if self.failed() > self.backoff_limit() || self.restarts_exceed_limit() {
            return Some(failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
        }
        if self.is_past_deadline(plan) {
            return Some(failure("DeadlineExceeded", "Job was active longer than specified deadline"));
        }
        if self.is_indexed() && self.spec.backoff_limit_per_index.is_some() {
            let failed = self.failed_indexes.total();
            if self.spec.max_failed_indexes.is_some_and(|max| failed > max) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(failure("MaxFailedIndexesExceeded", message));
            }
            let all = self.spec.completions.unwrap_or_default();
            if failed > 0 && failed + self.succeeded_indexes.total() >= all {
                return Some(failure("FailedIndexes", "Job has failed indexes"));
            }
        }
        let message = self.success_policy_message()?;
        Some(End { success: true, reason: "SuccessPolicy".to_owned(), message })
    }

    fn backoff_limit(&self) -> i32 {
        let default = if self.spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        self.spec.backoff_limit.unwrap_or(default)
    }

    fn restarts_exceed_limit(&self) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let restarts = |pod: &Pod| -> i32 {
            let Some(status) = &pod.status else { return 0 };
            let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
            all.map(|own| own.restart_count).sum()
        };
        let running = self.pods.iter().filter(|pod| matches!(pod::phase(pod), "Running" | "Pending"));
        let total: i32 = running.map(|pod| restarts(pod)).sum();
        let limit = self.backoff_limit();
        if limit == 0 { total > 0 } else { total >= limit }
    }

    fn is_past_deadline(&self, plan: &mut Plan) -> bool {
        let Some(deadline) = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended()) else { return false };
        let Some(start) = &self.status.start_time else { return false };
        match left(start.0, from_seconds(deadline), self.now) {
            Some(left) => {
                plan.requeue(left + Duration::from_millis(10));
                false
            }
            None => true,
        }
    }

    /// Notes the end that was decided on and ends what still runs. Answers how many pods that are.
    fn end_pods(&mut self, end: &End, plan: &mut Plan) -> usize {
        let kind = if end.success { "SuccessCriteriaMet" } else { "FailureTarget" };
        self.set_condition(kind, "True", &end.reason, &end.message);
        for pod in &self.active {
            plan.push(self.delete_pod(pod));
        }
        self.active.len()
    }

    /// Numbers of pods as they are after this turn's deletions.
    fn count_pods(&mut self, deleted: usize) {
        let count = |pods: usize| i32::try_from(pods).unwrap_or(i32::MAX);
        let ready = self.active.iter().filter(|pod| pod::is_ready(pod)).count();
        let terminating = self.pods.iter().filter(|pod| pod.is_deleting() && !pod::is_finished(pod)).count();
        let active = self.active.len().saturating_sub(deleted);
        self.status.active = Some(count(active)).filter(|&active| active != 0);
        self.status.ready = Some(if deleted > 0 { 0 } else { count(ready) });
        self.status.terminating = Some(count(terminating + deleted));
    }

    /// The last step, when nothing runs any more and everything is counted. Says whether the job is over.
    fn finish(&mut self, plan: &mut Plan) -> bool {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let settled = uncounted.is_none_or(|own| {
            own.succeeded.as_ref().is_none_or(Vec::is_empty) && own.failed.as_ref().is_none_or(Vec::is_empty)
        });
        let idle = self.active.is_empty() && self.status.terminating == Some(0);
        if !settled || !idle {
            return false;
        }
        if let Some(met) = condition(&self.status, "SuccessCriteriaMet").filter(|own| own.status == "True").cloned() {
            let end = end_of(&met, true);
            self.set_condition("Complete", "True", &end.reason, &end.message);
            self.status.completion_time = Some(seconds(self.now));
            plan.push(Action::event(self.job, EventKind::Normal, "Completed", "Job completed"));
            return true;
        }
        if let Some(target) = condition(&self.status, "FailureTarget").filter(|own| own.status == "True").cloned() {
            let end = end_of(&target, false);
            self.set_condition("Failed", "True", &end.reason, &end.message);
            plan.push(Action::event(self.job, EventKind::Warning, &end.reason, end.message.clone()));
            return true;
        }
        false
    }
}

fn end_of(condition: &JobCondition, success: bool) -> End {
    End {
        success,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    }
}

fn failure(reason: &str, message: &str) -> End {
    End { success: false, reason: reason.to_owned(), message: message.to_owned() }
}
