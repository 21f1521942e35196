//! What the runtime keeps on disk of sandboxes and containers, each in a folder of its own.

use std::path::{Path, PathBuf};

use coracle_cri::{ContainerConfig, PodSandboxConfig};
use coracle_host::{Context, fs as host_fs};
use coracle_image::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::spec::{RunState, STATE_FILE};

const RECORD_FILE: &str = "record.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// A crash now leaves something to clear away.
    Creating,
    Ready,
    NotReady,
}

/// A sandbox as it was asked for, and what was made for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub id: String,
    pub config: PodSandboxConfig,
    pub runtime_handler: String,
    pub created_at: i64,
    pub phase: Phase,
    /// `None`: the host's network.
    pub netns: Option<PathBuf>,
    pub ips: Vec<String>,
}

/// A container as it was asked for, and what was found out about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: String,
    pub sandbox_id: String,
    pub config: ContainerConfig,
    pub created_at: i64,
    pub image_id: String,
    pub image_ref: String,
    /// Layers that must stay while the container is there.
    pub layers: Vec<Digest>,
    pub cgroup: String,
    pub log_path: Option<PathBuf>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub stop_signal: String,
}

/// The folders of the runtime.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    /// What survives a reboot.
    pub data: PathBuf,
    /// What need not.
    pub run: PathBuf,
}

impl Folders {
    pub fn sandboxes(&self) -> PathBuf {
        self.data.join("sandboxes")
    }

    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// What of a sandbox lasts until it is stopped: the socket of its shim, and `/dev/shm`.
    pub fn sandbox_run(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }

    pub fn socket(&self, id: &str) -> PathBuf {
        self.sandbox_run(id).join("shim.sock")
    }

    pub fn shm(&self, id: &str) -> PathBuf {
        self.sandbox_run(id).join("shm")
    }

    pub fn prepare(&self) -> coracle_host::Result<()> {
        for folder in [self.sandboxes(), self.containers(), self.run.clone()] {
            std::fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
            // Specs hold environments, and those hold secrets.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(&folder, mode).context(|| format!("chmod {}", folder.display()))?;
        }
        Ok(())
    }

    pub fn save_sandbox(&self, record: &SandboxRecord) -> coracle_host::Result<()> {
        save(&self.sandbox(&record.id).join(RECORD_FILE), record)
    }

    pub fn save_container(&self, record: &ContainerRecord) -> coracle_host::Result<()> {
        save(&self.container(&record.id).join(RECORD_FILE), record)
    }

    /// Every sandbox whose record can be read; folders without one are what a crash left of their making.
    pub fn load_sandboxes(&self) -> Vec<SandboxRecord> {
        load_all(&self.sandboxes())
    }

    pub fn load_containers(&self) -> Vec<ContainerRecord> {
        load_all(&self.containers())
    }

    /// How a container fared, as its shim wrote it.
    pub fn run_state(&self, id: &str) -> RunState {
        load(&self.container(id).join(STATE_FILE)).unwrap_or_default()
    }

    pub fn save_run_state(&self, id: &str, state: &RunState) -> coracle_host::Result<()> {
        save(&self.container(id).join(STATE_FILE), state)
    }
}

pub(crate) fn save(path: &Path, value: &impl Serialize) -> coracle_host::Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(|_| coracle_host::Error::new(format!("encode {}", path.display()), libc::EINVAL))?;
    host_fs::replace(path, &text, false)
}

fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = std::fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a record cannot be read"))
        .ok()
}

fn load_all<T: DeserializeOwned>(folder: &Path) -> Vec<T> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match load(&entry.path().join(RECORD_FILE)) {
            Some(record) => records.push(record),
            None => {
                host_fs::remove_all(&entry.path())
                    .unwrap_or_else(|error| tracing::warn!(%error, "rubbish cannot be removed"));
            }
        }
    }
    records
}
