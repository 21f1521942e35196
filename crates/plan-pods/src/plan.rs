//! The next steps for a pod that lives.

use std::time::Duration;

use coracle_cri::{ContainerState, ContainerStatus, LinuxContainerResources, SandboxState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use crate::{KillReason, ProbeKind, View, names::pod_text, resources, restart::should_restart};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerKind {
    Ephemeral,
    Init,
    Regular,
}

/// What to do now, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Stop all containers and sandboxes.
    pub kill_pod: bool,
    pub kill: Vec<Kill>,
    /// Ids of containers to remove, the first one first; their logs stay.
    pub remove: Vec<String>,
    /// Attempt number of the sandbox to make.
    pub create_sandbox: Option<u32>,
    /// The pod had a sandbox before, which is gone or broken.
    pub sandbox_changed: bool,
    pub update: Vec<Update>,
    /// One after the other; the failure of an init container that is no sidecar ends the row.
    pub start: Vec<Start>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    /// For the event.
    pub message: String,
    pub reason: KillReason,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub kind: ContainerKind,
    pub name: String,
    /// Counts the restarts.
    pub attempt: u32,
    /// Key and time of the last end, to raise the delay by.
    pub backoff_key: String,
    pub ended: Option<Timestamp>,
    /// Not yet: until when, and the message for people.
    pub hold: Option<(Timestamp, String)>,
}

/// New limits for a running container.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub id: String,
    pub name: String,
    pub resources: LinuxContainerResources,
}

impl Plan {
    /// Nothing to do before something happens.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.kill_pod
            && self.kill.is_empty()
            && self.remove.is_empty()
            && self.create_sandbox.is_none()
            && self.update.is_empty()
            && self.start.iter().all(|start| start.hold.is_some())
    }

    /// When a delay ends, so that the plan changes by itself.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.start.iter().filter_map(|start| start.hold.as_ref().map(|(until, _)| *until)).min()
    }
}

/// Identifies what of a container's spec needs a restart when it changes: its name and image.
#[must_use]
pub fn spec_hash(container: &Container) -> String {
    // FNV-1a, 32 bits.
    let mut hash: u32 = 0x811c_9dc5;
    let parts = [container.name.as_str(), "\0", container.image.as_deref().unwrap_or_default()];
    for byte in parts.iter().flat_map(|part| part.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}

/// Annotation of containers that carries [`spec_hash`].
pub(crate) const HASH_ANNOTATION: &str = "io.kubernetes.container.hash";

/// Decides. Source: kubelet `computePodActions`.
#[must_use]
pub fn plan(view: &View<'_>) -> Plan {
    let sandbox = SandboxNeed::of(view);
    if view.restarts_all() && sandbox == SandboxNeed::Fine {
        return plan_reset(view);
    }
    let mut plan = Plan::default();
    if let SandboxNeed::New { attempt, had } = sandbox {
        plan_sandbox(view, &mut plan, attempt, had);
        return plan;
    }
    for container in view.ephemeral_containers() {
        if view.runtime.latest(&container.name).is_none() {
            plan.start.push(fresh(ContainerKind::Ephemeral, &container.name));
        }
    }
    let initialized = crate::init::plan_init(view, &mut plan);
    if plan.kill_pod || !initialized {
        return plan;
    }
    plan_regular(view, &mut plan);
    plan
}

#[derive(Debug, PartialEq, Eq)]
enum SandboxNeed {
    Fine,
    New { attempt: u32, had: bool },
}

impl SandboxNeed {
    fn of(view: &View<'_>) -> Self {
        let Some(latest) = view.runtime.sandboxes.first() else { return Self::New { attempt: 0, had: false } };
        let ready = view.runtime.sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Ready).count();
        let without_address = !view.host_network() && latest.ips.is_empty();
        if ready == 1 && latest.state == SandboxState::Ready && !without_address {
            return Self::Fine;
        }
        Self::New { attempt: latest.metadata.attempt + 1, had: true }
    }
}

/// Whether a sandbox is there in which containers can be started.
pub(crate) fn sandbox_is_ready(view: &View<'_>) -> bool {
    SandboxNeed::of(view) == SandboxNeed::Fine
}

