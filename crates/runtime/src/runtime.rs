//! The runtime: what it holds in memory, and how it starts and resets.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_cri::{Error, PodNetwork, Result, RuntimeEvent};
use coracle_host::caps::Caps;
use coracle_host::cgroup::Cgroups;
use coracle_host::mount::{self, Attributes};
use coracle_host::{Context, info};
use coracle_image::{Digest, ImageStore};
use tokio::sync::{broadcast, watch};

use crate::client::ShimClient;
use crate::records::{ContainerRecord, Folders, SandboxRecord};
use crate::spec::RunState;

/// Events kept for a receiver that is slow; one that falls further behind must list again.
const EVENTS_MAX: usize = 4096;

/// Where the runtime keeps its things.
#[derive(Debug, Clone)]
pub struct Config {
    /// Survives reboots: `<data-dir>/runtime`.
    pub data_dir: PathBuf,
    /// Sockets and other things of the moment: `/run/coracle/...`.
    pub run_dir: PathBuf,
    /// The program that is run with the argument `shim`: this binary.
    pub shim_exe: PathBuf,
    /// Cgroup of all shims, from the root of the hierarchy, outside that of the agent and those of the pods.
    pub shim_cgroup: String,
}

impl Config {
    /// The usual places below a data folder, for a cluster whose runtime files are in `run_dir`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            run_dir: run_dir.into(),
            shim_exe: "/proc/self/exe".into(),
            shim_cgroup: "/coracle/shims".into(),
        }
    }
}

/// Sandboxes and containers of this machine. Dropping it leaves them running.
pub struct Runtime {
    pub(crate) config: Config,
    pub(crate) folders: Folders,
    pub(crate) images: ImageStore,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) cgroups: Cgroups,
    pub(crate) own_caps: Caps,
    pub(crate) boot_id: String,
    /// The shim's program on a read-only mount of its own: what runs in a container can reach it through
    /// `/proc/self/exe`, and must not be able to write to it. It also stays the same when the file is replaced.
    pub(crate) shim_program: Option<OwnedFd>,
    /// The socket to the process that shims are forked from, once there was a pod.
    pub(crate) nursery: tokio::sync::OnceCell<Arc<OwnedFd>>,
    state: Mutex<State>,
    me: std::sync::Weak<Self>,
    pub(crate) events: broadcast::Sender<RuntimeEvent>,
}

#[derive(Default)]
pub(crate) struct State {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
}

#[derive(Clone)]
pub(crate) struct Sandbox {
    pub record: SandboxRecord,
    pub shim: Option<Arc<ShimClient>>,
    /// One changes the sandbox at a time.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
pub(crate) struct Container {
    pub record: Arc<ContainerRecord>,
    pub run: RunState,
    /// Becomes true when the container has exited.
    pub exited: watch::Sender<bool>,
    /// One changes the container at a time.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

impl Container {
    pub fn new(record: ContainerRecord, run: RunState) -> Self {
        let exited = watch::Sender::new(run.finished_at != 0);
        Self { record: Arc::new(record), run, exited, turn: Arc::default() }
    }

    pub fn is_running(&self) -> bool {
        self.run.started_at != 0 && self.run.finished_at == 0
    }
}

impl Runtime {
    /// Adopts what an earlier runtime left running, clears away what it left half made, and is ready.
    pub async fn start(config: Config, images: ImageStore, network: Arc<dyn PodNetwork>) -> Result<Arc<Self>> {
        let folders = Folders { data: config.data_dir.clone(), run: config.run_dir.clone() };
        folders.prepare().map_err(internal)?;
        let (cgroups, own_caps) =
            (Cgroups::discover().map_err(internal)?, coracle_host::caps::effective().map_err(internal)?);
        let shim_program = read_only(&config.shim_exe)
            .inspect_err(|error| tracing::warn!(%error, "the binary cannot be mounted read-only for containers"));
        let runtime = Arc::new_cyclic(|me| Self {
            shim_program: shim_program.ok(),
            nursery: tokio::sync::OnceCell::new(),
            me: me.clone(),
            folders,
            images,
            network,
            cgroups,
            own_caps,
            boot_id: info::boot_id(),
            state: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
            config,
        });
        runtime.adopt().await?;
        Ok(runtime)
    }

    /// The images the runtime runs containers of.
    #[must_use]
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// Another handle to this runtime, for tasks that outlive a call.
    pub(crate) fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("a runtime lives in an Arc, and whoever calls holds it")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let found = self.state().sandboxes.get(id).cloned();
        found.ok_or_else(|| Error::NotFound(format!("an error occurred when try to find sandbox {id:?}: not found")))
    }

    pub(crate) fn container(&self, id: &str) -> Result<Container> {
        let found = self.state().containers.get(id).cloned();
        found.ok_or_else(|| Error::NotFound(format!("an error occurred when try to find container {id:?}: not found")))
    }

    /// The shim of a container's sandbox.
    pub(crate) fn shim_of(&self, container: &Container) -> Result<Arc<ShimClient>> {
        let sandbox = self.sandbox(&container.record.sandbox_id)?;
        sandbox.shim.ok_or_else(|| {
            Error::FailedPrecondition(format!("sandbox container {:?} is not running", container.record.sandbox_id))
        })
    }

    /// Layers that containers need.
    pub(crate) fn layers_in_use(&self) -> std::collections::BTreeSet<Digest> {
        let state = self.state();
        state.containers.values().flat_map(|container| container.record.layers.iter().cloned()).collect()
    }

    pub(crate) fn emit(&self, event: RuntimeEvent) {
        // Nobody listening is fine.
        self.events.send(event).ok();
    }

    pub(crate) fn pod_uid(&self, sandbox_id: &str) -> String {
        let state = self.state();
        state.sandboxes.get(sandbox_id).map(|sandbox| sandbox.record.config.metadata.uid.clone()).unwrap_or_default()
    }
}

fn read_only(program: &Path) -> coracle_host::Result<OwnedFd> {
    let program = program.canonicalize().context(|| format!("resolve {}", program.display()))?;
    let tree = mount::clone_tree(&program, false)?;
    let attributes = Attributes { readonly: true, recursive: false, propagation: Some(mount::Propagation::Private) };
    mount::set_attributes(&tree, attributes)?;
    Ok(tree)
}

pub(crate) fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(error.to_string())
}

/// Runs blocking work beside the async tasks.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(internal)?
}

/// A new id: 64 hex digits.
pub(crate) fn new_id() -> Result<String> {
    use std::fmt::Write;
    use std::io::Read;
    let mut bytes = [0; 32];
    let mut source = std::fs::File::open("/dev/urandom").map_err(internal)?;
    source.read_exact(&mut bytes).map_err(internal)?;
    let mut id = String::with_capacity(64);
    for byte in bytes {
        // Writing to a string does not fail.
        write!(id, "{byte:02x}").ok();
    }
    Ok(id)
}
