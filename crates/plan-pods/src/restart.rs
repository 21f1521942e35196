//! Whether a container that ended is started again.

use coracle_cri::ContainerState;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule};

use crate::View;

/// By the container's own rules and policy, else by the pod's.
/// Source: KEP-5307 container restart rules; `PodSpec.restartPolicy`.
#[must_use]
pub fn should_restart(container: &Container, pod_policy: Option<&str>, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        if matching_rule(container, exit_code).is_some() {
            return true;
        }
        match policy {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match pod_policy {
        Some("OnFailure") => exit_code != 0,
        Some("Never") => false,
        _ => true,
    }
}

/// The first rule that an exit code meets.
pub(crate) fn matching_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.as_deref().unwrap_or_default().iter().find(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

impl View<'_> {
    /// Whether a container that is not running has to be started.
    pub(crate) fn wants_start(&self, container: &Container) -> bool {
        if self.is_deleting() {
            return false;
        }
        match self.runtime.latest(&container.name) {
            None => true,
            Some(status) => match status.state {
                ContainerState::Running => false,
                ContainerState::Unknown | ContainerState::Created => true,
                ContainerState::Exited => {
                    should_restart(container, self.spec().restart_policy.as_deref(), status.exit_code)
                }
            },
        }
    }

    /// Whether the pod's policy lets anything start again.
    pub(crate) fn restarts_on_failure(&self) -> bool {
        self.spec().restart_policy.as_deref() != Some("Never")
    }

    /// Some container ended with a code that restarts them all (KEP-5532).
    pub(crate) fn restarts_all(&self) -> bool {
        self.init_containers().iter().chain(self.containers()).any(|container| {
            let Some(status) = self.runtime.latest(&container.name) else { return false };
            status.state == ContainerState::Exited
                && matching_rule(container, status.exit_code).is_some_and(|rule| rule.action == "RestartAllContainers")
        })
    }
}
