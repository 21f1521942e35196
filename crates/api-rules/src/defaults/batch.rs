//! Defaults of group `batch`. Source: `pkg/apis/batch/v1/defaults.go`.

use coracle_api_meta::{Map, ObjectExt, Value};

use super::pod::template;
use crate::edit::{each, fill, fill_blank, fill_empty, make, missing, object};

pub fn job(job: &mut Value) {
    fill_empty(job, "status");
    if let Some(spec) = make(job, "spec") {
        job_spec(spec);
    }
    let labels = job.at(&["spec", "template", "metadata", "labels"]).filter(|labels| labels.is_object()).cloned();
    if let Some(labels) = labels
        && job.labels().is_none_or(Map::is_empty)
    {
        job.set_meta("labels", labels);
    }
}

/// Defaults that come to life in jobs, and not in the templates of cron jobs.
fn job_spec(spec: &mut Value) {
    template(spec, "template");
    if missing(spec, "completions") && missing(spec, "parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = if missing(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement = if missing(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    fill(spec, "podReplacementPolicy", replacement);
    fill(spec, "manualSelector", false);
    failure_policy(spec);
}

fn failure_policy(spec: &mut Value) {
    let Some(policy) = object(spec, "podFailurePolicy") else { return };
    for rule in each(policy, "rules") {
        each(rule, "onPodConditions").for_each(|pattern| fill_blank(pattern, "status", "True"));
    }
}

pub fn cron_job(job: &mut Value) {
    fill_empty(job, "status");
    let Some(spec) = make(job, "spec") else { return };
    fill_blank(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    let Some(template_spec) = make(spec, "jobTemplate") else { return };
    fill_empty(template_spec, "metadata");
    if let Some(inner) = make(template_spec, "spec") {
        template(inner, "template");
        failure_policy(inner);
    }
}