/// A pod without a usable sandbox begins anew, unless nothing is left to run in one.
fn plan_sandbox(view: &View<'_>, plan: &mut Plan, attempt: u32, had: bool) {
    // What is left of the broken sandbox has to go first.
    plan.kill_pod = had && (view.runtime.has_running() || view.runtime.ready_sandbox().is_some());
    plan.sandbox_changed = had;
    if !view.restarts_on_failure() && attempt != 0 && !view.runtime.containers.is_empty() {
        plan.kill_pod = true;
        plan.sandbox_changed = false;
        return;
    }
    let runnable: Vec<&Container> =
        view.containers().iter().filter(|container| !has_succeeded(view, container)).collect();
    if runnable.is_empty() && view.any_regular_created() {
        plan.kill_pod = true;
        plan.sandbox_changed = false;
        return;
    }
    plan.create_sandbox = Some(attempt);
    plan.remove = view.init_containers().iter().flat_map(|init| ids_of(view, &init.name)).collect();
    if plan.kill_pod {
        // Containers are started by the next plan, when the old sandbox is gone and statuses are known.
        return;
    }
    match view.init_containers().first() {
        Some(first) => plan.start.push(start_of(view, ContainerKind::Init, first)),
        None => plan.start.extend(runnable.iter().map(|container| start_of(view, ContainerKind::Regular, container))),
    }
}

fn ids_of(view: &View<'_>, name: &str) -> Vec<String> {
    let named = view.runtime.containers.iter().filter(|container| container.metadata.name == name);
    named.filter(|container| container.state != ContainerState::Running).map(|container| container.id.clone()).collect()
}

fn has_succeeded(view: &View<'_>, container: &Container) -> bool {
    let policy = container.restart_policy.as_deref().or(view.spec().restart_policy.as_deref());
    let Some(status) = view.runtime.latest(&container.name) else { return false };
    policy == Some("OnFailure") && status.state == ContainerState::Exited && status.exit_code == 0
}

/// All containers are taken away, so that the pod begins anew in its sandbox.
fn plan_reset(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let is_source = |container: &Container, status: &ContainerStatus| {
        status.state == ContainerState::Exited
            && crate::restart::matching_rule(container, status.exit_code)
                .is_some_and(|rule| rule.action == "RestartAllContainers")
    };
    let mut last = Vec::new();
    for container in view.containers().iter().rev().chain(view.init_containers().iter().rev()) {
        let Some(status) = view.runtime.latest(&container.name) else { continue };
        if status.state == ContainerState::Running {
            let message = format!("Stopping container {}", container.name);
            plan.kill.push(Kill {
                id: status.id.clone(),
                name: container.name.clone(),
                message,
                reason: KillReason::Other,
            });
        }
        let ids = view.runtime.containers.iter().filter(|other| other.metadata.name == container.name);
        let ids = ids.map(|other| other.id.clone());
        if is_source(container, status) { last.extend(ids) } else { plan.remove.extend(ids) }
    }
    plan.remove.extend(last);
    plan
}

fn plan_regular(view: &View<'_>, plan: &mut Plan) {
    let mut kept = 0;
    let mut started = 0;
    for container in view.containers() {
        let status = view.runtime.latest(&container.name);
        let Some(status) = status.filter(|status| status.state == ContainerState::Running) else {
            if view.wants_start(container) {
                kill_unknown(plan, status, container);
                plan.start.push(start_of(view, ContainerKind::Regular, container));
                started += 1;
            }
            continue;
        };
        let Some((mut message, reason, restart)) = why_kill(view, container, status) else {
            kept += 1;
            plan_update(view, plan, container, status);
            continue;
        };
        if restart {
            message.push_str(", will be restarted");
            started += 1;
        }
        plan.kill.push(Kill { id: status.id.clone(), name: container.name.clone(), message, reason });
    }
    if kept == 0 && started == 0 {
        plan.kill_pod = true;
        plan.start.retain(|start| start.kind != ContainerKind::Init);
    }
}

