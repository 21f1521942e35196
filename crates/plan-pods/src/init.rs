//! The order of init containers and sidecars.

use coracle_cri::{ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::Container;

use crate::plan::{ContainerKind, Kill, Plan, has_changed, may_run_again, plan_update, start_of};
use crate::{KillReason, ProbeKind, View, is_sidecar};

/// What one init container means for those after it.
enum Progress {
    /// The next one may start.
    Done,
    /// Wait for it.
    Busy,
    /// The pod has failed.
    Failed,
}

/// Plans init containers; returns whether the pod is initialized, so that its containers may start.
///
/// Goes backwards: the last one that the runtime knows tells how far the pod is, since those before it may have been
/// collected. Source: kubelet `computeInitContainerActions`.
pub(crate) fn plan_init(view: &View<'_>, plan: &mut Plan) -> bool {
    let all = view.init_containers();
    if all.is_empty() {
        return true;
    }
    let mut initialized = has_initialized(view);
    let mut past = initialized;
    // Sidecars and the next container to start, collected backwards.
    let mut starts = Vec::new();
    for (index, container) in all.iter().enumerate().rev() {
        let Some(status) = view.runtime.latest(&container.name) else {
            if past && is_sidecar(container) {
                starts.push(index);
            }
            continue;
        };
        if past && !is_sidecar(container) {
            continue;
        }
        match step(view, plan, container, status, index, &mut starts) {
            Progress::Failed => {
                plan.kill_pod = true;
                plan.start.clear();
                return false;
            }
            Progress::Done if index + 1 == all.len() => initialized = true,
            Progress::Done if !past => starts.push(index + 1),
            Progress::Done | Progress::Busy => {}
        }
        past = true;
    }
    if !past {
        starts.push(0);
    }
    starts.sort_unstable();
    starts.dedup();
    let starts = starts.iter().filter_map(|&index| all.get(index));
    plan.start.extend(starts.map(|container| start_of(view, ContainerKind::Init, container)));
    initialized
}

/// A container of the pod has been made in the present sandbox, so initialization lies behind.
fn has_initialized(view: &View<'_>) -> bool {
    let Some(sandbox) = view.runtime.sandboxes.first() else { return false };
    let regular = |name: &str| view.containers().iter().any(|container| container.name == name);
    view.runtime.in_sandbox(&sandbox.id).any(|status| regular(&status.metadata.name))
}

fn step(
    view: &View<'_>,
    plan: &mut Plan,
    container: &Container,
    status: &ContainerStatus,
    index: usize,
    starts: &mut Vec<usize>,
) -> Progress {
    match status.state {
        ContainerState::Created => {
            starts.push(index);
            Progress::Busy
        }
        ContainerState::Running if is_sidecar(container) => sidecar(view, plan, container, status, index, starts),
        ContainerState::Running => {
            plan_update(view, plan, container, status);
            Progress::Busy
        }
        ContainerState::Exited if is_sidecar(container) => {
            starts.push(index);
            Progress::Busy
        }
        ContainerState::Exited if status.exit_code == 0 && status.reason != "OOMKilled" => Progress::Done,
        ContainerState::Exited if may_run_again(view, container, status.exit_code) => {
            starts.push(index);
            Progress::Busy
        }
        ContainerState::Unknown if is_sidecar(container) || view.restarts_on_failure() => {
            let message = "Init container is in \"unknown\" state, try killing it before restart".to_owned();
            push_kill(plan, container, status, message, KillReason::Other);
            starts.push(index);
            Progress::Busy
        }
        ContainerState::Exited | ContainerState::Unknown => Progress::Failed,
    }
}

fn sidecar(
    view: &View<'_>,
    plan: &mut Plan,
    container: &Container,
    status: &ContainerStatus,
    index: usize,
    starts: &mut Vec<usize>,
) -> Progress {
    let name = &container.name;
    if container.startup_probe.is_some() {
        match view.probes.get(&status.id, ProbeKind::Startup) {
            Some(true) => {}
            None => return Progress::Busy,
            Some(false) => {
                let message = format!("Init container {name} failed startup probe");
                push_kill(plan, container, status, message, KillReason::StartupProbe);
                starts.push(index);
                return Progress::Busy;
            }
        }
    }
    if has_changed(container, status) {
        let message = format!("Init container {name} definition changed");
        push_kill(plan, container, status, message, KillReason::Other);
        starts.push(index);
    } else if view.probes.get(&status.id, ProbeKind::Liveness) == Some(false) {
        let message = format!("Init container {name} failed liveness probe");
        push_kill(plan, container, status, message, KillReason::LivenessProbe);
        starts.push(index);
    } else {
        plan_update(view, plan, container, status);
    }
    Progress::Done
}

fn push_kill(plan: &mut Plan, container: &Container, status: &ContainerStatus, message: String, reason: KillReason) {
    plan.kill.push(Kill { id: status.id.clone(), name: container.name.clone(), message, reason });
}
