//! What a kubelet does next for a pod, and what it reports about it.
//!
//! [`plan`] looks at a [`View`] (the pod's spec, what the runtime has, what probes found, past failures, the time) and
//! returns a [`Plan`]: containers to kill, a sandbox to make, containers to start or to wait with. [`pod_status`]
//! renders the same view as the status that goes to the API. Both are pure, so that a pod's whole life can be written
//! down as a transcript. This crate never talks to a runtime and never reads the clock.

pub mod admission;
mod backoff;
mod conditions;
mod container_status;
pub mod eviction;
mod init;
mod kill;
mod names;
mod phase;
mod plan;
mod probe;
pub mod qos;
pub mod resize;
pub mod resources;
mod restart;
mod status;
mod view;

pub use backoff::{Backoff, CONTAINER_BACKOFF_FIRST, CONTAINER_BACKOFF_MAX};
pub use conditions::{is_kubelet_condition, merge_conditions};
pub use kill::{KillReason, MINIMUM_GRACE_SECONDS, StopGroup, grace_seconds, stop_order};
pub use names::{pod_reference, pod_text};
pub use plan::{ContainerKind, Kill, Plan, Start, Update, plan, spec_hash};
pub use probe::{ProbeKind, ProbeRun, ProbeVerdict};
pub use resize::Resize;
pub use restart::should_restart;
pub use status::{Ended, pod_status, rejected_status};
pub use view::{NodeFacts, Probes, RuntimePod, View, Waiting, is_sidecar};
