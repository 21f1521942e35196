//! Sandboxes: made, stopped, removed.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_cri::{
    Error, NamespaceMode, PodNetworkRequest, PodSandboxConfig, PodSandboxStatus, Result, RuntimeEvent, SandboxState,
};
use coracle_host::{Context, fs as host_fs, info, mount, netns, unix};
use tokio::sync::mpsc;

use crate::client::{News, ShimClient};
use crate::prepare;
use crate::records::{Phase, SandboxRecord, save};
use crate::runtime::{Runtime, Sandbox, blocking, internal, new_id};
use crate::shim::nursery::READY;
use crate::spec::{Call, SHIM_FILE, ShimSpec};

/// Names that `RuntimeClass.handler` may carry for this runtime.
pub(crate) const HANDLERS: [&str; 3] = ["", "coracle", "runc"];
/// Keeps the allocator of the binary from holding megabytes for a process that needs a few pages.
const SHIM_ENVIRONMENT: [(&str, &str); 2] = [("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "0")];
/// How long a shim may take to be ready.
const SHIM_START_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Size of a pod's `/dev/shm` in bytes. Source: containerd `defaultShmSize`.
const SHM_BYTES: u64 = 64 << 20;
/// Sysctls of a pod with a network of its own, so that programs without rights may listen on low ports and ping.
/// Source: containerd `enable_unprivileged_ports` and `enable_unprivileged_icmp`, on by default since 2.0.
const NETWORK_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

impl Runtime {
    pub(crate) async fn run_sandbox(self: &Arc<Self>, config: &PodSandboxConfig, handler: &str) -> Result<String> {
        if !HANDLERS.contains(&handler) {
            return Err(Error::Unimplemented(format!(
                "failed to get sandbox runtime: no runtime for {handler:?} is configured"
            )));
        }
        let id = new_id()?;
        let host_network = config.linux.security_context.namespaces.network == NamespaceMode::Node;
        let record = SandboxRecord {
            id: id.clone(),
            config: config.clone(),
            runtime_handler: handler.to_owned(),
            created_at: info::now_nanos(),
            phase: Phase::Creating,
            netns: (!host_network).then(|| netns::path_of(&netns_name(&id))),
            ips: Vec::new(),
        };
        match self.make_sandbox(record.clone()).await {
            Ok(sandbox) => {
                self.state().sandboxes.insert(id.clone(), sandbox);
                Ok(id)
            }
            Err(error) => {
                self.clear_sandbox(&record, None).await;
                Err(error)
            }
        }
    }

    async fn make_sandbox(self: &Arc<Self>, mut record: SandboxRecord) -> Result<Sandbox> {
        let runtime = self.clone();
        let for_files = record.clone();
        blocking(move || runtime.make_sandbox_files(&for_files)).await?;
        let (shim, network) = if prepare::users(&record.config).is_some() {
            // The shim makes the network namespace, so that it belongs to the pod's users.
            let shim = self.start_shim(&record).await?;
            (Ok(shim), self.set_up_network(&record).await)
        } else {
            // The network knows only the path, the shim only what it holds: neither waits for the other.
            tokio::join!(self.start_shim(&record), self.set_up_network(&record))
        };
        record.ips = match network {
            Ok(ips) => ips,
            Err(error) => {
                if let Ok(shim) = shim {
                    shim.order(Call::Shutdown).await.ok();
                }
                return Err(internal(format!("failed to setup network for sandbox {:?}: {error}", record.id)));
            }
        };
        let shim = shim?;
        record.phase = Phase::Ready;
        self.folders.save_sandbox(&record).map_err(internal)?;
        Ok(Sandbox { record, shim: Some(shim), turn: Arc::default() })
    }

    fn make_sandbox_files(&self, record: &SandboxRecord) -> Result<()> {
        let (folder, run) = (self.folders.sandbox(&record.id), self.folders.sandbox_run(&record.id));
        for folder in [&folder, &run] {
            std::fs::create_dir_all(folder).context(|| format!("create {}", folder.display())).map_err(internal)?;
        }
        self.folders.save_sandbox(record).map_err(internal)?;
        let config = &record.config;
        if !config.log_directory.is_empty() {
            let path = &config.log_directory;
            std::fs::create_dir_all(path).context(|| format!("create {path}")).map_err(internal)?;
        }
        let namespaces = &config.linux.security_context.namespaces;
        write_etc(&folder, config).map_err(internal)?;
        if namespaces.ipc != NamespaceMode::Node {
            let shm = self.folders.shm(&record.id);
            std::fs::create_dir_all(&shm).context(|| format!("create {}", shm.display())).map_err(internal)?;
            mount::tmpfs(&shm, SHM_BYTES, 0o1777).map_err(internal)?;
        }
        let parent = self.cgroups.group(&config.linux.cgroup_parent).map_err(internal)?;
        parent.create().map_err(internal)?;
        if let Some(resources) = &config.linux.resources {
            parent.set(&prepare::limits(resources)).map_err(internal)?;
        }
        let shims = self.cgroups.group(&self.config.shim_cgroup).map_err(internal)?;
        shims.create().map_err(internal)?;
        let users = prepare::users(config);
        if let (Some(path), None) = (&record.netns, &users) {
            netns::create_at(path).map_err(internal)?;
        }
        let mut sysctls = Vec::new();
        if record.netns.is_some() {
            sysctls.extend(NETWORK_SYSCTLS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        sysctls.extend(config.linux.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())));
        let spec = ShimSpec {
            sandbox_id: record.id.clone(),
            netns: record.netns.clone(),
            own_ipc: namespaces.ipc != NamespaceMode::Node,
            hostname: config.hostname.clone(),
            shared_pid: namespaces.pid == NamespaceMode::Pod,
            sysctls,
            users,
            socket: self.folders.socket(&record.id),
            cgroup_procs: shims.procs_files(),
            containers: self.folders.containers(),
        };
        save(&folder.join(SHIM_FILE), &spec).map_err(internal)
    }

    async fn start_shim(self: &Arc<Self>, record: &SandboxRecord) -> Result<Arc<ShimClient>> {
        let folder = self.folders.sandbox(&record.id);
        if !self.ask_nursery(&folder).await? {
            self.run_shim(&folder).await?;
        }
        self.connect_shim(&record.id)
    }

    fn shim_command(&self) -> tokio::process::Command {
        let program = match &self.shim_program {
            Some(file) => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            None => self.config.shim_exe.clone(),
        };
        let mut command = tokio::process::Command::new(program);
        command.arg0(&self.config.shim_exe).env_clear().envs(SHIM_ENVIRONMENT);
        command
    }

    /// Has the nursery fork a shim; `false` when there is no nursery.
    async fn ask_nursery(&self, folder: &Path) -> Result<bool> {
        let nursery = self.nursery.get_or_try_init(|| async {
            let (ours, theirs) = unix::pair().map_err(internal)?;
            let mut command = self.shim_command();
            command.arg("shims").stdin(std::process::Stdio::from(theirs));
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            // It ends when its socket does, with this process; who waits for it is tokio.
            command.spawn().map(|_| Arc::new(ours)).context(|| "start the nursery".to_owned()).map_err(internal)
        });
        let nursery = match nursery.await {
            Ok(nursery) => nursery.clone(),
            Err(error) => {
                tracing::warn!(%error, "shims are started one by one");
                return Ok(false);
            }
        };
        let folder = folder.to_string_lossy().into_owned();
        let asked = blocking(move || {
            let (ours, theirs) = unix::pair().map_err(internal)?;
            if unix::send(nursery.as_ref(), folder.as_bytes(), &[theirs.as_fd()]).is_err() {
                return Ok(None);
            }
            drop(theirs);
            Ok(unix::receive(&ours).ok().flatten().map(|message| message.bytes))
        });
        let answer = tokio::time::timeout(SHIM_START_WAIT_MAX, asked).await;
        match answer.map_err(|_| Error::DeadlineExceeded("the shim does not start".into()))?? {
            None => Ok(false),
            Some(said) if said == READY => Ok(true),
            Some(said) => Err(internal(String::from_utf8_lossy(&said).trim())),
        }
    }

    async fn run_shim(&self, folder: &Path) -> Result<()> {
        let mut command = self.shim_command();
        command.arg("shim").arg(folder);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(SHIM_START_WAIT_MAX, command.output()).await;
        let output = output.map_err(|_| Error::DeadlineExceeded("the shim does not start".into()))?;
        let output = output.context(|| "start the shim".to_owned()).map_err(internal)?;
        if !output.status.success() {
            return Err(internal(String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(())
    }

    /// Connects to a shim, and follows what it reports.
    pub(crate) fn connect_shim(self: &Arc<Self>, sandbox_id: &str) -> Result<Arc<ShimClient>> {
        let (sender, mut news) = mpsc::unbounded_channel();
        let shim = Arc::new(ShimClient::connect(&self.folders.socket(sandbox_id), sender)?);
        let (runtime, id) = (Arc::downgrade(self), sandbox_id.to_owned());
        tokio::spawn(async move {
            while let Some(news) = news.recv().await {
                let Some(runtime) = runtime.upgrade() else { return };
                match news {
                    News::Exited { container, state } => runtime.container_exited(&container, state),
                    News::Lost => return runtime.shim_lost(&id).await,
                }
            }
        });
        Ok(shim)
    }

    async fn set_up_network(&self, record: &SandboxRecord) -> Result<Vec<String>> {
        match network_request(record) {
            Some(request) => Ok(self.network.setup(&request).await?.ips),
            None => Ok(Vec::new()),
        }
    }

    /// The shim has ended, told to or not: nothing of its pod runs on.
    async fn shim_lost(self: &Arc<Self>, sandbox_id: &str) {
        let Ok(sandbox) = self.sandbox(sandbox_id) else { return };
        if sandbox.record.phase != Phase::Ready || sandbox.shim.is_none() {
            return;
        }
        // A connection ends too when this process was too slow for what the shim had to say.
        if let Ok(shim) = self.connect_shim(sandbox_id) {
            if let Some(sandbox) = self.state().sandboxes.get_mut(sandbox_id) {
                sandbox.shim = Some(shim.clone());
            }
            return self.learn_states(sandbox_id, &shim).await;
        }
        tracing::warn!(sandbox = sandbox_id, "the shim of a sandbox has ended unexpectedly");
        if let Some(sandbox) = self.state().sandboxes.get_mut(sandbox_id) {
            sandbox.shim = None;
        }
        if let Err(error) = self.stop_sandbox(sandbox_id).await {
            tracing::warn!(sandbox = sandbox_id, %error, "a sandbox without a shim cannot be stopped");
        }
    }

    pub(crate) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        let _turn = sandbox.turn.lock().await;
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        if sandbox.record.phase == Phase::NotReady {
            return Ok(());
        }
        // From here on the end of its shim is no surprise.
        if let Some(sandbox) = self.state().sandboxes.get_mut(id) {
            sandbox.shim = None;
        }
        self.end_sandbox(&sandbox.record, sandbox.shim.as_deref()).await?;
        let mut record = sandbox.record.clone();
        record.phase = Phase::NotReady;
        self.folders.save_sandbox(&record).map_err(internal)?;
        if let Some(sandbox) = self.state().sandboxes.get_mut(id) {
            sandbox.shim = None;
            sandbox.record = record;
        }
        let pod_uid = sandbox.record.config.metadata.uid.clone();
        self.emit(RuntimeEvent::SandboxStopped { sandbox_id: id.to_owned(), pod_uid });
        Ok(())
    }

    /// Ends the processes of a sandbox and gives back what it holds of the machine.
    async fn end_sandbox(self: &Arc<Self>, record: &SandboxRecord, shim: Option<&ShimClient>) -> Result<()> {
        if let Some(shim) = shim
            && let Err(error) = shim.order(Call::Shutdown).await
        {
            tracing::debug!(sandbox = record.id, %error, "a shim did not answer to its end");
        }
        self.lose_containers(&record.id).await;
        if let Some(request) = network_request(record) {
            self.network.teardown(&request).await?;
        }
        let runtime = self.clone();
        let record = record.clone();
        blocking(move || {
            if let Some(path) = &record.netns {
                netns::remove_at(path).map_err(internal)?;
            }
            mount::umount_detach(&runtime.folders.shm(&record.id)).map_err(internal)?;
            host_fs::remove_all(&runtime.folders.sandbox_run(&record.id)).map_err(internal)
        })
        .await
    }

    pub(crate) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        self.stop_sandbox(id).await?;
        let containers = {
            let state = self.state();
            let of_it = state.containers.values().filter(|container| container.record.sandbox_id == id);
            of_it.map(|container| container.record.id.clone()).collect::<Vec<_>>()
        };
        for container in containers {
            self.delete_container(&container).await?;
        }
        let runtime = self.clone();
        let record = sandbox.record.clone();
        blocking(move || runtime.remove_sandbox_files(&record)).await?;
        self.state().sandboxes.remove(id);
        Ok(())
    }

    fn remove_sandbox_files(&self, record: &SandboxRecord) -> Result<()> {
        let parent = record.config.linux.cgroup_parent.trim_end_matches('/');
        if let Ok(group) = self.cgroups.group(parent) {
            // What a crash left of containers that nobody knows.
            for name in group.children().iter().filter(|name| is_id(name)) {
                if !self.state().containers.contains_key(name)
                    && let Ok(child) = self.cgroups.group(&format!("{parent}/{name}"))
                {
                    drop(child.remove_empty());
                }
            }
            // Another sandbox of the same pod may still live in it, and then it stays.
            group.remove_if_unused();
        }
        host_fs::remove_all(&self.folders.sandbox(&record.id)).map_err(internal)
    }

    /// Takes back everything of a sandbox whose making failed or was cut short.
    pub(crate) async fn clear_sandbox(self: &Arc<Self>, record: &SandboxRecord, shim: Option<&ShimClient>) {
        if let Err(error) = self.end_sandbox(record, shim).await {
            tracing::warn!(sandbox = record.id, %error, "what is left of a sandbox cannot be given back");
            return;
        }
        if let Err(error) = self.remove_sandbox_files(record) {
            tracing::warn!(sandbox = record.id, %error, "what is left of a sandbox cannot be removed");
        }
    }

    pub(crate) fn sandbox_status(sandbox: &Sandbox) -> PodSandboxStatus {
        let record = &sandbox.record;
        PodSandboxStatus {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            state: if record.phase == Phase::Ready { SandboxState::Ready } else { SandboxState::NotReady },
            created_at: record.created_at,
            ips: record.ips.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.runtime_handler.clone(),
            namespaces: record.config.linux.security_context.namespaces.clone(),
        }
    }
}

/// Whether a name is one that [`new_id`] gives.
fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Namespace names are seen by tools such as `ip netns`; the prefix says whose they are.
fn netns_name(id: &str) -> String {
    format!("coracle-{}", id.get(..32).unwrap_or(id))
}

/// What the network is told of a sandbox; `None` on the host's network.
pub(crate) fn network_request(record: &SandboxRecord) -> Option<PodNetworkRequest> {
    let path = record.netns.as_ref()?;
    let metadata = &record.config.metadata;
    Some(PodNetworkRequest {
        sandbox_id: record.id.clone(),
        pod_name: metadata.name.clone(),
        pod_namespace: metadata.namespace.clone(),
        pod_uid: metadata.uid.clone(),
        netns_path: path.to_string_lossy().into_owned(),
        port_mappings: record.config.port_mappings.clone(),
        ips: record.ips.clone(),
    })
}

/// The files of `/etc` that all containers of the pod see.
fn write_etc(folder: &Path, config: &PodSandboxConfig) -> coracle_host::Result<()> {
    let write = |name: &str, text: &str| host_fs::replace(&folder.join(name), text.as_bytes(), false);
    let host_file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    match &config.dns_config {
        Some(dns) => {
            let mut text = String::new();
            if !dns.searches.is_empty() {
                text += &format!("search {}\n", dns.searches.join(" "));
            }
            for server in &dns.servers {
                text += &format!("nameserver {server}\n");
            }
            if !dns.options.is_empty() {
                text += &format!("options {}\n", dns.options.join(" "));
            }
            write("resolv.conf", &text)?;
        }
        None => write("resolv.conf", &host_file("/etc/resolv.conf"))?,
    }
    let hostname = if config.hostname.is_empty() { info::machine().hostname } else { config.hostname.clone() };
    write("hostname", &format!("{hostname}\n"))?;
    write("hosts", &host_file("/etc/hosts"))
}
