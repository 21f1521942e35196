//! The phase of a pod, from its container statuses.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStateTerminated, ContainerStatus, PodSpec};

use crate::{is_sidecar, should_restart};

/// `terminal`: nothing of the pod will be started again. `initialized`: a container of the pod is there.
/// Source: kubelet `getPhase`.
pub(crate) fn phase(
    spec: &PodSpec,
    statuses: &[&ContainerStatus],
    terminal: bool,
    initialized: bool,
    is_static: bool,
) -> &'static str {
    let policy = spec.restart_policy.as_deref();
    let init = InitTally::of(spec, statuses, policy);
    let tally = Tally::of(spec, statuses, policy);
    if init.failed_for_good > 0 {
        return "Failed";
    }
    let waits = init.pending > 0 || (tally.pending_sidecars > 0 && !initialized) || tally.waiting > 0;
    if waits {
        return "Pending";
    }
    if tally.running > 0 && tally.unknown == 0 {
        return "Running";
    }
    if tally.running > 0 || tally.stopped == 0 || tally.unknown > 0 {
        return "Pending";
    }
    let all_stay = terminal && !is_static;
    if !all_stay && tally.stopped != tally.stopped_for_good {
        return "Running";
    }
    if tally.stopped == tally.succeeded { "Succeeded" } else { "Failed" }
}

fn status_of<'a>(statuses: &[&'a ContainerStatus], name: &str) -> Option<&'a ContainerState> {
    statuses.iter().find(|status| status.name == name)?.state.as_ref()
}

fn last_end<'a>(statuses: &[&'a ContainerStatus], name: &str) -> Option<&'a ContainerStateTerminated> {
    statuses.iter().find(|status| status.name == name)?.last_state.as_ref()?.terminated.as_ref()
}

fn for_good(container: &Container, policy: Option<&str>, end: &ContainerStateTerminated) -> bool {
    !should_restart(container, policy, end.exit_code) && end.reason.as_deref() != Some("RestartingAllContainers")
}

#[derive(Default)]
struct InitTally {
    pending: usize,
    failed_for_good: usize,
}

impl InitTally {
    fn of(spec: &PodSpec, statuses: &[&ContainerStatus], policy: Option<&str>) -> Self {
        let mut tally = Self::default();
        let init = spec.init_containers.as_deref().unwrap_or_default();
        for container in init.iter().filter(|container| !is_sidecar(container)) {
            let state = status_of(statuses, &container.name);
            let end = match state {
                Some(ContainerState { terminated: Some(end), .. }) => Some(end),
                Some(ContainerState { waiting: Some(_), .. }) => last_end(statuses, &container.name),
                _ => None,
            };
            match end {
                None => tally.pending += 1,
                Some(end) if end.exit_code != 0 && for_good(container, policy, end) => tally.failed_for_good += 1,
                Some(_) => {}
            }
        }
        tally
    }
}

#[derive(Default)]
struct Tally {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
    pending_sidecars: usize,
}

impl Tally {
    fn of(spec: &PodSpec, statuses: &[&ContainerStatus], policy: Option<&str>) -> Self {
        let mut tally = Self::default();
        let init = spec.init_containers.as_deref().unwrap_or_default();
        for container in init.iter().filter(|container| is_sidecar(container)) {
            tally.count_sidecar(statuses, &container.name);
        }
        for container in &spec.containers {
            tally.count(statuses, container, policy);
        }
        tally
    }

    fn count_sidecar(&mut self, statuses: &[&ContainerStatus], name: &str) {
        let Some(state) = status_of(statuses, name) else {
            self.unknown += 1;
            return;
        };
        if state.running.is_some() {
            let started = statuses.iter().any(|status| status.name == name && status.started == Some(true));
            self.pending_sidecars += usize::from(!started);
            self.running += 1;
        } else if state.waiting.is_some() {
            if last_end(statuses, name).is_none() {
                self.pending_sidecars += 1;
                self.waiting += 1;
            }
        } else if state.terminated.is_none() {
            self.pending_sidecars += 1;
            self.unknown += 1;
        }
    }

    fn count(&mut self, statuses: &[&ContainerStatus], container: &Container, policy: Option<&str>) {
        let state = status_of(statuses, &container.name);
        match state {
            Some(ContainerState { running: Some(_), .. }) => self.running += 1,
            Some(ContainerState { terminated: Some(end), .. }) => {
                self.stopped += 1;
                self.stopped_for_good += usize::from(for_good(container, policy, end));
                self.succeeded += usize::from(end.exit_code == 0);
            }
            Some(ContainerState { waiting: Some(_), .. }) => match last_end(statuses, &container.name) {
                Some(end) => {
                    self.stopped += 1;
                    self.stopped_for_good += usize::from(for_good(container, policy, end));
                }
                None => self.waiting += 1,
            },
            _ => self.unknown += 1,
        }
    }
}
