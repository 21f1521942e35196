//! Jobs, cron jobs, and the end of finished jobs.

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_driver::{Planned, Queue, Request, feed, feed_with};
use coracle_plan_controllers::{cronjob, job, ttl};
use coracle_plan_core::Plan;
use coracle_plan_core::owner::controller_of;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use crate::Context;
use crate::workloads::{adopters, owners_of};

const WORKERS: usize = 5;

pub fn start(context: &Context) {
    start_jobs(context);
    start_cron_jobs(context);
    start_ttl(context);
}

fn start_jobs(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.jobs, &queue);
    feed_with(&context.tasks, &context.stop, &informers.pods, &queue, {
        let jobs = informers.jobs.clone();
        move |change| {
            owners_of(change, "Job", |pod: &Pod| {
                adopters(&jobs, pod, |job: &Job| job.spec.as_ref().and_then(|spec| spec.selector.clone()))
            })
        }
    });
    let plan = move |request: &Request<ObjectKey>| {
        let pods = informers.pods.list_namespace(&request.key.namespace);
        let current = informers.jobs.get_key(&request.key);
        let exists = |uid: &str| current.as_ref().is_some_and(|job| job.uid() == uid);
        let orphans = job::plan_orphans(&pods, &request.key.name, exists);
        match &current {
            Some(current) if orphans.is_nothing() => job::plan(&job::View { job: current, pods: &pods }, request.now),
            _ => orphans,
        }
    };
    let name = "job-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_cron_jobs(context: &Context) {
    let queue = Queue::new();
    let informers = context.informers.clone();
    feed(&context.tasks, &context.stop, &informers.cron_jobs, &queue);
    feed_with(&context.tasks, &context.stop, &informers.jobs, &queue, |change| {
        let owners = change.old.iter().chain(&change.new).filter_map(|job| {
            let owner = controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob")?;
            Some(ObjectKey::new(job.namespace(), &owner.name))
        });
        owners.collect()
    });
    let plan = move |request: &Request<ObjectKey>| {
        let Some(current) = informers.cron_jobs.get_key(&request.key) else { return Plan::nothing() };
        let jobs = informers.jobs.list_namespace(&request.key.namespace);
        cronjob::plan(&cronjob::View { cron_job: &current, jobs: &jobs }, request.now)
    };
    let name = "cronjob-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, WORKERS);
}

fn start_ttl(context: &Context) {
    let queue = Queue::new();
    let jobs = context.informers.jobs.clone();
    feed(&context.tasks, &context.stop, &jobs, &queue);
    let plan = move |request: &Request<ObjectKey>| match jobs.get_key(&request.key) {
        Some(job) => ttl::plan(&job, request.now),
        None => Plan::nothing(),
    };
    let name = "ttl-after-finished-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}
