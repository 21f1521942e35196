//! Making and ending the pods of a job that goes on.

use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::time::left;
use coracle_plan_core::{Action, ObjectRef, Plan, Report, pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::indexes::{failures_of, index_of};
use super::{INDEX, INDEX_FAILURES, TRACKING, Turn};
use crate::replicaset::ranked_for_deletion;
use crate::template;

/// Pods made or ended in one turn. Source: `MaxPodCreateDeletePerSync`.
const BURST_PODS: usize = 500;
/// Source: `DefaultJobPodFailureBackOff`, `MaxJobPodFailureBackOff`.
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// When the pod's last container ended.
fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let ends = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|own| Some(own.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
    let ended = ends.max();
    let ready = || pod::condition(pod, "Ready").and_then(|own| own.last_transition_time.as_ref().map(|time| time.0));
    ended.or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0)).or_else(ready)
}

impl<'a> Turn<'a> {
    pub(super) fn delete_pod(&self, pod: &Pod) -> Action {
        Action::delete(pod).reported(Report::pod_delete(ObjectRef::of(self.job)))
    }

    fn wanted_active(&self) -> usize {
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0);
        let wanted = match self.spec.completions {
            None if self.succeeded() > 0 => i32::try_from(self.active.len()).unwrap_or(i32::MAX),
            None => parallelism,
            Some(completions) => (completions - self.succeeded() - self.failed_indexes.total()).clamp(0, parallelism),
        };
        usize::try_from(wanted).unwrap_or_default()
    }

    pub(super) fn manage(&mut self, plan: &mut Plan) {
        if self.is_suspended() {
            self.active.iter().for_each(|pod| plan.push(self.delete_pod(pod)));
            return;
        }
        let wanted = self.wanted_active();
        let surplus = self.surplus(wanted);
        if !surplus.is_empty() {
            plan.because(format!("delete {} pods", surplus.len()), format!("{wanted} may be active"));
            surplus.iter().take(BURST_PODS).for_each(|pod| plan.push(self.delete_pod(pod)));
            return;
        }
        let ending = self.pods.iter().filter(|pod| pod.is_deleting() && !pod::is_finished(pod)).count();
        let taken = self.active.len() + if self.replaces_failed_only() { ending } else { 0 };
        let missing = wanted.saturating_sub(taken).min(BURST_PODS);
        if missing == 0 {
            return;
        }
        if let Some(wait) = self.backoff() {
            plan.requeue(wait);
            return;
        }
        plan.because(
            format!("create {missing} pods"),
            format!("{wanted} are to be active and {} are", self.active.len()),
        );
        let indexes: Vec<Option<i32>> =
            if self.is_indexed() { self.free_indexes(missing, plan) } else { vec![None; missing] };
        for index in indexes {
            let report = Report::pod_create(ObjectRef::of(self.job));
            plan.push(Action::create(&self.pod(index)).reported(report));
        }
    }

    /// Pods beyond the number, and of indexes that are not wanted or taken twice.
    fn surplus(&self, wanted: usize) -> Vec<&'a Arc<Pod>> {
        let mut surplus: Vec<&Arc<Pod>> = Vec::new();
        let mut kept: Vec<&Arc<Pod>> = Vec::new();
        if self.is_indexed() {
            let mut seen = std::collections::BTreeSet::new();
            for pod in &self.active {
                let index =
                    index_of(pod).filter(|&index| index < self.completions() && !self.succeeded_indexes.has(index));
                let good = index.is_some_and(|index| !self.failed_indexes.has(index) && seen.insert(index));
                if good { kept.push(pod) } else { surplus.push(pod) }
            }
        } else {
            kept.clone_from(&self.active);
        }
        let excess = kept.len().saturating_sub(wanted);
        surplus.extend(ranked_for_deletion(&kept, self.now).into_iter().take(excess));
        surplus
    }

    /// The lowest indexes without a pod, and of those with failures only such whose own delay is over.
    fn free_indexes(&self, count: usize, plan: &mut Plan) -> Vec<Option<i32>> {
        let busy: std::collections::BTreeSet<i32> = self
            .pods
            .iter()
            .filter(|pod| {
                pod::is_active(pod) || (pod.is_deleting() && self.replaces_failed_only() && !pod::is_finished(pod))
            })
            .filter_map(|pod| index_of(pod))
            .collect();
        let mut free = Vec::new();
        for index in 0..self.completions() {
            if free.len() == count {
                break;
            }
            if busy.contains(&index) || self.succeeded_indexes.has(index) || self.failed_indexes.has(index) {
                continue;
            }
            match self.index_backoff(index) {
                Some(wait) => plan.requeue(wait),
                None => free.push(Some(index)),
            }
        }
        free
    }

    fn last_failed(&self, index: i32) -> Option<&Arc<Pod>> {
        let failed = self.pods.iter().copied().filter(|pod| self.is_failed(pod) && index_of(pod) == Some(index));
        failed.max_by_key(|pod| (failures_of(pod), pod.metadata.creation_timestamp.clone()))
    }

    fn index_backoff(&self, index: i32) -> Option<Duration> {
        self.spec.backoff_limit_per_index?;
        let last = self.last_failed(index)?;
        let failures = u32::try_from(failures_of(last)).unwrap_or_default();
        self.left_of(failures + 1, finished_at(last)?)
    }

    fn left_of(&self, failures: u32, last: Timestamp) -> Option<Duration> {
        let doublings = failures.saturating_sub(1).min(16);
        left(last, (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_MAX), self.now)
    }

    /// Time until new pods may be made after failures in a row.
    fn backoff(&self) -> Option<Duration> {
        if self.spec.backoff_limit_per_index.is_some() {
            return None;
        }
        let last_success =
            self.pods.iter().filter(|pod| pod::phase(pod) == "Succeeded").filter_map(|pod| finished_at(pod)).max();
        let failures: Vec<Timestamp> = self
            .pods
            .iter()
            .filter(|pod| pod::phase(pod) == "Failed")
            .filter_map(|pod| finished_at(pod))
            .filter(|at| last_success.is_none_or(|success| *at > success))
            .collect();
        let last = failures.iter().max()?;
        self.left_of(u32::try_from(failures.len()).unwrap_or(u32::MAX), *last)
    }

    fn pod(&self, index: Option<i32>) -> Pod {
        let mut pod = template::pod(&self.spec.template, self.job.namespace(), &self.owner);
        pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
        let Some(index) = index else { return pod };
        let name = self.job.name();
        pod.metadata.generate_name = Some(format!("{name}-{index}-"));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(INDEX.to_owned(), index.to_string());
        if self.spec.backoff_limit_per_index.is_some() {
            let before = self.last_failed(index);
            let failures = before.map_or(0, |pod| failures_of(pod) + i32::from(!self.is_ignored(pod)));
            annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
        }
        pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
        if let Some(spec) = &mut pod.spec {
            spec.hostname = Some(format!("{name}-{index}"));
            let inits = spec.init_containers.iter_mut().flatten();
            for container in spec.containers.iter_mut().chain(inits) {
                let env = container.env.get_or_insert_default();
                if !env.iter().any(|own| own.name == "JOB_COMPLETION_INDEX") {
                    env.push(index_variable());
                }
            }
        }
        pod
    }
}

fn index_variable() -> EnvVar {
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    EnvVar {
        name: "JOB_COMPLETION_INDEX".to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        value: None,
    }
}
