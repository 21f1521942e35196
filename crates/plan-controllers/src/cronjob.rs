//! Cron jobs: a job at each scheduled time. Source: `pkg/controller/cronjob`.

use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::owner::{controller_ref, is_controlled_by};
use coracle_plan_core::time::{from_seconds, since};
use coracle_plan_core::{Action, EventKind, ObjectRef, Plan, Propagation, Report};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::cron::Schedule;
use crate::job::{finished_condition, is_finished};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What is known about one cron job.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub cron_job: &'a CronJob,
    /// Jobs of the namespace.
    pub jobs: &'a [Arc<Job>],
}

#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let spec = &view.cron_job.spec;
    let mut updated = view.cron_job.clone();
    let own: Vec<&Arc<Job>> =
        view.jobs.iter().filter(|job| is_controlled_by(&job.metadata, view.cron_job.uid())).collect();
    note_active(&mut updated, &own, &mut plan);
    delete_finished(view.cron_job, spec, &own, &mut plan);
    if !view.cron_job.is_deleting() && spec.suspend != Some(true) {
        schedule(view.cron_job, spec, &own, now, &mut updated, &mut plan);
    }
    if updated.status != view.cron_job.status {
        plan.push(Action::update_status(&updated));
    }
    plan
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some(Job::API_VERSION.to_owned()),
        kind: Some(Job::KIND.to_owned()),
        namespace: Some(job.namespace().to_owned()),
        name: Some(job.name().to_owned()),
        uid: Some(job.uid().to_owned()),
        resource_version: Some(job.resource_version().to_owned()),
        field_path: None,
    }
}

/// The list of active jobs, and the last success.
fn note_active(updated: &mut CronJob, own: &[&Arc<Job>], plan: &mut Plan) {
    let about = updated.clone();
    let status = updated.status.get_or_insert_default();
    let before = status.active.take().unwrap_or_default();
    let mut active = Vec::new();
    for known in before {
        let job = own.iter().find(|job| Some(job.uid()) == known.uid.as_deref());
        match job {
            Some(job) if !is_finished(job) => active.push(known),
            Some(job) => {
                let condition = finished_condition(job).map(|own| own.type_.clone()).unwrap_or_default();
                let message = format!("Saw completed job: {}, condition: {condition}", job.name());
                plan.push(Action::event(&about, EventKind::Normal, "SawCompletedJob", message));
            }
            None => {
                let name = known.name.unwrap_or_default();
                let message = format!("Active job went missing: {name}");
                plan.push(Action::event(&about, EventKind::Normal, "MissingJob", message));
            }
        }
    }
    for job in own.iter().filter(|job| !is_finished(job)) {
        if !active.iter().any(|known| known.uid.as_deref() == Some(job.uid())) {
            active.push(reference(job));
        }
    }
    status.active = Some(active).filter(|active| !active.is_empty());
    let done = own.iter().filter(|job| finished_condition(job).is_some_and(|own| own.type_ == "Complete"));
    let last = done.filter_map(|job| job.status.as_ref()?.completion_time.clone()).max();
    if last > status.last_successful_time {
        status.last_successful_time = last;
    }
}

/// Keeps only as many finished jobs as are wanted, the newest.
fn delete_finished(cron_job: &CronJob, spec: &CronJobSpec, own: &[&Arc<Job>], plan: &mut Plan) {
    for (kind, limit) in [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let mut finished: Vec<&&Arc<Job>> = own
            .iter()
            .filter(|job| finished_condition(job).is_some_and(|own| own.type_ == kind) && !job.is_deleting())
            .collect();
        finished.sort_by_key(|job| {
            (job.status.as_ref().and_then(|status| status.start_time.clone()), job.name().to_owned())
        });
        let excess = finished.len().saturating_sub(limit);
        finished.into_iter().take(excess).for_each(|job| plan.push(delete(cron_job, job)));
    }
}

fn delete(cron_job: &CronJob, job: &Job) -> Action {
    let report = Report::new(
        ObjectRef::of(cron_job),
        ("SuccessfulDelete", "Deleted job {name}"),
        ("FailedDelete", "Deleted job: {error}"),
    );
    Action::delete(job).propagated(Propagation::Background).reported(report)
}

fn zone_of(spec: &CronJobSpec) -> Result<TimeZone, String> {
    let Some(name) = &spec.time_zone else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|error| format!("invalid timeZone: {name:?}: {error}"))
}

fn warn(cron_job: &CronJob, reason: &str, message: String) -> Action {
    Action::event(cron_job, EventKind::Warning, reason, message)
}

fn schedule(
    cron_job: &CronJob,
    spec: &CronJobSpec,
    own: &[&Arc<Job>],
    now: Timestamp,
    updated: &mut CronJob,
    plan: &mut Plan,
) {
    let zone = match zone_of(spec) {
        Ok(zone) => zone,
        Err(message) => return plan.push(warn(cron_job, "UnknownTimeZone", message)),
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            return plan.push(warn(cron_job, "UnparseableSchedule", message));
        }
    };
    if let Some(next) = schedule.next(now, &zone) {
        plan.requeue(since(now, next) + Duration::from_millis(100));
    }
    let status = cron_job.status.clone().unwrap_or_default();
    let made = cron_job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let last = status.last_schedule_time.as_ref().map_or(made, |time| time.0);
    let deadline = spec.starting_deadline_seconds.map(from_seconds);
    let earliest = deadline.and_then(|deadline| now.checked_sub(deadline).ok()).map_or(last, |start| start.max(last));
    let Some(time) = schedule.last(earliest, now, &zone) else {
        if deadline.is_some()
            && let Some(missed) = schedule.last(last, now, &zone)
        {
            let missed = missed.strftime("%a, %d %b %Y %H:%M:%S UTC");
            plan.push(warn(cron_job, "MissSchedule", format!("Missed scheduled time to start a job: {missed}")));
        }
        return;
    };
    let name = format!("{}-{}", cron_job.name(), time.as_second() / 60);
    if own.iter().any(|job| job.name() == name) {
        updated.status.get_or_insert_default().last_schedule_time = Some(Time(time));
        return;
    }
    let active: Vec<&&Arc<Job>> = own.iter().filter(|job| !is_finished(job)).collect();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.push(Action::event(cron_job, EventKind::Normal, "JobAlreadyActive", message));
            return;
        }
        Some("Replace") => active.iter().for_each(|job| plan.push(delete(cron_job, job))),
        _ => {}
    }
    create(cron_job, spec, &name, time, &zone, plan);
    updated.status.get_or_insert_default().last_schedule_time = Some(Time(time));
}

fn create(cron_job: &CronJob, spec: &CronJobSpec, name: &str, time: Timestamp, zone: &TimeZone, plan: &mut Plan) {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let zoned = time.to_zoned(zone.clone());
    let stamp =
        if *zone == TimeZone::UTC { time.to_string() } else { zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() };
    annotations.insert(SCHEDULED.to_owned(), stamp);
    let job = Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(cron_job.namespace().to_owned()),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    };
    let report = Report::new(
        ObjectRef::of(cron_job),
        ("SuccessfulCreate", "Created job {name}"),
        ("FailedCreate", "Error creating job: {error}"),
    );
    let Action::Create { gvr, object, .. } = Action::create(&job) else { return };
    plan.because(format!("create job {name}"), format!("it was scheduled for {time}"));
    plan.push(Action::Create { gvr, object, report: Some(report), exists_is_fine: true });
}
