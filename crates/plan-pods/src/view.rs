//! The inputs of every decision about a pod.

use std::collections::BTreeMap;

use coracle_cri::{ContainerState, ContainerStatus, PodSandboxStatus, SandboxState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use crate::{Backoff, ProbeKind, Resize};

/// All that is known about one pod at one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// As the API has it (or the static file), with the resources that the node granted.
    pub pod: &'a Pod,
    pub runtime: &'a RuntimePod,
    pub probes: &'a Probes,
    /// Why a container could not be started the last time, by container name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    pub backoff: &'a Backoff,
    pub resize: &'a Resize,
    pub node: &'a NodeFacts,
    pub now: Timestamp,
}

/// What the runtime has of a pod; both lists newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuntimePod {
    pub sandboxes: Vec<PodSandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

/// Facts of the node that show in pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Addresses of the node, the first one leading.
    pub ips: Vec<String>,
    /// Name of the runtime, as it prefixes container ids.
    pub runtime_name: String,
    /// Bytes.
    pub memory_capacity: i64,
}

/// Why a container is not running: `CrashLoopBackOff`, `ErrImagePull`, ...
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// Verdicts of probes by container id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes {
    verdicts: BTreeMap<(String, ProbeKind), bool>,
}

impl Probes {
    /// Returns whether the verdict is news.
    pub fn set(&mut self, container_id: &str, kind: ProbeKind, success: bool) -> bool {
        self.verdicts.insert((container_id.to_owned(), kind), success) != Some(success)
    }

    #[must_use]
    pub fn get(&self, container_id: &str, kind: ProbeKind) -> Option<bool> {
        self.verdicts.get(&(container_id.to_owned(), kind)).copied()
    }

    /// Forgets containers that are gone.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.verdicts.retain(|(container_id, _), _| keep(container_id));
    }
}

impl RuntimePod {
    /// Puts the newest first.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| {
            (std::cmp::Reverse(sandbox.metadata.attempt), std::cmp::Reverse(sandbox.created_at))
        });
        self.containers.sort_by_key(|container| {
            (std::cmp::Reverse(container.created_at), std::cmp::Reverse(container.metadata.attempt))
        });
    }

    /// The newest container of a name.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.metadata.name == name)
    }

    pub(crate) fn latest_exited(&self, name: &str) -> Option<&ContainerStatus> {
        let exited =
            |container: &&ContainerStatus| container.metadata.name == name && container.state == ContainerState::Exited;
        self.containers.iter().find(exited)
    }

    #[must_use]
    pub fn ready_sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes.iter().find(|sandbox| sandbox.state == SandboxState::Ready)
    }

    #[must_use]
    pub fn has_running(&self) -> bool {
        self.containers.iter().any(|container| container.state == ContainerState::Running)
    }

    pub(crate) fn in_sandbox<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a ContainerStatus> {
        self.containers.iter().filter(move |container| container.sandbox_id == id)
    }
}

/// An init container that keeps running beside the pod's containers (KEP-753).
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

static EMPTY_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

impl<'a> View<'a> {
    pub(crate) fn spec(&self) -> &'a PodSpec {
        self.pod.spec.as_ref().unwrap_or(&EMPTY_SPEC)
    }

    pub(crate) fn containers(&self) -> &'a [Container] {
        &self.spec().containers
    }

    pub(crate) fn init_containers(&self) -> &'a [Container] {
        self.spec().init_containers.as_deref().unwrap_or_default()
    }

    pub(crate) fn ephemeral_containers(&self) -> &'a [EphemeralContainer] {
        self.spec().ephemeral_containers.as_deref().unwrap_or_default()
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether a regular container was ever made.
    pub(crate) fn any_regular_created(&self) -> bool {
        self.containers().iter().any(|container| self.runtime.latest(&container.name).is_some())
    }

    pub(crate) fn host_network(&self) -> bool {
        self.spec().host_network == Some(true)
    }
}
