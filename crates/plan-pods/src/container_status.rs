//! The statuses of a pod's containers.

use coracle_cri::{ContainerState as State, ContainerStatus as RuntimeStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::resources::{MILLI_CPU_LIMIT_MIN, cpu_shares, is_same_memory, quantity};
use crate::{ContainerKind, ProbeKind, View, is_sidecar};

/// Statuses of one list of containers, in the order of `containers`. `terminal`: nothing will be started again.
pub(crate) fn statuses(
    view: &View<'_>,
    containers: &[Container],
    old: &[ContainerStatus],
    kind: ContainerKind,
    terminal: bool,
) -> Vec<ContainerStatus> {
    let each = containers.iter().map(|container| {
        let old = old.iter().find(|status| status.name == container.name);
        let mut status = one(view, container, old, kind, terminal);
        judge(view, container, old, kind, &mut status);
        status
    });
    let mut all: Vec<ContainerStatus> = each.collect();
    if kind != ContainerKind::Init {
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    all
}

fn one(
    view: &View<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    kind: ContainerKind,
    terminal: bool,
) -> ContainerStatus {
    let mut known = view.runtime.containers.iter().filter(|status| status.metadata.name == container.name);
    let mut status = match known.next() {
        Some(latest) => from_runtime(view, container, latest, old),
        None => without_runtime(view, container, old, kind),
    };
    if let Some(previous) = known.next() {
        status.last_state = Some(ContainerState { terminated: ended(view, previous), ..ContainerState::default() })
            .filter(|state| state.terminated.is_some());
    } else if status.last_state.is_none() {
        status.last_state = inherited_end(&status, old);
    }
    if terminal || (kind == ContainerKind::Ephemeral && status.container_id.is_some()) {
        return status;
    }
    let latest = view.runtime.latest(&container.name);
    let finished_init = kind == ContainerKind::Init
        && !is_sidecar(container)
        && (latest.is_some_and(|latest| latest.state == State::Exited && latest.exit_code == 0)
            || (latest.is_none() && view.any_regular_created()));
    if !finished_init
        && view.wants_start(container)
        && let Some(waiting) = view.waiting.get(&container.name)
    {
        put_on_wait(&mut status, &waiting.reason, &waiting.message);
    }
    status
}

/// The end of the container before, when the runtime no longer has it.
fn inherited_end(status: &ContainerStatus, old: Option<&ContainerStatus>) -> Option<ContainerState> {
    let old = old?;
    let end = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let terminated = match end(&old.state) {
        Some(terminated) if old.container_id != status.container_id => Some(terminated),
        _ => end(&old.last_state),
    };
    terminated.map(|terminated| ContainerState { terminated: Some(terminated), ..ContainerState::default() })
}

fn put_on_wait(status: &mut ContainerStatus, reason: &str, message: &str) {
    if let Some(state) = status.state.take()
        && state.terminated.is_some()
    {
        status.last_state = Some(state);
    }
    status.state = Some(waiting(reason, message));
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    let waiting = ContainerStateWaiting { reason: text(reason), message: text(message) };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// The runtime has no such container (yet, or any more).
fn without_runtime(
    view: &View<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    kind: ContainerKind,
) -> ContainerStatus {
    let reason = if view.init_containers().is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, "")),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return finished_unseen(view, container, kind, status) };
    let old_state = old.state.clone().unwrap_or_default();
    if old_state.terminated.is_some() {
        return old.clone();
    }
    status.restart_count = old.restart_count;
    status.last_state.clone_from(&old.last_state);
    let has_end = status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    if old_state.running.is_some() && !has_end {
        // It ran, and nothing says how it ended.
        let end = ContainerStateTerminated {
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running"
                    .to_owned(),
            ),
            exit_code: 137,
            ..ContainerStateTerminated::default()
        };
        status.last_state = Some(ContainerState { terminated: Some(end), ..ContainerState::default() });
        if !view.is_deleting() {
            status.restart_count += 1;
        }
    }
    finished_unseen(view, container, kind, status)
}

/// An init container that is gone while the pod's containers are there must have ended well.
fn finished_unseen(
    view: &View<'_>,
    container: &Container,
    kind: ContainerKind,
    mut status: ContainerStatus,
) -> ContainerStatus {
    if kind == ContainerKind::Init && !is_sidecar(container) && view.any_regular_created() {
        let end = ContainerStateTerminated {
            reason: Some("Completed".to_owned()),
            message: Some(
                "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
                    .to_owned(),
            ),
            ..ContainerStateTerminated::default()
        };
        status.state = Some(ContainerState { terminated: Some(end), ..ContainerState::default() });
    }
    status
}

