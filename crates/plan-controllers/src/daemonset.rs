//! Daemon sets: one pod on every node that takes it. Source: `pkg/controller/daemon`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::owner::{self, Claim, claim, controller_ref};
use coracle_plan_core::select::{self, compile};
use coracle_plan_core::time::{from_seconds, left, since};
use coracle_plan_core::{Action, EventKind, ObjectRef, Plan, Report, node, pod};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::history::{self, REVISION_HASH};
use crate::template::{self, scaled};

/// Label that old clients look for.
const TEMPLATE_GENERATION: &str = "pod-template-generation";
const TEMPLATE_GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
/// A failed pod is replaced no sooner than this after it was made.
const FAILED_AGE_MIN: Duration = Duration::from_secs(1);
const BURST_PODS: usize = 250;

/// What is known about one daemon set.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
    /// Revisions of the namespace.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// The name of a new revision was taken when the last turn tried to make it.
    pub name_taken: bool,
}

struct Turn<'a> {
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    owner: OwnerReference,
    now: Timestamp,
    nodes: &'a [Arc<Node>],
    /// Pods of the set by the node they are for.
    by_node: BTreeMap<String, Vec<&'a Arc<Pod>>>,
}

#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let Some(spec) = &view.set.spec else { return plan };
    let selector = compile(&spec.selector);
    if selector.is_everything() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        plan.push(Action::event(view.set, EventKind::Warning, "SelectingAll", message));
        return plan;
    }
    if view.set.is_deleting() {
        return plan;
    }
    let owner = controller_ref(view.set);
    let mut by_node: BTreeMap<String, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in view.pods {
        let matches = select::matches(&selector, pod.metadata.labels.as_ref());
        match claim(&**pod, &view.set.metadata, matches) {
            Claim::Owned => by_node.entry(intended_node(pod)).or_default().push(pod),
            Claim::Adopt => plan.push(owner::adopt(&**pod, &owner)),
            Claim::Release => plan.push(owner::release(&**pod, &owner.uid)),
            Claim::Ignore => {}
        }
    }
    let turn = Turn { set: view.set, spec, owner, now, nodes: view.nodes, by_node };
    let mut revisions: Vec<&ControllerRevision> = Vec::new();
    for revision in view.revisions {
        let matches = select::matches(&selector, revision.metadata.labels.as_ref());
        match claim(&**revision, &view.set.metadata, matches) {
            Claim::Owned => revisions.push(revision),
            Claim::Adopt => plan.push(owner::adopt(&**revision, &turn.owner)),
            _ => {}
        }
    }
    if !plan.is_nothing() {
        return plan;
    }
    revisions.sort_by_key(|revision| (revision.revision, revision.name().to_owned()));
    let Some(hash) = turn.sync_revision(&revisions, view.name_taken, &mut plan) else { return plan };
    turn.manage(&hash, &mut plan);
    if plan.is_nothing() && !is_on_delete(spec) {
        turn.roll(&hash, &mut plan);
    }
    if plan.is_nothing() {
        turn.clean_up(&revisions, &hash, &mut plan);
    }
    turn.sync_status(&hash, &mut plan);
    plan
}

fn is_on_delete(spec: &DaemonSetSpec) -> bool {
    spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
}

/// Where the pod is, or which node its affinity names.
fn intended_node(pod: &Pod) -> String {
    let name = pod::node_name(pod);
    if !name.is_empty() {
        return name.to_owned();
    }
    let required = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let fields =
        required.into_iter().flat_map(|own| &own.node_selector_terms).flat_map(|term| term.match_fields.iter());
    let named = fields.flatten().find(|field| field.key == "metadata.name");
    named.and_then(|field| field.values.as_ref()?.first().cloned()).unwrap_or_default()
}

fn age(pod: &Pod) -> (Option<Timestamp>, String) {
    (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.name().to_owned())
}

