//! Which components run, in what order and with which configuration: the only crate that sees them all.
//!
//! [`Cluster::start`] brings one machine's cluster up; [`Cluster::stop`] ends its components and leaves the pods running.
//! [`reset`] undoes everything. Components get plain structs and clients; none reads flags, environment or files for its
//! configuration. All of them enter the API server by its own door, each under the identity it has in any Kubernetes.

mod api_options;
mod beginning;
mod cluster;
mod control;
mod control_plane;
pub mod demo;
mod files;
mod memory;
mod metrics;
mod names;
mod node;
mod reset;

pub use api_options::{ApiOptions, OidcOptions};
pub use cluster::{Cluster, Config, Registries, Step};
pub use coracle_image::Proxies;
pub use names::{Names, default_node_name, instance_name, is_root};
pub use reset::reset;

/// The version of the API that is served.
pub const KUBERNETES_VERSION: &str = "v1.36.2";

/// A duration in Go's notation: `2m0s`, `30s`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let duration: jiff::SignedDuration = text.parse().ok()?;
    std::time::Duration::try_from(duration).ok()
}