fn from_runtime(
    view: &View<'_>,
    container: &Container,
    found: &RuntimeStatus,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let state = match found.state {
        State::Running => {
            let running = ContainerStateRunning { started_at: time(found.started_at) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        State::Created => waiting("", ""),
        State::Exited => ContainerState { terminated: ended(view, found), ..ContainerState::default() },
        State::Unknown => lost(old),
    };
    let attempt = i32::try_from(found.metadata.attempt).unwrap_or(i32::MAX);
    ContainerStatus {
        name: container.name.clone(),
        restart_count: attempt.max(old.map_or(0, |old| old.restart_count)),
        image: found.image.clone(),
        image_id: found.image_ref.clone(),
        container_id: Some(container_id(view, &found.id)),
        state: Some(state),
        volume_mounts: volume_mounts(container),
        resources: reported_resources(container, found),
        allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
        user: found.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.supplemental_groups.clone()).filter(|groups| !groups.is_empty()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

fn lost(old: Option<&ContainerStatus>) -> ContainerState {
    let ran = old.and_then(|old| old.state.as_ref()).is_some_and(|state| state.running.is_some());
    if !ran {
        return waiting("", "");
    }
    let end = ContainerStateTerminated {
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        exit_code: 137,
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(end), ..ContainerState::default() }
}

fn container_id(view: &View<'_>, id: &str) -> String {
    format!("{}://{id}", view.node.runtime_name)
}

fn time(nanos: i64) -> Option<Time> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok().map(Time)).flatten()
}

fn ended(view: &View<'_>, found: &RuntimeStatus) -> Option<ContainerStateTerminated> {
    if !matches!(found.state, State::Exited | State::Unknown) {
        return None;
    }
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    Some(ContainerStateTerminated {
        exit_code: found.exit_code,
        reason: text(&found.reason).or_else(|| text(if found.exit_code == 0 { "Completed" } else { "Error" })),
        message: text(&found.message),
        started_at: time(found.started_at),
        finished_at: time(found.finished_at),
        container_id: Some(container_id(view, &found.id)),
        signal: None,
    })
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let each = container.volume_mounts.as_ref()?.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: (mount.read_only == Some(true)).then(|| {
            let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
            if recursive { "Enabled" } else { "Disabled" }.to_owned()
        }),
        volume_status: None,
    });
    Some(each.collect())
}

/// What was asked, with the limits in force in place of those asked. Source: KEP-1287.
fn reported_resources(container: &Container, found: &RuntimeStatus) -> Option<ResourceRequirements> {
    let mut resources = container.resources.clone().unwrap_or_default();
    resources.claims = None;
    if found.state != State::Running {
        return Some(resources);
    }
    let actual = &found.resources;
    if let Some(limits) = &mut resources.limits {
        if actual.cpu_quota > 0 && actual.cpu_period > 0 {
            let milli = actual.cpu_quota.saturating_mul(1000) / i64::try_from(actual.cpu_period).unwrap_or(i64::MAX);
            let asked = quantity(Some(limits), "cpu").map_or(0, |quantity| quantity.milli_value());
            if limits.contains_key("cpu")
                && (milli > MILLI_CPU_LIMIT_MIN || asked > MILLI_CPU_LIMIT_MIN)
                && milli != asked
            {
                limits.insert("cpu".to_owned(), milli_quantity(milli));
            }
        }
        if actual.memory_limit > 0 && limits.contains_key("memory") {
            let asked = quantity(Some(limits), "memory").map_or(0, |quantity| quantity.value());
            if !is_same_memory(actual.memory_limit, asked) {
                limits.insert("memory".to_owned(), byte_quantity(actual.memory_limit));
            }
        }
    }
    if let Some(requests) = &mut resources.requests
        && let Some(asked) = quantity(Some(requests), "cpu").map(|quantity| quantity.milli_value())
        && actual.cpu_shares > 0
        && cpu_shares(asked) != actual.cpu_shares
    {
        let milli = i64::try_from(actual.cpu_shares.saturating_mul(1000).div_ceil(1024)).unwrap_or(0);
        requests.insert("cpu".to_owned(), milli_quantity(milli));
    }
    Some(resources)
}

fn milli_quantity(milli: i64) -> ApiQuantity {
    ApiQuantity(coracle_api_meta::Quantity::from_millis(milli).to_string())
}

fn byte_quantity(bytes: i64) -> ApiQuantity {
    use coracle_api_meta::quantity::{Format, Quantity};
    ApiQuantity(Quantity::from_units(bytes, Format::BinarySi).to_string())
}

/// Sets `started` and `ready`, which probes decide.
fn judge(
    view: &View<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    kind: ContainerKind,
    status: &mut ContainerStatus,
) {
    let state = status.state.clone().unwrap_or_default();
    let same = old.filter(|old| old.container_id.is_some() && old.container_id == status.container_id);
    let id = status.container_id.as_deref().and_then(|id| id.rsplit("//").next()).unwrap_or_default().to_owned();
    let running = state.running.is_some();
    let started = running
        && match view.probes.get(&id, ProbeKind::Startup) {
            Some(verdict) => verdict,
            None => container.startup_probe.is_none() || same.is_some_and(|old| old.started == Some(true)),
        };
    status.started = Some(started);
    if kind == ContainerKind::Init && !is_sidecar(container) {
        status.ready = state.terminated.as_ref().is_some_and(|end| end.exit_code == 0);
        return;
    }
    if kind == ContainerKind::Ephemeral {
        status.started = None;
        status.ready = false;
        return;
    }
    status.ready = started
        && match view.probes.get(&id, ProbeKind::Readiness) {
            Some(verdict) => verdict,
            None => container.readiness_probe.is_none() || same.is_some_and(|old| old.ready),
        };
}