/// The template as it runs: with the tolerations of daemons and its revision.
fn daemon_template(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str) -> PodTemplateSpec {
    let mut template = template::with_label(&spec.template, REVISION_HASH, hash);
    if let Some(generation) = set.annotation(TEMPLATE_GENERATION_ANNOTATION) {
        template = template::with_label(&template, TEMPLATE_GENERATION, generation);
    }
    add_tolerations(template.spec.get_or_insert_default());
    template
}

fn add_tolerations(spec: &mut PodSpec) {
    let mut wanted = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        wanted.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// Names the node in the pod's affinity, beside what else is required there.
fn for_node(spec: &mut PodSpec, node: &str) {
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity = spec.affinity.get_or_insert_with(Affinity::default).node_affinity.get_or_insert_default();
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), ..NodeSelectorTerm::default() };
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

impl<'a> Turn<'a> {
    /// Hash of the current revision. `None` when the plan must be carried out first.
    fn sync_revision(&self, revisions: &[&ControllerRevision], name_taken: bool, plan: &mut Plan) -> Option<String> {
        let data = history::data(&self.spec.template);
        let highest = revisions.last().map(|revision| revision.revision).unwrap_or_default();
        let collisions = self.set.status.as_ref().and_then(|status| status.collision_count);
        let current = revisions.iter().rfind(|revision| history::restores(revision, &data));
        if let Some(current) = current {
            if current.revision < highest {
                let mut renumbered = ControllerRevision::clone(current);
                renumbered.revision = highest + 1;
                plan.push(Action::update(&renumbered));
                return None;
            }
            return current.label(REVISION_HASH).map(str::to_owned);
        }
        if name_taken {
            let mut set = self.set.clone();
            *set.status.get_or_insert_default().collision_count.get_or_insert_default() += 1;
            plan.push(Action::update_status(&set));
            return None;
        }
        let hash = template::hash(&self.spec.template, collisions);
        let labels = template::labels(&self.spec.template);
        let revision = history::revision(self.set, labels, data, highest + 1, (REVISION_HASH, &hash));
        plan.because(format!("make revision {}", revision.name()), "the template is not in the history");
        plan.push(Action::create(&revision));
        None
    }

    /// Whether a pod should be on the node, and whether one that is there may stay.
    fn should_run(&self, node: &Node) -> (bool, bool) {
        let mut spec = self.spec.template.spec.clone().unwrap_or_default();
        add_tolerations(&mut spec);
        let named = spec.node_name.as_deref().unwrap_or_default();
        if (!named.is_empty() && named != node.name()) || !node::affinity_allows(&spec, node) {
            return (false, false);
        }
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let repels = |effect: &str| {
            node::taints(node).iter().any(|taint| taint.effect == effect && !node::tolerates(tolerations, taint))
        };
        if repels("NoExecute") { (false, false) } else { (!repels("NoSchedule"), true) }
    }

    fn count_of(&self, value: Option<&IntOrString>, total: i32) -> usize {
        value.and_then(|value| scaled(value, total, true)).and_then(|count| count.try_into().ok()).unwrap_or_default()
    }

