//! How long containers get to stop, and in which order.

use k8s_openapi::api::core::v1::{Container, Pod, Probe};

use crate::is_sidecar;

/// The least that a container gets between its signal and SIGKILL. Source: kubelet.
pub const MINIMUM_GRACE_SECONDS: i64 = 2;

/// Why a container is killed while its pod lives on, as far as it changes the grace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KillReason {
    #[default]
    Other,
    StartupProbe,
    LivenessProbe,
}

/// Seconds of grace for hook and signal together.
#[must_use]
pub fn grace_seconds(pod: &Pod, container: Option<&Container>, reason: KillReason) -> i64 {
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        return seconds;
    }
    let Some(seconds) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) else {
        return MINIMUM_GRACE_SECONDS;
    };
    let own = |probe: &Option<Probe>| probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
    let of_probe = match reason {
        KillReason::Other => None,
        KillReason::StartupProbe => container.and_then(|container| own(&container.startup_probe)),
        KillReason::LivenessProbe => container.and_then(|container| own(&container.liveness_probe)),
    };
    of_probe.unwrap_or(seconds)
}

/// Containers that are stopped at the same time; `hooks` of all groups run at once.
pub type StopGroup = Vec<String>;

/// The order in which the running containers of a pod end: first all but sidecars, then the sidecars one by one, the
/// last declared first. Source: KEP-753.
#[must_use]
pub fn stop_order(pod: &Pod, running: &[String]) -> Vec<StopGroup> {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let sidecars: Vec<&str> = init.iter().filter(|c| is_sidecar(c)).map(|c| c.name.as_str()).collect();
    let others = running.iter().filter(|name| !sidecars.contains(&name.as_str())).cloned().collect::<Vec<_>>();
    let mut groups = vec![others];
    for sidecar in sidecars.iter().rev() {
        groups.extend(running.iter().filter(|name| name == sidecar).map(|name| vec![name.clone()]));
    }
    groups.retain(|group| !group.is_empty());
    groups
}