fn kill_unknown(plan: &mut Plan, status: Option<&ContainerStatus>, container: &Container) {
    let Some(status) = status.filter(|status| status.state == ContainerState::Unknown) else { return };
    plan.kill.push(Kill {
        id: status.id.clone(),
        name: container.name.clone(),
        message: "Container is in \"unknown\" state, try killing it before restart".to_owned(),
        reason: KillReason::Other,
    });
}

/// Message, reason, and whether it is started again.
fn why_kill(view: &View<'_>, container: &Container, status: &ContainerStatus) -> Option<(String, KillReason, bool)> {
    let name = &container.name;
    if has_changed(container, status) {
        return Some((format!("Container {name} definition changed"), KillReason::Other, true));
    }
    let policy = container.restart_policy.as_deref().or(view.spec().restart_policy.as_deref());
    let restart = policy != Some("Never");
    if view.probes.get(&status.id, ProbeKind::Liveness) == Some(false) {
        return Some((format!("Container {name} failed liveness probe"), KillReason::LivenessProbe, restart));
    }
    if view.probes.get(&status.id, ProbeKind::Startup) == Some(false) {
        return Some((format!("Container {name} failed startup probe"), KillReason::StartupProbe, restart));
    }
    if needs_restart_to_resize(view, container, status) {
        return Some((format!("Container {name} resize requires restart"), KillReason::Other, true));
    }
    None
}

pub(crate) fn has_changed(container: &Container, status: &ContainerStatus) -> bool {
    status.annotations.get(HASH_ANNOTATION).is_some_and(|hash| *hash != spec_hash(container))
}

fn wanted(view: &View<'_>, container: &Container) -> LinuxContainerResources {
    resources::container_resources(view.pod, container, view.node.memory_capacity)
}

fn needs_restart_to_resize(view: &View<'_>, container: &Container, status: &ContainerStatus) -> bool {
    let wanted = wanted(view, container);
    if !resources::differs(&status.resources, &wanted) {
        return false;
    }
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    let restarts = |name: &str| {
        policies.iter().any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    let memory_differs = !resources::is_same_memory(status.resources.memory_limit.max(0), wanted.memory_limit.max(0));
    let cpu_differs = status.resources.cpu_quota.max(0) != wanted.cpu_quota.max(0)
        || status.resources.cpu_shares != wanted.cpu_shares;
    (memory_differs && restarts("memory")) || (cpu_differs && restarts("cpu"))
}

pub(crate) fn plan_update(view: &View<'_>, plan: &mut Plan, container: &Container, status: &ContainerStatus) {
    let resources = wanted(view, container);
    if resources::differs(&status.resources, &resources) {
        let resources = resources::lifting(resources, &status.resources);
        plan.update.push(Update { id: status.id.clone(), name: container.name.clone(), resources });
    }
}

fn fresh(kind: ContainerKind, name: &str) -> Start {
    Start { kind, name: name.to_owned(), attempt: 0, backoff_key: String::new(), ended: None, hold: None }
}

/// A start, now or after the delay that the last end calls for.
pub(crate) fn start_of(view: &View<'_>, kind: ContainerKind, container: &Container) -> Start {
    let mut start = fresh(kind, &container.name);
    if let Some(latest) = view.runtime.latest(&container.name) {
        start.attempt = latest.metadata.attempt + 1;
    }
    let Some(exited) = view.runtime.latest_exited(&container.name) else { return start };
    start.backoff_key = format!("{}_{}", container.name, spec_hash(container));
    let ended = Timestamp::from_nanosecond(i128::from(exited.finished_at)).unwrap_or(view.now);
    start.ended = Some(ended);
    if let Some((until, delay)) = view.backoff.hold(&start.backoff_key, ended, view.now) {
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            duration_text(delay),
            container.name,
            pod_text(view.pod)
        );
        start.hold = Some((until, message));
    }
    start
}

/// Go's way to write whole seconds: `10s`, `1m20s`, `5m0s`.
fn duration_text(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

/// Whether an exited init container failed for good.
pub(crate) fn may_run_again(view: &View<'_>, container: &Container, exit_code: i32) -> bool {
    !view.is_deleting() && should_restart(container, view.spec().restart_policy.as_deref(), exit_code)
}
