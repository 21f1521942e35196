//! The status of a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{ContainerKind, View, conditions::conditions, container_status::statuses, phase::phase, qos::qos_class};

/// Why a pod ended other than by its containers: an eviction, a deadline, a refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    pub reason: String,
    pub message: String,
    /// Instead of what the pod asks for.
    pub grace_seconds: Option<i64>,
    /// It is the node's wish: the pod shows it by the condition `DisruptionTarget` (KEP-3329).
    pub disrupted: bool,
}

/// The whole status. `old` is what was reported last; `terminal`: nothing of the pod will be started again; `ended`
/// makes the pod `Failed` whatever its containers did.
#[must_use]
pub fn pod_status(view: &View<'_>, old: &PodStatus, terminal: bool, ended: Option<&Ended>) -> PodStatus {
    let api = view.pod.status.clone().unwrap_or_default();
    let mut new = PodStatus {
        qos_class: Some(qos_class(view.pod).as_str().to_owned()),
        observed_generation: view.pod.metadata.generation,
        start_time: old.start_time.clone().or(api.start_time).or(Some(Time(view.now))),
        nominated_node_name: api.nominated_node_name,
        resource_claim_statuses: api.resource_claim_statuses,
        extended_resource_claim_status: api.extended_resource_claim_status,
        node_allocatable_resource_claim_statuses: api.node_allocatable_resource_claim_statuses,
        ..PodStatus::default()
    };
    set_addresses(view, old, &mut new);
    set_containers(view, old, terminal, &mut new);
    set_phase(view, old, terminal, &mut new);
    if let Some(ended) = ended
        && (terminal || new.phase.as_deref() == Some("Failed"))
    {
        new.phase = Some("Failed".to_owned());
        new.reason = Some(ended.reason.clone());
        new.message = Some(ended.message.clone()).filter(|message| !message.is_empty());
    }
    new.conditions = Some(conditions(view, old, &new));
    if let Some(ended) = ended.filter(|ended| ended.disrupted) {
        let message = match ended.reason.as_str() {
            "Preempting" => "Pod was preempted by Kubelet to accommodate a critical pod.",
            _ => &ended.message,
        };
        crate::conditions::disrupt(view, &mut new, message);
    }
    set_resources(view, &mut new);
    new
}

/// The status of a pod that the node did not take. Nothing of it ever ran. `old` is what the API has.
#[must_use]
pub fn rejected_status(pod: &Pod, old: &PodStatus, ended: &Ended, now: Timestamp) -> PodStatus {
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(ended.reason.clone()),
        message: Some(ended.message.clone()),
        qos_class: Some(qos_class(pod).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        start_time: old.start_time.clone().or(Some(Time(now))),
        conditions: old.conditions.clone(),
        ..PodStatus::default()
    }
}

fn set_addresses(view: &View<'_>, old: &PodStatus, new: &mut PodStatus) {
    let node = &view.node.ips;
    new.host_ip = node.first().cloned();
    new.host_ips =
        Some(node.iter().map(|ip| HostIP { ip: ip.clone() }).collect::<Vec<_>>()).filter(|ips| !ips.is_empty());
    let ips = if view.host_network() {
        node.clone()
    } else {
        view.runtime.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    };
    if ips.is_empty() {
        // An ended pod keeps the address it had.
        new.pod_ip.clone_from(&old.pod_ip);
        new.pod_ips.clone_from(&old.pod_ips);
        return;
    }
    new.pod_ip = ips.first().cloned();
    new.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
}

fn set_containers(view: &View<'_>, old: &PodStatus, terminal: bool, new: &mut PodStatus) {
    let list = |containers: &[Container], old: &Option<Vec<_>>, kind| {
        let all = statuses(view, containers, old.as_deref().unwrap_or_default(), kind, terminal);
        Some(all).filter(|all| !all.is_empty())
    };
    new.init_container_statuses = list(view.init_containers(), &old.init_container_statuses, ContainerKind::Init);
    new.container_statuses = list(view.containers(), &old.container_statuses, ContainerKind::Regular);
    let ephemeral: Vec<Container> = view.ephemeral_containers().iter().map(as_container).collect();
    new.ephemeral_container_statuses = list(&ephemeral, &old.ephemeral_container_statuses, ContainerKind::Ephemeral);
}

/// An ephemeral container is a container with a target.
fn as_container(container: &EphemeralContainer) -> Container {
    Container { name: container.name.clone(), image: container.image.clone(), ..Container::default() }
}

fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn set_phase(view: &View<'_>, old: &PodStatus, terminal: bool, new: &mut PodStatus) {
    let all: Vec<_> = [&new.init_container_statuses, &new.container_statuses]
        .into_iter()
        .flat_map(|list| list.as_deref().unwrap_or_default())
        .collect();
    let sandbox = view.runtime.sandboxes.first();
    let regular = |name: &str| view.containers().iter().any(|container| container.name == name);
    let initialized = sandbox
        .is_some_and(|sandbox| view.runtime.in_sandbox(&sandbox.id).any(|status| regular(&status.metadata.name)));
    let is_static = coracle_api_types::Object::annotation(view.pod, "kubernetes.io/config.source")
        .is_some_and(|source| source != "api");
    let computed = phase(view.spec(), &all, terminal, initialized, is_static);
    let api = view.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    // A phase never goes back from its end.
    let phase = [api, old.phase.as_deref()].into_iter().flatten().find(|phase| is_terminal(Some(phase)));
    let phase = phase.unwrap_or(computed);
    // Nor is the end told while something still runs.
    let told = if is_terminal(Some(phase)) && view.runtime.has_running() && !is_terminal(old.phase.as_deref()) {
        old.phase.as_deref().unwrap_or("Running")
    } else {
        phase
    };
    if Some(told) == old.phase.as_deref() {
        new.reason.clone_from(&old.reason);
        new.message.clone_from(&old.message);
    }
    new.phase = Some(told.to_owned());
}

fn set_resources(view: &View<'_>, new: &mut PodStatus) {
    let Some(resources) = &view.spec().resources else { return };
    let mut shown = resources.clone();
    shown.claims = None;
    new.resources = Some(shown);
    new.allocated_resources = Some(crate::resources::pod_requests(view.pod));
}
