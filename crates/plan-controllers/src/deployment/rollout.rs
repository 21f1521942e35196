//! How a deployment gets from old sets to the new one.

use std::sync::Arc;

use coracle_api_types::Object;
use coracle_plan_core::{Plan, owner::is_controlled_by, pod};
use k8s_openapi::api::apps::v1::ReplicaSet;

use super::sets::{available, replicas};
use super::{Rollout, View, sets};

impl Rollout<'_> {
    fn active_old(&self) -> Vec<&Arc<ReplicaSet>> {
        self.old.iter().filter(|set| replicas(set) > 0).collect()
    }

    /// Paused, or just scaled: sizes only, no progress.
    pub(super) fn sync(&self, plan: &mut Plan) {
        self.scale(plan);
        if self.spec.paused == Some(true) {
            self.clean_up(plan);
        }
        self.sync_status(plan);
    }

    /// RollingUpdate.
    pub(super) fn roll(&self, view: &View<'_>, plan: &mut Plan) {
        if self.sync_new_set(plan, true, view.failure.as_ref()) {
            return;
        }
        let Some(new) = &self.new else { return };
        if !self.grow_new(new, plan) && !self.shrink_old(new, plan) && self.is_complete() {
            self.clean_up(plan);
        }
        self.sync_rollout_status(plan);
    }

    fn grow_new(&self, new: &ReplicaSet, plan: &mut Plan) -> bool {
        let size = replicas(new);
        if size == self.replicas {
            return false;
        }
        let wanted = if size > self.replicas { self.replicas } else { self.new_size(size) };
        size != wanted && self.scale_set(new, wanted, plan)
    }

    /// Source: `reconcileOldReplicaSets`.
    fn shrink_old(&self, new: &ReplicaSet, plan: &mut Plan) -> bool {
        let active = self.active_old();
        let total: i32 = self.all().map(|set| replicas(set)).sum();
        let new_unavailable = replicas(new) - available(new);
        let min_available = self.replicas - self.max_unavailable;
        let most = total - min_available - new_unavailable;
        if active.is_empty() || most <= 0 {
            return false;
        }
        let mut sizes: Vec<i32> = active.iter().map(|set| replicas(set)).collect();
        // First what is not available anyway, then as many as may be unavailable.
        let mut left = most;
        for (set, size) in active.iter().zip(&mut sizes) {
            let unhealthy = (*size - available(set)).clamp(0, left);
            *size -= unhealthy;
            left -= unhealthy;
        }
        let up: i32 = self.all().map(|set| available(set)).sum();
        let mut spare = (up - min_available).max(0);
        for size in &mut sizes {
            let down = spare.min(*size);
            *size -= down;
            spare -= down;
        }
        let mut scaled = false;
        for (set, size) in active.into_iter().zip(sizes) {
            if size != replicas(set) {
                scaled |= self.scale_set(set, size, plan);
            }
        }
        scaled
    }

    /// Recreate: the old pods must be gone before new ones come.
    pub(super) fn recreate(&self, view: &View<'_>, plan: &mut Plan) {
        let active = self.active_old();
        if !active.is_empty() {
            for set in active {
                self.scale_set(set, 0, plan);
            }
            return self.sync_rollout_status(plan);
        }
        if self.old_pods_left(view) {
            return self.sync_rollout_status(plan);
        }
        if self.sync_new_set(plan, true, view.failure.as_ref()) {
            return;
        }
        let Some(new) = &self.new else { return };
        if replicas(new) != self.replicas {
            self.scale_set(new, self.replicas, plan);
        } else if self.is_complete() {
            self.clean_up(plan);
        }
        self.sync_rollout_status(plan);
    }

    fn old_pods_left(&self, view: &View<'_>) -> bool {
        let running = |set: &ReplicaSet| {
            view.pods.iter().any(|pod| !pod::is_finished(pod) && is_controlled_by(&pod.metadata, set.uid()))
        };
        self.old.iter().any(|set| running(set))
    }

    /// Brings the sets to the size of the deployment, in proportion when several are active.
    fn scale(&self, plan: &mut Plan) {
        let mut active: Vec<&Arc<ReplicaSet>> = self.all().filter(|set| replicas(set) > 0).collect();
        if active.len() <= 1 {
            let newest = self.new.as_ref().or(self.old.last());
            if let Some(set) = active.first().copied().or(newest)
                && replicas(set) != self.replicas
            {
                self.scale_set(set, self.replicas, plan);
            } else if let Some(set) = active.first() {
                self.scale_set(set, self.replicas, plan);
            }
            return;
        }
        if self.new.as_ref().is_some_and(|new| self.is_saturated(new)) {
            for set in self.active_old() {
                self.scale_set(set, 0, plan);
            }
            return;
        }
        if !self.is_rolling() {
            return;
        }
        let allowed = if self.replicas > 0 { self.replicas + self.max_surge } else { 0 };
        let add = allowed - active.iter().map(|set| replicas(set)).sum::<i32>();
        // Larger sets come first; of equal ones the newer when growing, the older when shrinking.
        active.sort_by(|a, b| {
            let by_age = if add > 0 { sets::age(b).cmp(&sets::age(a)) } else { sets::age(a).cmp(&sets::age(b)) };
            replicas(b).cmp(&replicas(a)).then(by_age)
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for set in &active {
            let share = self.proportion(set, add, added);
            added += share;
            sizes.push(replicas(set) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + add - added).max(0);
        }
        for (set, size) in active.into_iter().zip(sizes) {
            self.scale_set(set, size, plan);
        }
    }

    fn is_saturated(&self, new: &ReplicaSet) -> bool {
        let desired = new.annotation("deployment.kubernetes.io/desired-replicas");
        replicas(new) == self.replicas
            && desired.and_then(|text| text.parse::<i32>().ok()) == Some(self.replicas)
            && available(new) == self.replicas
    }

    /// Source: `GetReplicaSetProportion`.
    fn proportion(&self, set: &ReplicaSet, add: i32, added: i32) -> i32 {
        if add == 0 || add == added {
            return 0;
        }
        let size = replicas(set);
        let share = if self.replicas == 0 {
            -size
        } else {
            let noted =
                set.annotation("deployment.kubernetes.io/max-replicas").and_then(|text| text.parse::<i32>().ok());
            let actual = self.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default();
            let before = noted.filter(|&max| max > 0).unwrap_or(actual);
            if before == 0 {
                return 0;
            }
            let product = i64::from(size) * i64::from(self.replicas + self.max_surge);
            // Rounded to the nearest.
            let wanted = (2 * product + i64::from(before)).div_euclid(2 * i64::from(before));
            i32::try_from(wanted).unwrap_or(i32::MAX) - size
        };
        if add > 0 { share.min(add - added) } else { share.max(add - added) }
    }
}
