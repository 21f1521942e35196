//! The node agent: registers the node, runs the pods that are bound to it, reports what becomes of them, and serves
//! logs, exec, attach and port-forward.
//!
//! [`Kubelet::start`] takes a plain [`Config`] and its [`Deps`]. What to do for a pod is decided by `plan-pods`; this
//! crate carries it out: one task per pod, woken by changes of the pod, events of the runtime, verdicts of probes and
//! timers, never by polling. Status goes out by another task of the pod, so that a slow API server delays no
//! container. It never knows which runtime it talks to.

mod act;
mod admission;
mod api;
mod classes;
mod config;
mod container;
mod context;
mod dns;
mod env;
mod error;
mod eviction;
mod fieldpath;
mod gc;
mod hooks;
mod hosts;
mod images;
mod kill;
mod logs;
mod node;
mod notify;
mod objects;
mod probes;
mod pull_secrets;
mod reporter;
mod resize;
mod sandbox;
mod security;
mod source;
mod termination;
mod tokens;
mod users;
mod volumes;
mod worker;

pub use api::BoxIo;
pub use config::{Config, Deps, ServingTls};
pub use error::{Error, Result};
pub use node::start::{Door, Kubelet};
