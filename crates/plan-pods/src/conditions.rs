//! The conditions of a pod that the kubelet owns.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{View, is_sidecar};

const READY_TO_START: &str = "PodReadyToStartContainers";
const INITIALIZED: &str = "Initialized";
const READY: &str = "Ready";
const CONTAINERS_READY: &str = "ContainersReady";
const SCHEDULED: &str = "PodScheduled";
const RESIZE_PENDING: &str = "PodResizePending";
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
const ALL_RESTARTING: &str = "AllContainersRestarting";

/// Whether the kubelet reports this condition.
#[must_use]
pub fn is_kubelet_condition(kind: &str) -> bool {
    is_owned(kind) || kind == "DisruptionTarget"
}

fn is_owned(kind: &str) -> bool {
    matches!(
        kind,
        READY_TO_START
            | INITIALIZED
            | READY
            | CONTAINERS_READY
            | SCHEDULED
            | RESIZE_PENDING
            | RESIZE_IN_PROGRESS
            | ALL_RESTARTING
    )
}

struct Verdict {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self { status: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { status: false, reason, message }
    }
}

/// All conditions for a status whose container statuses and phase are set. Those that others own are kept.
pub(crate) fn conditions(view: &View<'_>, old: &PodStatus, new: &PodStatus) -> Vec<PodCondition> {
    let others = view.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let foreign = others.into_iter().flatten().filter(|condition| !is_owned(&condition.type_)).cloned();
    let mut all: Vec<PodCondition> = foreign.collect();
    if let Some(target) = find(old.conditions.as_deref(), "DisruptionTarget") {
        all.retain(|condition| condition.type_ != "DisruptionTarget");
        all.push(target.clone());
    }
    let statuses: Vec<&ContainerStatus> = [&new.init_container_statuses, &new.container_statuses]
        .into_iter()
        .flat_map(|list| list.as_deref().unwrap_or_default())
        .collect();
    let phase = new.phase.as_deref().unwrap_or_default();
    let spec = view.spec();
    let start = Verdict { status: crate::plan::sandbox_is_ready(view), ..Verdict::yes() };
    let containers = containers_ready(spec, &statuses, phase);
    let ready = if containers.status { gates(spec, &all) } else { containers_ready(spec, &statuses, phase) };
    let owned = [
        (READY_TO_START, start),
        (INITIALIZED, initialized(spec, &statuses, phase, old)),
        (READY, ready),
        (CONTAINERS_READY, containers),
        (SCHEDULED, Verdict::yes()),
    ];
    let generation = view.pod.metadata.generation;
    all.extend(owned.into_iter().map(|(kind, verdict)| condition(kind, verdict, generation)));
    if could_restart_all(spec) {
        all.push(condition(ALL_RESTARTING, restarting_all(view, phase), generation));
    }
    if !matches!(phase, "Succeeded" | "Failed") {
        all.extend(view.resize.conditions());
    }
    stamp(&mut all, old.conditions.as_deref(), view.now);
    all
}

/// Whether some container's rules may restart the whole pod (KEP-5532).
fn could_restart_all(spec: &PodSpec) -> bool {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let rules =
        spec.containers.iter().chain(init).flat_map(|container| container.restart_policy_rules.iter().flatten());
    rules.into_iter().any(|rule| rule.action == "RestartAllContainers")
}

fn restarting_all(view: &View<'_>, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => Verdict::no("PodCompleted", String::new()),
        "Failed" => Verdict::no("PodFailed", String::new()),
        _ if view.restarts_all() => Verdict {
            reason: "RestartAllContainersStarted",
            message: "container exited with restart policy rule".to_owned(),
            ..Verdict::yes()
        },
        _ => Verdict::no("", String::new()),
    }
}

fn find<'a>(conditions: Option<&'a [PodCondition]>, kind: &str) -> Option<&'a PodCondition> {
    conditions?.iter().find(|condition| condition.type_ == kind)
}

