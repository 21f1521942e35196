//! The container runtime behind the CRI traits.
//!
//! [`Runtime`] answers for sandboxes and containers ([`coracle_cri::RuntimeService`]) and images
//! ([`coracle_cri::ImageService`]). Each pod has one small process of ours, the shim, that is parent of its containers
//! and survives the runtime: after a restart the runtime reads its records, connects to the shims and goes on. The cost
//! is one process for each pod; in return nothing is lost when the runtime ends, and no pause container is needed.
//!
//! The binary that uses this crate must call [`personality`] first thing in `main`: the shim is the same program.
//!
//! It never talks to the Kubernetes API, and never touches a cgroup, mount or process that it did not make.

mod adopt;
mod client;
mod container;
mod image_volumes;
mod images;
mod init;
mod prepare;
mod privileges;
mod records;
mod runtime;
mod sandbox;
mod seccomp;
mod service;
mod shim;
mod signals;
mod spec;
mod stats;
mod streams;
mod users;

pub use runtime::{Config, Runtime};

/// Runs as a hidden personality of the binary when the arguments (the program's name first) ask for one. Returns the
/// exit code to end with; `None`: this is an ordinary start. No thread may have been started before.
#[must_use]
pub fn personality(arguments: &[String]) -> Option<i32> {
    let rest = arguments.get(2..).unwrap_or_default();
    match arguments.get(1).map(String::as_str) {
        Some("shim") => Some(shim::main(rest)),
        Some("shims") => Some(shim::nursery::main()),
        _ => None,
    }
}
