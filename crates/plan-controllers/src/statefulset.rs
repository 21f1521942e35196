//! Stateful sets: pods with a name, an order and claims of their own. Source: `pkg/controller/statefulset`.

use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::owner::{self, Claim, claim, controller_ref};
use coracle_plan_core::select::{self, compile};
use coracle_plan_core::time::{from_seconds, left};
use coracle_plan_core::{Action, ObjectRef, Plan, Report, pod};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use crate::history::{self, HISTORY_HASH, REVISION_HASH};
use crate::template::{self, scaled};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// What is known about one stateful set.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub set: &'a StatefulSet,
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
    /// Revisions of the namespace.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// Claims of the namespace.
    pub claims: &'a [Arc<PersistentVolumeClaim>],
    /// The name of a new revision was taken when the last turn tried to make it.
    pub name_taken: bool,
}

/// The pod's number; `None` when its name is not one of the set's.
fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    pod.name().strip_prefix(set.name())?.strip_prefix('-')?.parse().ok()
}

#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let Some(spec) = &view.set.spec else { return plan };
    let owner = controller_ref(view.set);
    let selector = compile(&spec.selector);
    let mut pods = Vec::new();
    for pod in view.pods {
        let matches = select::matches(&selector, pod.metadata.labels.as_ref()) && ordinal(view.set, pod).is_some();
        match claim(&**pod, &view.set.metadata, matches) {
            Claim::Owned => pods.push(pod),
            Claim::Adopt => plan.push(owner::adopt(&**pod, &owner)),
            Claim::Release => plan.push(owner::release(&**pod, &owner.uid)),
            Claim::Ignore => {}
        }
    }
    let mut revisions: Vec<&ControllerRevision> = Vec::new();
    for revision in view.revisions {
        let matches = select::matches(&selector, revision.metadata.labels.as_ref());
        match claim(&**revision, &view.set.metadata, matches) {
            Claim::Owned => revisions.push(revision),
            Claim::Adopt => plan.push(owner::adopt(&**revision, &owner)),
            _ => {}
        }
    }
    if !plan.is_nothing() {
        return plan;
    }
    revisions.sort_by_key(|revision| (revision.revision, revision.name().to_owned()));
    let Some(update) = sync_revision(view, spec, &revisions, &mut plan) else { return plan };
    let named = view.set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = revisions.iter().find(|revision| Some(revision.name()) == named).copied().unwrap_or(update);
    let turn = Turn::new(view, spec, owner, (current, update), pods, now);
    turn.run(&mut plan);
    turn.clean_up(&revisions, &mut plan);
    turn.sync_status(&mut plan);
    plan
}

/// The revision of the template. `None` when the plan must be carried out first.
fn sync_revision<'a>(
    view: &View<'_>,
    spec: &StatefulSetSpec,
    revisions: &[&'a ControllerRevision],
    plan: &mut Plan,
) -> Option<&'a ControllerRevision> {
    let data = history::data(&spec.template);
    let highest = revisions.last().map(|revision| revision.revision).unwrap_or_default();
    let equal = revisions.iter().rfind(|revision| history::restores(revision, &data)).copied();
    if let Some(equal) = equal {
        if equal.revision == highest {
            return Some(equal);
        }
        let mut renumbered = equal.clone();
        renumbered.revision = highest + 1;
        plan.push(Action::update(&renumbered));
        return None;
    }
    if view.name_taken {
        let mut set = view.set.clone();
        *set.status.get_or_insert_default().collision_count.get_or_insert_default() += 1;
        plan.push(Action::update_status(&set));
        return None;
    }
    let collisions = view.set.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
    let hash = history::hash(&data, Some(collisions));
    let labels = template::labels(&spec.template);
    let revision = history::revision(view.set, labels, data, highest + 1, (HISTORY_HASH, &hash));
    plan.because(format!("make revision {}", revision.name()), "the template is not in the history");
    plan.push(Action::create(&revision));
    None
}

struct Turn<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    owner: OwnerReference,
    current: &'a ControllerRevision,
    update: &'a ControllerRevision,
    now: Timestamp,
    claims: &'a [Arc<PersistentVolumeClaim>],
    pods: Vec<&'a Arc<Pod>>,
    /// One place per wanted number.
    replicas: Vec<(i32, Option<&'a Arc<Pod>>)>,
    /// Pods beyond the wanted numbers, highest first.
    condemned: Vec<&'a Arc<Pod>>,
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pod::phase(pod) == "Running" && pod::is_ready(pod)
}