fn condition(kind: &str, verdict: Verdict, generation: Option<i64>) -> PodCondition {
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    PodCondition {
        type_: kind.to_owned(),
        status: if verdict.status { "True" } else { "False" }.to_owned(),
        reason: text(verdict.reason),
        message: text(&verdict.message),
        observed_generation: generation,
        ..PodCondition::default()
    }
}

/// Keeps the time of the last change where the status is the same.
fn stamp(conditions: &mut [PodCondition], old: Option<&[PodCondition]>, now: Timestamp) {
    for condition in conditions.iter_mut() {
        let before = find(old, &condition.type_);
        match before.filter(|before| before.status == condition.status) {
            Some(before) => condition.last_transition_time.clone_from(&before.last_transition_time),
            None => condition.last_transition_time = Some(Time(now)),
        }
    }
}

/// Go's way to write a list of names.
fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn containers_ready(spec: &PodSpec, statuses: &[&ContainerStatus], phase: &str) -> Verdict {
    let sidecars = spec.init_containers.as_deref().unwrap_or_default().iter().filter(|container| is_sidecar(container));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in sidecars.chain(&spec.containers) {
        match statuses.iter().find(|status| status.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict::no("PodCompleted", String::new());
    }
    if phase == "Failed" {
        return Verdict::no("PodFailed", String::new());
    }
    let mut messages = Vec::new();
    if !unknown.is_empty() {
        messages.push(format!("containers with unknown status: {}", names(&unknown)));
    }
    if !unready.is_empty() {
        messages.push(format!("containers with unready status: {}", names(&unready)));
    }
    if messages.is_empty() { Verdict::yes() } else { Verdict::no("ContainersNotReady", messages.join(", ")) }
}

fn gates(spec: &PodSpec, conditions: &[PodCondition]) -> Verdict {
    let mut messages = Vec::new();
    for gate in spec.readiness_gates.as_deref().unwrap_or_default() {
        let kind = &gate.condition_type;
        match find(Some(conditions), kind) {
            None => messages.push(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(condition) if condition.status != "True" => messages
                .push(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", condition.status)),
            Some(_) => {}
        }
    }
    if messages.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", messages.join(", ")) }
}

fn initialized(spec: &PodSpec, statuses: &[&ContainerStatus], phase: &str, old: &PodStatus) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in spec.init_containers.as_deref().unwrap_or_default() {
        match statuses.iter().find(|status| status.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done = if is_sidecar(container) { status.started == Some(true) } else { status.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict { reason: "PodCompleted", ..Verdict::yes() };
    }
    let began = |name: &str| {
        let state = statuses.iter().find(|status| status.name == name).and_then(|status| status.state.as_ref());
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    if spec.containers.iter().any(|container| began(&container.name)) {
        return Verdict::yes();
    }
    let mut messages = Vec::new();
    if !unknown.is_empty() {
        messages.push(format!("containers with unknown status: {}", names(&unknown)));
    }
    if !incomplete.is_empty() {
        messages.push(format!("containers with incomplete status: {}", names(&incomplete)));
    }
    let was = find(old.conditions.as_deref(), INITIALIZED).is_some_and(|condition| condition.status == "True");
    if messages.is_empty() || was {
        Verdict::yes()
    } else {
        Verdict::no("ContainersNotInitialized", messages.join(", "))
    }
}

/// The node makes the pod leave.
pub(crate) fn disrupt(view: &View<'_>, status: &mut PodStatus, message: &str) {
    if find(status.conditions.as_deref(), "DisruptionTarget").is_some() {
        return;
    }
    let verdict = Verdict { reason: "TerminationByKubelet", message: message.to_owned(), ..Verdict::yes() };
    let mut made = condition("DisruptionTarget", verdict, view.pod.metadata.generation);
    made.last_transition_time = Some(Time(view.now));
    merge_conditions(status, made);
}

/// Adds or replaces one condition of a status.
pub fn merge_conditions(status: &mut PodStatus, condition: PodCondition) {
    let list = status.conditions.get_or_insert_default();
    match list.iter_mut().find(|existing| existing.type_ == condition.type_) {
        Some(existing) => *existing = condition,
        None => list.push(condition),
    }
}
