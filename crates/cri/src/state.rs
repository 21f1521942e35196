//! What the runtime reports.

use std::collections::BTreeMap;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::config::*;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeVersion {
    pub runtime_name: String,
    pub runtime_version: String,
}

/// Source: CRI `RuntimeStatus` conditions `RuntimeReady` and `NetworkReady`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// `Err` says why not.
    pub runtime_ready: std::result::Result<(), String>,
    pub network_ready: std::result::Result<(), String>,
    /// Names that `RuntimeClass.handler` may carry; empty string is the default one.
    pub handlers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    Ready,
    NotReady,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSandboxStatus {
    pub id: String,
    pub metadata: PodSandboxMetadata,
    pub state: SandboxState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Empty for pods of the host's network.
    pub ips: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub runtime_handler: String,
    pub namespaces: NamespaceOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

/// Times are nanoseconds since the epoch, 0 when not yet. Source: CRI `ContainerStatus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox_id: String,
    pub metadata: ContainerMetadata,
    pub state: ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    /// 128 + signal for a killed process.
    pub exit_code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// `OOMKilled`, `Completed`, `Error`, `StartError`, `ContainerCannotRun`.
    pub reason: String,
    pub message: String,
    pub image: String,
    /// `repository@sha256:...`, or the image id when it has no digest.
    pub image_ref: String,
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Absolute.
    pub log_path: String,
    /// Limits in force, as the cgroup has them.
    pub resources: LinuxContainerResources,
    /// User of the first process (KEP-3619).
    pub user: Option<LinuxContainerUser>,
    pub stop_signal: String,
    /// Process id on the host while it runs.
    pub pid: Option<i32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxContainerUser {
    pub uid: i64,
    pub gid: i64,
    pub supplemental_groups: Vec<i64>,
}

/// Source: CRI `Image`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:...` of the image's configuration.
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Numeric user of the image's configuration.
    pub uid: Option<i64>,
    pub username: String,
    /// Never removed by garbage collection.
    pub pinned: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSync {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// A byte stream in both directions.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static> Stream for T {}
pub type BoxStream = Pin<Box<dyn Stream>>;
pub type BoxRead = Pin<Box<dyn tokio::io::AsyncRead + Send>>;
pub type BoxWrite = Pin<Box<dyn tokio::io::AsyncWrite + Send>>;

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// The streams of a running command. With a terminal, `stderr` is `None` and all output is in `stdout`.
/// Dropping it ends the session: a command started by exec is sent SIGHUP, then killed.
pub struct ExecStreams {
    pub stdin: Option<BoxWrite>,
    pub stdout: Option<BoxRead>,
    pub stderr: Option<BoxRead>,
    /// New terminal sizes go in here.
    pub resize: tokio::sync::mpsc::Sender<TerminalSize>,
    /// The exit code, once; for attach, the container's. Killed by a signal: 128 + signal.
    pub exit: tokio::sync::oneshot::Receiver<crate::Result<i32>>,
}

/// Source: CRI `ContainerStats`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerStats {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// Nanoseconds of CPU used since the start.
    pub cpu_usage_core_nanos: u64,
    /// Bytes, less inactive file pages.
    pub memory_working_set: u64,
    pub memory_usage: u64,
    pub memory_rss: u64,
    pub writable_layer: FsUsage,
    pub pids: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSandboxStats {
    pub id: String,
    pub metadata: PodSandboxMetadata,
    pub timestamp: i64,
    pub cpu_usage_core_nanos: u64,
    pub memory_working_set: u64,
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub pids: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsUsage {
    pub mountpoint: String,
    pub used_bytes: u64,
    pub inodes_used: u64,
}

/// Something happened to a container or sandbox; the receiver asks for its status. Source: CRI `ContainerEventResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    ContainerStarted {
        container_id: String,
        sandbox_id: String,
        pod_uid: String,
    },
    ContainerExited {
        container_id: String,
        sandbox_id: String,
        pod_uid: String,
    },
    ContainerRemoved {
        container_id: String,
        sandbox_id: String,
        pod_uid: String,
    },
    SandboxStopped {
        sandbox_id: String,
        pod_uid: String,
    },
    /// Events were lost; list again.
    Lagged,
}

pub struct EventReceiver(tokio::sync::broadcast::Receiver<RuntimeEvent>);

impl EventReceiver {
    #[must_use]
    pub fn new(inner: tokio::sync::broadcast::Receiver<RuntimeEvent>) -> Self {
        Self(inner)
    }

    /// The next event; `None` when the runtime has stopped.
    pub async fn recv(&mut self) -> Option<RuntimeEvent> {
        use tokio::sync::broadcast::error::RecvError;
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(_)) => Some(RuntimeEvent::Lagged),
            Err(RecvError::Closed) => None,
        }
    }
}
