//! The container runtime interface as Rust types and traits.
//!
//! What the kubelet says to a runtime, and nothing else: shapes and names are those of the CRI v1 messages
//! (KEP-2040), so that the same trait can stand before our own runtime in the same process or before a socket.
//! Every call is idempotent where the CRI asks for it: stopping or removing what is gone succeeds.

mod config;
mod error;
mod state;

use std::time::Duration;

use async_trait::async_trait;

pub use config::*;
pub use error::{Error, Result};
pub use state::*;

/// Sandboxes and containers. Source: `service RuntimeService` of CRI v1.
#[async_trait]
pub trait RuntimeService: Send + Sync + 'static {
    /// Name and version of the runtime, for `Node.status.nodeInfo.containerRuntimeVersion` (`name://version`).
    async fn version(&self) -> Result<RuntimeVersion>;
    /// Whether containers can be run and pod networking is set up.
    async fn status(&self) -> Result<RuntimeStatus>;

    /// Creates the namespaces, the cgroup and the network of a pod. Returns the sandbox id.
    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String>;
    /// Kills every process of the sandbox and gives its network back. Idempotent.
    async fn stop_pod_sandbox(&self, sandbox_id: &str) -> Result<()>;
    /// Removes the sandbox and all that belongs to it. Idempotent.
    async fn remove_pod_sandbox(&self, sandbox_id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, sandbox_id: &str) -> Result<PodSandboxStatus>;
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>>;

    /// Prepares a container inside a sandbox without starting it. Returns the container id.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<String>;
    async fn start_container(&self, container_id: &str) -> Result<()>;
    /// Sends the stop signal, waits up to `timeout`, then kills. Returns when the container has exited. Idempotent.
    async fn stop_container(&self, container_id: &str, timeout: Duration) -> Result<()>;
    /// Removes a container, killing it first if it runs. Its log file stays. Idempotent.
    async fn remove_container(&self, container_id: &str) -> Result<()>;
    async fn container_status(&self, container_id: &str) -> Result<ContainerStatus>;
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>>;
    /// Changes the limits of a running container (in-place resize, KEP-1287).
    async fn update_container_resources(&self, container_id: &str, resources: &LinuxContainerResources) -> Result<()>;
    /// Closes and opens again the log file of a container, after a rotation renamed it.
    async fn reopen_container_log(&self, container_id: &str) -> Result<()>;

    /// Runs a command inside a container to its end. A command that outlives `timeout` is killed and gives
    /// [`Error::DeadlineExceeded`]. At most [`EXEC_SYNC_OUTPUT_BYTES_MAX`] bytes of each stream are kept.
    async fn exec_sync(&self, container_id: &str, command: &[String], timeout: Option<Duration>) -> Result<ExecSync>;
    /// Starts a command inside a container and hands out its streams.
    async fn exec(&self, container_id: &str, request: &ExecRequest) -> Result<ExecStreams>;
    /// Joins the streams of the container's first process.
    async fn attach(&self, container_id: &str, request: &AttachRequest) -> Result<ExecStreams>;
    /// Opens a TCP connection to `127.0.0.1:port` (then `[::1]:port`) inside the sandbox's network namespace.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<BoxStream>;

    async fn container_stats(&self, container_id: &str) -> Result<ContainerStats>;
    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>>;
    async fn list_pod_sandbox_stats(&self) -> Result<Vec<PodSandboxStats>>;

    /// A new receiver of lifecycle events (KEP-3386, evented PLEG). A receiver that lags is told so by
    /// [`RuntimeEvent::Lagged`] and must list again.
    fn events(&self) -> EventReceiver;
    /// The node's share of the pod network changed. Source: `UpdateRuntimeConfig`.
    async fn update_pod_cidr(&self, pod_cidr: &str) -> Result<()>;
}

/// Images. Source: `service ImageService` of CRI v1.
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// `None` when the image is not on the node.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;
    /// Pulls an image; returns the reference to use in `ContainerConfig.image` (its id).
    async fn pull_image(&self, image: &str, auth: Option<&AuthConfig>) -> Result<String>;
    /// Idempotent.
    async fn remove_image(&self, image: &str) -> Result<()>;
    /// Bytes and inodes used by images and by container file systems.
    async fn image_fs_info(&self) -> Result<FsUsage>;
}

/// Sets up and tears down the network of one sandbox. Source: ADD, DEL and CHECK of the CNI specification 1.1.
/// The network component implements it; the runtime calls it.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Whether pods can be given addresses now; the text says why not.
    async fn ready(&self) -> std::result::Result<(), String>;
    /// Gives the namespace at `netns_path` an interface `eth0`, addresses, routes and host ports.
    /// Idempotent for the same `sandbox_id`.
    async fn setup(&self, request: &PodNetworkRequest) -> Result<PodNetworkStatus>;
    /// Takes everything back that `setup` made. Idempotent; works when the namespace is gone.
    async fn teardown(&self, request: &PodNetworkRequest) -> Result<()>;
    /// Forgets addresses of sandboxes that are not among `live`. Called once at start, before any `setup`.
    async fn reconcile(&self, live: &[PodNetworkRequest]) -> Result<()>;
    /// The node's share of the pod network.
    async fn set_pod_cidr(&self, pod_cidr: &str) -> Result<()>;
}

/// Bytes of each stream that [`RuntimeService::exec_sync`] keeps.
pub const EXEC_SYNC_OUTPUT_BYTES_MAX: usize = 16 << 20;