    /// Surge and unavailability that are allowed.
    fn bounds(&self, desired: usize) -> (usize, usize) {
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let total = i32::try_from(desired).unwrap_or(i32::MAX);
        let surge = self.count_of(rolling.and_then(|rolling| rolling.max_surge.as_ref()), total);
        let one = IntOrString::Int(1);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let default = if surge == 0 { Some(&one) } else { None };
        let unavailable = self.count_of(unavailable.or(default), total);
        (surge, if surge == 0 { unavailable.max(1) } else { unavailable })
    }

    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or_default()
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod::is_available(pod, self.min_ready(), self.now)
    }

    fn pods_on(&self, node: &str) -> &[&'a Arc<Pod>] {
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Creates what is missing and deletes what should not be.
    fn manage(&self, hash: &str, plan: &mut Plan) {
        let surges = self.bounds(1).0 > 0;
        let mut create = Vec::new();
        let mut delete = Vec::new();
        for node in self.nodes {
            let (run, stay) = self.should_run(node);
            let pods = self.pods_on(node.name());
            if run && pods.is_empty() {
                create.push(node.name().to_owned());
            } else if stay {
                self.prune(node, pods, (surges, hash), &mut delete, plan);
            } else {
                delete.extend(pods.iter().copied().filter(|pod| !pod.is_deleting()));
            }
        }
        for (name, pods) in &self.by_node {
            // The scheduler can do nothing for a pod of a node that is gone.
            if !self.nodes.iter().any(|node| node.name() == name) {
                delete.extend(pods.iter().copied().filter(|pod| pod::node_name(pod).is_empty() && !pod.is_deleting()));
            }
        }
        self.change(delete, create, hash, plan);
    }

    fn prune(
        &self,
        node: &Node,
        pods: &[&'a Arc<Pod>],
        (surges, hash): (bool, &str),
        delete: &mut Vec<&'a Arc<Pod>>,
        plan: &mut Plan,
    ) {
        let mut running = Vec::new();
        for pod in pods.iter().copied().filter(|pod| !pod.is_deleting()) {
            let about = format!("{}/{} on node {}", self.set.namespace(), pod.name(), node.name());
            match pod::phase(pod) {
                "Failed" => {
                    let made = pod.metadata.creation_timestamp.as_ref().map_or(self.now, |time| time.0);
                    if since(made, self.now) < FAILED_AGE_MIN {
                        plan.requeue(FAILED_AGE_MIN);
                        continue;
                    }
                    let message = format!("Found failed daemon pod {about}, will try to kill it");
                    plan.push(Action::event(self.set, EventKind::Warning, "FailedDaemonPod", message));
                    delete.push(pod);
                }
                "Succeeded" => {
                    let message = format!("Found succeeded daemon pod {about}, will try to delete it");
                    plan.push(Action::event(self.set, EventKind::Normal, "SucceededDaemonPod", message));
                    delete.push(pod);
                }
                _ => running.push(pod),
            }
        }
        running.sort_by_key(|pod| age(pod));
        if !surges {
            // The oldest stays.
            delete.extend(running.into_iter().skip(1));
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| pod.label(REVISION_HASH) == Some(hash));
        delete.extend(new.into_iter().skip(1));
        delete.extend(old.into_iter().skip(1));
    }

    fn change(&self, delete: Vec<&Arc<Pod>>, create: Vec<String>, hash: &str, plan: &mut Plan) {
        let about = ObjectRef::of(self.set);
        let template = daemon_template(self.set, self.spec, hash);
        for node in create.into_iter().take(BURST_PODS) {
            let mut pod = template::pod(&template, self.set.namespace(), &self.owner);
            for_node(pod.spec.get_or_insert_default(), &node);
            plan.push(Action::create(&pod).reported(Report::pod_create(about.clone())));
        }
        for pod in delete.into_iter().take(BURST_PODS) {
            plan.push(Action::delete(&**pod).reported(Report::pod_delete(about.clone())));
        }
    }

    fn desired(&self) -> usize {
        self.nodes.iter().filter(|node| self.should_run(node).0).count()
    }

    /// Replaces pods of older revisions within the bounds.
    fn roll(&self, hash: &str, plan: &mut Plan) {
        let (surge, unavailable) = self.bounds(self.desired());
        if surge == 0 { self.roll_in_place(hash, unavailable, plan) } else { self.roll_with_surge(hash, surge, plan) }
    }

    /// The newest and the older pod of a node that are not being deleted.
    fn pair(&self, pods: &[&'a Arc<Pod>], hash: &str) -> (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>) {
        let mut live = pods.iter().copied().filter(|pod| !pod.is_deleting());
        let new = live.clone().find(|pod| pod.label(REVISION_HASH) == Some(hash));
        (new, live.find(|pod| pod.label(REVISION_HASH) != Some(hash)))
    }

    fn roll_in_place(&self, hash: &str, max: usize, plan: &mut Plan) {
        let mut down = 0;
        let mut broken = Vec::new();
        let mut candidates = Vec::new();
        for pods in self.by_node.values() {
            match self.pair(pods, hash) {
                (None, None) | (Some(_), Some(_)) => down += 1,
                (Some(new), None) => down += usize::from(!self.is_available(new)),
                (None, Some(old)) if !self.is_available(old) => {
                    broken.push(old);
                    down += 1;
                }
                (None, Some(old)) => candidates.push(old),
            }
        }
        broken.extend(candidates.into_iter().take(max.saturating_sub(down)));
        self.change(broken, Vec::new(), hash, plan);
    }

    fn roll_with_surge(&self, hash: &str, max: usize, plan: &mut Plan) {
        let mut surging = 0;
        let (mut delete, mut create, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        for (node, pods) in &self.by_node {
            match self.pair(pods, hash) {
                (Some(new), Some(old)) if self.is_available(new) => delete.push(old),
                (Some(_), Some(_)) => surging += 1,
                (None, Some(old)) => {
                    let runs =
                        self.nodes.iter().find(|own| own.name() == node).is_some_and(|own| self.should_run(own).0);
                    match (self.is_available(old), runs) {
                        (false, false) => delete.push(old),
                        (false, true) => create.push(node.clone()),
                        (true, true) => candidates.push(node.clone()),
                        (true, false) => {}
                    }
                }
                _ => {}
            }
        }
        create.extend(candidates.into_iter().take(max.saturating_sub(surging)));
        self.change(delete, create, hash, plan);
    }

    /// Deletes revisions that no pod has, beyond the history limit.
    fn clean_up(&self, revisions: &[&ControllerRevision], hash: &str, plan: &mut Plan) {
        let limit = self.spec.revision_history_limit.and_then(|limit| limit.try_into().ok()).unwrap_or(10_usize);
        let live: Vec<&str> = self.by_node.values().flatten().filter_map(|pod| pod.label(REVISION_HASH)).collect();
        let unused = revisions.iter().filter(|revision| {
            let own = revision.label(REVISION_HASH).unwrap_or_default();
            own != hash && !live.contains(&own)
        });
        let unused: Vec<_> = unused.collect();
        let excess = unused.len().saturating_sub(limit);
        unused.into_iter().take(excess).for_each(|revision| plan.push(Action::delete(*revision)));
    }

    fn sync_status(&self, hash: &str, plan: &mut Plan) {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: self.set.status.as_ref().and_then(|status| status.collision_count),
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for node in self.nodes {
            let pods = self.pods_on(node.name());
            if !self.should_run(node).0 {
                status.number_misscheduled += i32::from(!pods.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            let newest = pods.iter().max_by_key(|pod| (pod::is_ready(pod), age(pod)));
            let Some(newest) = newest else { continue };
            status.current_number_scheduled += 1;
            if pod::is_ready(newest) {
                status.number_ready += 1;
                available += i32::from(self.is_available(newest));
                self.requeue_for(newest, plan);
            }
            updated += i32::from(
                pods.iter().max_by_key(|pod| age(pod)).is_some_and(|pod| pod.label(REVISION_HASH) == Some(hash)),
            );
        }
        let nonzero = |count: i32| Some(count).filter(|&count| count != 0);
        status.updated_number_scheduled = nonzero(updated);
        status.number_available = nonzero(available);
        status.number_unavailable = nonzero(status.desired_number_scheduled - available);
        if self.set.status.as_ref() != Some(&status) {
            let mut set = self.set.clone();
            set.status = Some(status);
            plan.push(Action::update_status(&set));
        }
    }

    fn requeue_for(&self, pod: &Pod, plan: &mut Plan) {
        let span = from_seconds(self.min_ready().into());
        if let Some(left) = pod::ready_since(pod).and_then(|since| left(since, span, self.now)) {
            plan.requeue(left + Duration::from_millis(1));
        }
    }
}
