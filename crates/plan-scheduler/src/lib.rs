//! The scheduler's decisions.
//!
//! [`Cluster`] is what is known; [`schedule`] says where a pod goes, or in upstream's words why nowhere, and which pods
//! could make room; [`Queue`] says which pod is next. Plugins carry upstream's names and run in upstream's order as plain
//! functions: the set is closed, which costs out-of-tree plugins and gives decisions that are microseconds long.
//! Given the same cluster, pod and seed, the decision is the same. This crate never knows clients, tasks or clocks.

pub mod cluster;
pub mod explain;
pub mod framework;
pub mod info;
pub mod plugins;
pub mod preemption;
pub mod queue;
pub mod resources;
pub mod status;

pub use cluster::Cluster;
pub use framework::{Decision, Refusal, schedule};
pub use info::PodInfo;
pub use preemption::{Nomination, Preemption};
pub use queue::{Happening, Queue};
