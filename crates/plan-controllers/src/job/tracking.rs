//! Counting each finished pod once.

use coracle_api_types::Object;
use coracle_plan_core::{Action, pod};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::{failures_of, index_of};
use super::{Turn, is_tracked, untrack};

/// Pods counted in one turn. Source: `MaxUncountedPods`.
const UNCOUNTED_MAX: usize = 500;

impl Turn<'_> {
    /// Brings the status forward, and answers the finalizers to take away once it is written.
    pub(super) fn track(&mut self) -> Vec<Action> {
        self.settle_counted();
        let mut finalizers = Vec::new();
        let mut uncounted = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let waiting = |list: &Option<Vec<String>>, uid: &str| list.iter().flatten().any(|own| own == uid);
        for pod in self.pods.iter().filter(|pod| is_tracked(pod)).take(UNCOUNTED_MAX) {
            let uid = pod.uid();
            if waiting(&uncounted.succeeded, uid) || waiting(&uncounted.failed, uid) {
                finalizers.push(untrack(pod));
            } else if pod::phase(pod) == "Succeeded" {
                // Completed indexes are a set, in which nothing is counted twice.
                let beyond = self.is_indexed();
                if !beyond {
                    uncounted.succeeded.get_or_insert_default().push(uid.to_owned());
                }
                finalizers.push(untrack(pod));
            } else if self.is_failed(pod) && !self.is_kept(pod) {
                if !self.is_ignored(pod) {
                    uncounted.failed.get_or_insert_default().push(uid.to_owned());
                }
                finalizers.push(untrack(pod));
            }
        }
        self.status.uncounted_terminated_pods = Some(uncounted);
        if self.is_indexed() {
            let text = |text: String| Some(text).filter(|text| !text.is_empty());
            self.status.succeeded = Some(self.succeeded_indexes.total()).filter(|&total| total != 0);
            self.status.completed_indexes = text(self.succeeded_indexes.text());
            if self.spec.backoff_limit_per_index.is_some() {
                self.status.failed_indexes = Some(self.failed_indexes.text());
            }
        }
        finalizers
    }

    /// Pods whose finalizer is gone are added to the totals.
    fn settle_counted(&mut self) {
        let Some(uncounted) = &mut self.status.uncounted_terminated_pods else { return };
        let pods = &self.pods;
        let tracked = |uid: &String| pods.iter().any(|pod| pod.uid() == uid && is_tracked(pod));
        let settle = |list: &mut Option<Vec<String>>| {
            let Some(uids) = list else { return 0 };
            let before = uids.len();
            uids.retain(|uid| tracked(uid));
            let settled = before - uids.len();
            if uids.is_empty() {
                *list = None;
            }
            i32::try_from(settled).unwrap_or(i32::MAX)
        };
        let succeeded = settle(&mut uncounted.succeeded);
        let failed = settle(&mut uncounted.failed);
        let add = |total: &mut Option<i32>, more: i32| {
            if more > 0 {
                *total = Some(total.unwrap_or_default() + more);
            }
        };
        add(&mut self.status.succeeded, succeeded);
        add(&mut self.status.failed, failed);
    }

    /// With a limit per index, the latest failed pod of an index is kept until it is replaced: it carries the count.
    fn is_kept(&self, pod: &Pod) -> bool {
        if self.spec.backoff_limit_per_index.is_none() {
            return false;
        }
        let Some(index) = index_of(pod) else { return false };
        let decided = self.failed_indexes.has(index) || self.succeeded_indexes.has(index);
        let later = |other: &&&std::sync::Arc<Pod>| {
            index_of(other) == Some(index)
                && other.uid() != pod.uid()
                && (failures_of(other) > failures_of(pod)
                    || other.metadata.creation_timestamp > pod.metadata.creation_timestamp)
        };
        let ending = super::condition(&self.status, "FailureTarget").is_some();
        !decided && !ending && !self.pods.iter().any(|other| later(&other))
    }
}