impl<'a> Turn<'a> {
    fn new(
        view: &View<'a>,
        spec: &'a StatefulSetSpec,
        owner: OwnerReference,
        (current, update): (&'a ControllerRevision, &'a ControllerRevision),
        pods: Vec<&'a Arc<Pod>>,
        now: Timestamp,
    ) -> Self {
        let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
        let wanted = start..start + spec.replicas.unwrap_or(1);
        let of = |number: i32| pods.iter().copied().find(|pod| ordinal(view.set, pod) == Some(number));
        let replicas = wanted.clone().map(|number| (number, of(number))).collect();
        let beyond = |pod: &&&'a Arc<Pod>| ordinal(view.set, pod).is_some_and(|number| !wanted.contains(&number));
        let mut condemned: Vec<&Arc<Pod>> = pods.iter().filter(beyond).copied().collect();
        condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal(view.set, pod)));
        Self { set: view.set, spec, owner, current, update, now, claims: view.claims, pods, replicas, condemned }
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_running_and_ready(pod) && pod::is_available(pod, self.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    fn is_unavailable(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_none_or(|pod| !self.is_available(pod) || pod.is_deleting())
    }

    fn run(&self, plan: &mut Plan) {
        if self.set.is_deleting() {
            return;
        }
        self.requeue_for_availability(plan);
        let mut done = true;
        for (number, pod) in &self.replicas {
            done &= self.sync_replica(*number, *pod, plan);
            if !done && self.is_ordered() {
                return;
            }
        }
        if !done {
            return;
        }
        if !self.end_condemned(plan) {
            return;
        }
        if self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete") {
            self.roll(plan);
        }
    }

    /// Says whether the next number may be looked at.
    fn sync_replica(&self, number: i32, pod: Option<&Arc<Pod>>, plan: &mut Plan) -> bool {
        let Some(pod) = pod else {
            self.create(number, plan);
            return !self.is_ordered();
        };
        if pod::is_finished(pod) {
            if !pod.is_deleting() {
                plan.because(format!("delete pod {}", pod.name()), "it is finished and will be made anew");
                plan.push(self.delete(pod));
            }
            return false;
        }
        if pod::phase(pod) == "Pending" {
            self.create_claims(pod.name(), plan);
        }
        self.fix_identity(number, pod, plan);
        if !self.is_ordered() {
            return true;
        }
        !pod.is_deleting() && self.is_available(pod)
    }

    fn fix_identity(&self, number: i32, pod: &Pod, plan: &mut Plan) {
        if pod.is_deleting() || pod.label(POD_NAME) == Some(pod.name()) {
            return;
        }
        let labels = json!({POD_NAME: pod.name(), POD_INDEX: number.to_string()});
        plan.push(Action::merge(pod, "", json!({"metadata": {"labels": labels}})));
    }

    /// The template and the name of the revision that the number gets.
    fn version_of(&self, number: i32) -> (PodTemplateSpec, &str) {
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let on_delete =
            self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or_default();
        let start = self.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
        let settled = self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or_default();
        let keeps = !on_delete
            && if rolling.and_then(|rolling| rolling.partition).is_some() {
                number < start + partition
            } else {
                number < start + settled
            };
        if keeps && let Some(template) = history::template(self.current) {
            return (template, self.current.name());
        }
        (self.spec.template.clone(), self.update.name())
    }

    fn create(&self, number: i32, plan: &mut Plan) {
        let name = format!("{}-{number}", self.set.name());
        self.create_claims(&name, plan);
        let (template, revision) = self.version_of(number);
        let mut pod = template::pod(&template, self.set.namespace(), &self.owner);
        pod.metadata.generate_name = None;
        pod.metadata.name = Some(name.clone());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(POD_NAME.to_owned(), name.clone());
        labels.insert(POD_INDEX.to_owned(), number.to_string());
        labels.insert(REVISION_HASH.to_owned(), revision.to_owned());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name.clone());
        spec.subdomain = self.spec.service_name.clone().filter(|name| !name.is_empty());
        let volumes = spec.volumes.get_or_insert_default();
        for claim in self.spec.volume_claim_templates.iter().flatten() {
            volumes.retain(|volume| volume.name != claim.name());
            volumes.push(Volume {
                name: claim.name().to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: format!("{}-{name}", claim.name()),
                    read_only: Some(false),
                }),
                ..Volume::default()
            });
        }
        if volumes.is_empty() {
            spec.volumes = None;
        }
        let set = self.set.name();
        let report = Report::new(
            ObjectRef::of(self.set),
            ("SuccessfulCreate", &format!("create Pod {name} in StatefulSet {set} successful")),
            ("FailedCreate", &format!("create Pod {name} in StatefulSet {set} failed error: {{error}}")),
        );
        plan.push(Action::create(&pod).reported(report));
    }

    /// Claims that are missing for the number.
    fn create_claims(&self, pod: &str, plan: &mut Plan) {
        for template in self.spec.volume_claim_templates.iter().flatten() {
            let name = format!("{}-{pod}", template.name());
            if self.claims.iter().any(|claim| claim.name() == name) {
                continue;
            }
            let mut claim = template.clone();
            claim.status = None;
            claim.metadata.namespace = Some(self.set.namespace().to_owned());
            claim.metadata.name = Some(name.clone());
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(self.spec.selector.match_labels.clone().unwrap_or_default());
            claim.metadata.owner_references = self.claim_owner();
            let set = self.set.name();
            let report = Report::new(
                ObjectRef::of(self.set),
                ("SuccessfulCreate", &format!("create Claim {name} Pod {pod} in StatefulSet {set} success")),
                (
                    "FailedCreate",
                    &format!("create Claim {name} for Pod {pod} in StatefulSet {set} failed error: {{error}}"),
                ),
            );
            let Action::Create { gvr, object, .. } = Action::create(&claim) else { continue };
            plan.push(Action::Create { gvr, object, report: Some(report), exists_is_fine: true });
        }
    }

    /// Claims go with the set when its policy says so.
    fn claim_owner(&self) -> Option<Vec<OwnerReference>> {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref()?;
        (policy.when_deleted.as_deref() == Some("Delete")).then(|| {
            let owner = OwnerReference { block_owner_deletion: Some(true), ..self.owner.clone() };
            vec![owner]
        })
    }

    fn delete(&self, pod: &Pod) -> Action {
        let (name, set) = (pod.name(), self.set.name());
        Action::delete(pod).reported(Report::new(
            ObjectRef::of(self.set),
            ("SuccessfulDelete", &format!("delete Pod {name} in StatefulSet {set} successful")),
            ("FailedDelete", &format!("delete Pod {name} in StatefulSet {set} failed error: {{error}}")),
        ))
    }

    fn first_unavailable(&self) -> Option<&str> {
        let wanted = self.replicas.iter().find(|(_, pod)| self.is_unavailable(*pod));
        if let Some((_, pod)) = wanted {
            return pod.map(|pod| pod.name());
        }
        self.condemned.iter().rev().find(|pod| self.is_unavailable(Some(pod))).map(|pod| pod.name())
    }

    /// Ends pods beyond the wanted numbers. Says whether all are gone or going.
    fn end_condemned(&self, plan: &mut Plan) -> bool {
        let first = self.first_unavailable();
        for pod in &self.condemned {
            self.release_claims(pod, plan);
            if pod.is_deleting() {
                if self.is_ordered() {
                    return false;
                }
                continue;
            }
            if self.is_ordered() && !self.is_available(pod) && first != Some(pod.name()) {
                return false;
            }
            plan.because(format!("delete pod {}", pod.name()), "fewer replicas are wanted");
            plan.push(self.delete(pod));
            if self.is_ordered() {
                return false;
            }
        }
        true
    }

    /// Claims of a number that is no longer wanted go with its pod when the policy says so.
    fn release_claims(&self, pod: &Pod, plan: &mut Plan) {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        if policy.and_then(|policy| policy.when_scaled.as_deref()) != Some("Delete") {
            return;
        }
        for template in self.spec.volume_claim_templates.iter().flatten() {
            let name = format!("{}-{}", template.name(), pod.name());
            let Some(claim) = self.claims.iter().find(|claim| claim.name() == name) else { continue };
            let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
            if owners.iter().any(|owner| owner.uid == pod.uid()) {
                continue;
            }
            let owner = OwnerReference {
                api_version: Pod::API_VERSION.to_owned(),
                kind: Pod::KIND.to_owned(),
                name: pod.name().to_owned(),
                uid: pod.uid().to_owned(),
                controller: None,
                block_owner_deletion: Some(true),
            };
            plan.push(Action::strategic(&**claim, "", json!({"metadata": {"ownerReferences": [owner]}})));
        }
    }

    /// Replaces pods of older revisions, highest number first.
    fn roll(&self, plan: &mut Plan) {
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or_default();
        let total = i32::try_from(self.replicas.len()).unwrap_or(i32::MAX);
        let max = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max = max.and_then(|max| scaled(max, total, false)).unwrap_or(1).max(1);
        let start = self.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
        let mut down = 0;
        for (number, pod) in self.replicas.iter().rev() {
            if *number < start + partition || down >= max {
                return;
            }
            let outdated = pod.filter(|pod| pod.label(REVISION_HASH) != Some(self.update.name()) && !pod.is_deleting());
            if let Some(pod) = outdated {
                plan.because(format!("delete pod {}", pod.name()), "its revision is not the wanted one");
                plan.push(self.delete(pod));
                down += 1;
            } else if self.is_unavailable(*pod) {
                down += 1;
            }
        }
    }

    fn requeue_for_availability(&self, plan: &mut Plan) {
        let span = from_seconds(self.spec.min_ready_seconds.unwrap_or_default().into());
        for since in self.pods.iter().filter_map(|pod| pod::ready_since(pod)) {
            if let Some(left) = left(since, span, self.now) {
                plan.requeue(left + Duration::from_millis(1));
            }
        }
    }

    /// Deletes revisions that nothing has, beyond the history limit.
    fn clean_up(&self, revisions: &[&ControllerRevision], plan: &mut Plan) {
        let limit = self.spec.revision_history_limit.and_then(|limit| limit.try_into().ok()).unwrap_or(10_usize);
        let live = |revision: &ControllerRevision| {
            let name = revision.name();
            name == self.current.name()
                || name == self.update.name()
                || self.pods.iter().any(|pod| pod.label(REVISION_HASH) == Some(name))
        };
        let unused: Vec<_> = revisions.iter().filter(|revision| !live(revision)).collect();
        let excess = unused.len().saturating_sub(limit);
        unused.into_iter().take(excess).for_each(|revision| plan.push(Action::delete(*revision)));
    }

    fn sync_status(&self, plan: &mut Plan) {
        let before = self.set.status.clone().unwrap_or_default();
        let count = |matches: &dyn Fn(&Pod) -> bool| {
            i32::try_from(self.pods.iter().filter(|pod| matches(pod)).count()).unwrap_or(i32::MAX)
        };
        let of = |revision: &str| count(&|pod| !pod.is_deleting() && pod.label(REVISION_HASH) == Some(revision));
        let replicas = count(&|_| true);
        let ready = count(&is_running_and_ready);
        let updated = of(self.update.name());
        let mut current = of(self.current.name());
        let mut current_revision = self.current.name();
        let wanted = self.spec.replicas.unwrap_or(1);
        let on_delete =
            self.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
        if !on_delete && updated == wanted && ready == wanted && replicas == wanted {
            current = updated;
            current_revision = self.update.name();
        }
        let nonzero = |count: i32| Some(count).filter(|&count| count != 0);
        let status = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas,
            ready_replicas: nonzero(ready),
            available_replicas: Some(count(&|pod| self.is_available(pod))),
            current_replicas: nonzero(current),
            updated_replicas: nonzero(updated),
            current_revision: Some(current_revision.to_owned()),
            update_revision: Some(self.update.name().to_owned()),
            collision_count: Some(before.collision_count.unwrap_or_default()),
            conditions: before.conditions.clone(),
        };
        if self.set.status.as_ref() != Some(&status) {
            let mut set = self.set.clone();
            set.status = Some(status);
            plan.push(Action::update_status(&set));
        }
    }
}
