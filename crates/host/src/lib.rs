//! System calls: namespaces, cgroups, mounts, processes.
//!
//! The only crate of the workspace with `unsafe` code; everything it hands out is safe to call. It knows the kernel and
//! nothing of Kubernetes. Calls block: callers on an async runtime use a blocking thread.
//!
//! - [`mount`]: mounts by path and by descriptor, overlay file systems, propagation, the mount table
//! - [`fs`]: paths inside a root that cannot be escaped, atomic file replacement, disk usage
//! - [`cgroup`]: one interface over cgroup v1, v2 and the hybrid of both
//! - [`process`]: cloning single-threaded processes, waiting, signals, start times
//! - [`caps`], [`seccomp`]: what a process may do
//! - [`netns`]: named network namespaces
//! - [`pty`], [`unix`]: terminals, and sockets that carry descriptors
//! - [`info`]: facts of the machine
//!
//! Mount operations use the descriptor-based mount interface, so Linux 5.12 is the oldest kernel that works.

pub mod caps;
pub mod cgroup;
mod device_filter;
mod error;
pub mod fs;
pub mod info;
pub mod memory;
pub mod mount;
pub mod netns;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod unix;
pub mod userns;

pub use error::{Context, Error, Result, describe};
