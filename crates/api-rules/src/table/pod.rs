//! Pods.

use coracle_api_meta::{ObjectExt, Value};
use jiff::Timestamp;

use super::duration::{age, since};
use super::rows::{AGE, NAME, Table, deleted, flag, int, is_true, list, text, text_or, wide};
use crate::resources::is_sidecar;

pub(crate) const TABLE: Table = (
    &[
        NAME,
        text("Ready"),
        text("Status"),
        text("Restarts"),
        AGE,
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    row,
);

/// What is found out while walking the containers.
struct Summary<'v> {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: &'v str,
}

impl<'v> Summary<'v> {
    fn count_restarts(&mut self, status: &'v Value) {
        self.restarts += int(status, &["restartCount"]);
        // Stamps of one format compare as text.
        self.last_restart = self.last_restart.max(status.str_at(&["lastState", "terminated", "finishedAt"]));
    }
}

fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let mut summary = Summary {
        reason: first_reason(pod),
        ready: 0,
        total: list(pod, &["spec", "containers"]).len(),
        restarts: 0,
        last_restart: "",
    };
    let sidecars = Summary { reason: String::new(), ready: 0, total: 0, restarts: 0, last_restart: "" };
    let (initializing, sidecars) = init_containers(pod, &mut summary, sidecars);
    if !initializing || is_true(pod, "Initialized") {
        summary.restarts = sidecars.restarts;
        summary.last_restart = sidecars.last_restart;
        containers(pod, &mut summary);
    }
    if deleted(pod) {
        if pod.str_at(&["status", "reason"]) == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(pod.str_at(&["status", "phase"]), "Failed" | "Succeeded") {
            summary.reason = "Terminating".to_owned();
        }
    }
    let restarts = if summary.restarts != 0 && !summary.last_restart.is_empty() {
        format!("{} ({} ago)", summary.restarts, since(summary.last_restart, now))
    } else {
        summary.restarts.to_string()
    };
    let ip = list(pod, &["status", "podIPs"]).first().map_or("<none>", |ip| text_or(ip, &["ip"], "<none>"));
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now).into(),
        ip.into(),
        text_or(pod, &["spec", "nodeName"], "<none>").into(),
        text_or(pod, &["status", "nominatedNodeName"], "<none>").into(),
        readiness_gates(pod).into(),
    ]
}

fn first_reason(pod: &Value) -> String {
    let gated = list(pod, &["status", "conditions"]).iter().any(|condition| {
        condition.str_at(&["type"]) == "PodScheduled" && condition.str_at(&["reason"]) == "SchedulingGated"
    });
    if gated {
        return "SchedulingGated".to_owned();
    }
    text_or(pod, &["status", "reason"], pod.str_at(&["status", "phase"])).to_owned()
}

/// The first init container that is not through gives the reason. True when there is such a one.
fn init_containers<'v>(pod: &'v Value, summary: &mut Summary<'v>, mut sidecars: Summary<'v>) -> (bool, Summary<'v>) {
    let specs = list(pod, &["spec", "initContainers"]);
    summary.total += specs.iter().filter(|container| is_sidecar(container)).count();
    for (index, status) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let name = status.str_at(&["name"]);
        let sidecar = specs.iter().any(|container| container.str_at(&["name"]) == name && is_sidecar(container));
        summary.count_restarts(status);
        if sidecar {
            sidecars.count_restarts(status);
        }
        let terminated = status.at(&["state", "terminated"]).filter(|state| state.is_object());
        if terminated.is_some_and(|state| int(state, &["exitCode"]) == 0) {
            continue;
        }
        if sidecar && flag(status, &["started"]) {
            summary.ready += usize::from(flag(status, &["ready"]));
            continue;
        }
        let waiting = status.str_at(&["state", "waiting", "reason"]);
        summary.reason = match terminated {
            Some(state) => format!("Init:{}", ended(state)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", specs.len()),
        };
        return (true, sidecars);
    }
    (false, sidecars)
}

/// Why a container ended.
fn ended(state: &Value) -> String {
    let (reason, signal) = (state.str_at(&["reason"]), int(state, &["signal"]));
    match () {
        () if !reason.is_empty() => reason.to_owned(),
        () if signal != 0 => format!("Signal:{signal}"),
        () => format!("ExitCode:{}", int(state, &["exitCode"])),
    }
}

fn containers<'v>(pod: &'v Value, summary: &mut Summary<'v>) {
    let mut running = false;
    let mut failure = String::new();
    for status in list(pod, &["status", "containerStatuses"]).iter().rev() {
        summary.count_restarts(status);
        let waiting = status.str_at(&["state", "waiting", "reason"]);
        let terminated = status.at(&["state", "terminated"]).filter(|state| state.is_object());
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if let Some(state) = terminated {
            summary.reason = ended(state);
            if int(state, &["exitCode"]) != 0 {
                failure.clone_from(&summary.reason);
            }
        } else if flag(status, &["ready"]) && status.at(&["state", "running"]).is_some_and(Value::is_object) {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        if running && is_true(pod, "Ready") {
            "Running".clone_into(&mut summary.reason);
        } else if !failure.is_empty() {
            summary.reason = failure;
        } else if running {
            "NotReady".clone_into(&mut summary.reason);
        }
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| is_true(pod, gate.str_at(&["conditionType"]))).count();
    format!("{open}/{}", gates.len())
}
