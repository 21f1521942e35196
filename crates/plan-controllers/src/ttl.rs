//! Finished jobs go after a while. Source: `pkg/controller/ttlafterfinished`.

use coracle_plan_core::time::{from_seconds, left};
use coracle_plan_core::{Action, Plan, Propagation};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use crate::job::finished_condition;

#[must_use]
pub fn plan(job: &Job, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let finished = finished_condition(job).and_then(|own| own.last_transition_time.as_ref());
    let (Some(ttl), Some(finished), None) = (ttl, finished, &job.metadata.deletion_timestamp) else { return plan };
    match left(finished.0, from_seconds(ttl.into()), now) {
        Some(left) => plan.requeue(left + std::time::Duration::from_millis(10)),
        None => {
            plan.because("delete the job", format!("it finished {ttl} s ago"));
            plan.push(Action::delete(job).propagated(Propagation::Foreground));
        }
    }
    plan
}
