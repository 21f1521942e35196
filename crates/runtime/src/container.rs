//! Containers: made, started, stopped, removed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::{
    ContainerConfig, ContainerState, ContainerStatus, Error, LinuxContainerResources, LinuxContainerUser,
    PodSandboxConfig, Result, RuntimeEvent,
};
use coracle_host::{Context, fs as host_fs, info};
use coracle_image::ImageRecord;

use crate::client::done;
use crate::image_volumes;
use crate::prepare;
use crate::records::{ContainerRecord, Phase, save};
use crate::runtime::{Container, Runtime, blocking, internal, new_id};
use crate::shim::START_ERROR_CODE;
use crate::signals;
use crate::spec::{Answer, Call, ContainerSpec, RunState, SPEC_FILE};

/// Exit code of a container whose end nobody saw. Source: containerd `unknownExitCode`.
const UNKNOWN_EXIT_CODE: i32 = 255;
/// How long a killed process may take to be gone.
const KILL_WAIT_MAX: Duration = Duration::from_secs(120);

impl Runtime {
    pub(crate) async fn make_container(
        self: &Arc<Self>,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String> {
        let sandbox = self.sandbox(sandbox_id)?;
        if sandbox.record.phase != Phase::Ready {
            return Err(Error::FailedPrecondition(format!("sandbox container {sandbox_id:?} is not running")));
        }
        let id = new_id()?;
        let (runtime, config, sandbox_config) = (self.clone(), config.clone(), sandbox_config.clone());
        let (new, of) = (id.clone(), sandbox_id.to_owned());
        let record = blocking(move || {
            let made = runtime.make_container_files(&new, &of, config, &sandbox_config);
            made.inspect_err(|_| {
                runtime.remove_container_files(&new, &format!("{}/{new}", sandbox_config.linux.cgroup_parent))
            })
        })
        .await?;
        self.state().containers.insert(id.clone(), Container::new(record, RunState::default()));
        Ok(id)
    }

    fn make_container_files(
        &self,
        id: &str,
        sandbox_id: &str,
        config: ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<ContainerRecord> {
        let image = self.images.find(&config.image);
        let image =
            image.ok_or_else(|| Error::NotFound(format!("failed to resolve image {:?}: not found", config.image)))?;
        let image_config = self.images.image_config(&image.id).map_err(internal)?;
        let mut prepared = prepare::container(prepare::Request {
            id,
            sandbox_id,
            config: &config,
            sandbox,
            image: &image_config,
            layers: self.images.layer_dirs(&image.layers),
            folders: &self.folders,
            images: &self.images,
            own_caps: self.own_caps,
        })?;
        let folder = self.folders.container(id);
        let anonymous = image_volumes::make(&image_config, &config, &self.images.layer_dirs(&image.layers), &folder);
        prepared.spec.mounts.extend(anonymous.map_err(internal)?);
        prepared.spec.mounts.sort_by_key(|mount| mount.target.components().count());
        for name in ["", "upper", "work", "rootfs"] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).context(|| format!("create {}", path.display())).map_err(internal)?;
        }
        make_mapped_folders(&prepared.spec).map_err(internal)?;
        let cgroup = format!("{}/{id}", sandbox.linux.cgroup_parent.trim_end_matches('/'));
        let group = self.cgroups.group(&cgroup).map_err(internal)?;
        group.create().map_err(internal)?;
        group.set(&prepare::limits(&config.linux.resources)).map_err(internal)?;
        group.set_devices(&prepared.device_rules).map_err(internal)?;
        let log_path = (!config.log_path.is_empty() && !sandbox.log_directory.is_empty())
            .then(|| Path::new(&sandbox.log_directory).join(&config.log_path));
        if let Some(folder) = log_path.as_deref().and_then(Path::parent) {
            std::fs::create_dir_all(folder).context(|| format!("create {}", folder.display())).map_err(internal)?;
        }
        prepared.spec.cgroup = cgroup.clone();
        prepared.spec.cgroup_procs = group.procs_files();
        prepared.spec.hierarchies = self.cgroups.hierarchies();
        prepared.spec.log_path.clone_from(&log_path);
        save(&folder.join(SPEC_FILE), &prepared.spec).map_err(internal)?;
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox_id: sandbox_id.to_owned(),
            created_at: info::now_nanos(),
            image_ref: image_ref(&image),
            image_id: image.id.to_string(),
            layers: self.layers_of(&image, &config),
            cgroup,
            log_path,
            uid: prepared.user.uid,
            gid: prepared.user.gid,
            groups: prepared.user.groups,
            stop_signal: config.stop_signal.clone().unwrap_or(image_config.config.stop_signal),
            config,
        };
        self.folders.save_container(&record).map_err(internal)?;
        Ok(record)
    }

    /// Layers of the image, and of the images it mounts.
    fn layers_of(&self, image: &ImageRecord, config: &ContainerConfig) -> Vec<coracle_image::Digest> {
        let mounted = config.mounts.iter().filter_map(|mount| self.images.find(mount.image.as_deref()?));
        image.layers.iter().cloned().chain(mounted.flat_map(|image| image.layers)).collect()
    }

    pub(crate) async fn run_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let _turn = container.turn.lock().await;
        let container = self.container(id)?;
        if container.run.started_at != 0 || container.run.finished_at != 0 {
            return Err(Error::FailedPrecondition(format!("container {id:?} is not in created state")));
        }
        let shim = self.shim_of(&container)?;
        match shim.call(Call::Start { container: id.to_owned() }).await {
            Ok(Answer::Started(run)) => {
                self.container_started(id, run);
                Ok(())
            }
            Ok(answer) => {
                let why = done(answer).err().map_or_else(|| "no answer".to_owned(), |error| error.to_string());
                self.container_not_started(id, &why);
                Err(Error::Internal(why))
            }
            Err(error) => {
                self.container_not_started(id, &error.to_string());
                Err(error)
            }
        }
    }

    fn container_started(&self, id: &str, run: RunState) {
        let mut state = self.state();
        let Some(container) = state.containers.get_mut(id) else { return };
        // Its exit may have been heard of already.
        if container.run.finished_at == 0 {
            container.run = run;
        }
        let sandbox_id = container.record.sandbox_id.clone();
        drop(state);
        let pod_uid = self.pod_uid(&sandbox_id);
        self.emit(RuntimeEvent::ContainerStarted { container_id: id.to_owned(), sandbox_id, pod_uid });
    }

    fn container_not_started(&self, id: &str, why: &str) {
        let now = info::now_nanos();
        let run = RunState {
            started_at: 0,
            finished_at: now,
            exit_code: START_ERROR_CODE,
            error: Some(why.to_owned()),
            ..RunState::default()
        };
        if let Err(error) = self.folders.save_run_state(id, &run) {
            tracing::warn!(container = id, %error, "the state of a container cannot be kept");
        }
        self.container_exited(id, run);
    }

    pub(crate) fn container_exited(&self, id: &str, run: RunState) {
        let mut state = self.state();
        let Some(container) = state.containers.get_mut(id) else { return };
        if container.run.finished_at != 0 {
            return;
        }
        container.run = run;
        let (sandbox_id, exited) = (container.record.sandbox_id.clone(), container.exited.clone());
        drop(state);
        exited.send_replace(true);
        let pod_uid = self.pod_uid(&sandbox_id);
        self.emit(RuntimeEvent::ContainerExited { container_id: id.to_owned(), sandbox_id, pod_uid });
    }

    /// What still counts as running in a sandbox without a shim has ended, and how is on disk or not known.
    pub(crate) async fn lose_containers(self: &Arc<Self>, sandbox_id: &str) {
        let running = {
            let state = self.state();
            let of_it = state.containers.values().filter(|container| container.record.sandbox_id == sandbox_id);
            of_it.filter(|container| container.run.finished_at == 0).cloned().collect::<Vec<_>>()
        };
        for container in running {
            let id = container.record.id.clone();
            let on_disk = self.folders.run_state(&id);
            if on_disk.finished_at != 0 {
                self.container_exited(&id, on_disk);
            } else if on_disk.pid != 0 || container.is_running() {
                self.kill_leftovers(&container.record.cgroup).await;
                let run = RunState { finished_at: info::now_nanos(), exit_code: UNKNOWN_EXIT_CODE, ..on_disk };
                if let Err(error) = self.folders.save_run_state(&id, &run) {
                    tracing::warn!(container = id, %error, "the state of a container cannot be kept");
                }
                self.container_exited(&id, run);
            }
        }
    }

    async fn kill_leftovers(self: &Arc<Self>, cgroup: &str) {
        let (runtime, cgroup) = (self.clone(), cgroup.to_owned());
        let killed = blocking(move || {
            let group = runtime.cgroups.group(&cgroup).map_err(internal)?;
            group.kill().map_err(internal)
        });
        if let Err(error) = killed.await {
            tracing::warn!(%error, "processes without a shim cannot be killed");
        }
    }

    pub(crate) async fn end_container(self: &Arc<Self>, id: &str, timeout: Duration) -> Result<()> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        if !container.is_running() {
            return Ok(());
        }
        let Ok(shim) = self.shim_of(&container) else { return Ok(()) };
        let mut exited = container.exited.subscribe();
        if !timeout.is_zero() {
            let signal = signals::number(&container.record.stop_signal).unwrap_or(libc::SIGTERM);
            shim.order(Call::Kill { container: id.to_owned(), signal, all: false }).await?;
            if tokio::time::timeout(timeout, exited.wait_for(|exited| *exited)).await.is_ok() {
                return Ok(());
            }
        }
        shim.order(Call::Kill { container: id.to_owned(), signal: libc::SIGKILL, all: true }).await?;
        match tokio::time::timeout(KILL_WAIT_MAX, exited.wait_for(|exited| *exited)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::DeadlineExceeded(format!(
                "an error occurs during waiting for container {id:?} to be killed"
            ))),
        }
    }

    pub(crate) async fn delete_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        self.end_container(id, Duration::ZERO).await?;
        let _turn = container.turn.lock().await;
        if self.container(id).is_err() {
            return Ok(());
        }
        if let Ok(shim) = self.shim_of(&container) {
            shim.order(Call::Forget { container: id.to_owned() }).await?;
        }
        let (runtime, cgroup, gone) = (self.clone(), container.record.cgroup.clone(), id.to_owned());
        blocking(move || {
            runtime.remove_container_files(&gone, &cgroup);
            Ok(())
        })
        .await?;
        self.state().containers.remove(id);
        let sandbox_id = container.record.sandbox_id.clone();
        let pod_uid = self.pod_uid(&sandbox_id);
        self.emit(RuntimeEvent::ContainerRemoved { container_id: id.to_owned(), sandbox_id, pod_uid });
        Ok(())
    }

    pub(crate) fn remove_container_files(&self, id: &str, cgroup: &str) {
        let group = self.cgroups.group(cgroup).and_then(|group| group.remove());
        for result in [group, host_fs::remove_all(&self.folders.container(id))] {
            if let Err(error) = result {
                tracing::warn!(container = id, %error, "something of a container cannot be removed");
            }
        }
    }

    pub(crate) async fn change_limits(self: &Arc<Self>, id: &str, resources: &LinuxContainerResources) -> Result<()> {
        let container = self.container(id)?;
        let mut record = (*container.record).clone();
        let known = &mut record.config.linux.resources;
        merge(known, resources);
        let (runtime, limits, cgroup) = (self.clone(), prepare::limits(resources), record.cgroup.clone());
        let saved = record.clone();
        blocking(move || {
            let group = runtime.cgroups.group(&cgroup).map_err(internal)?;
            group.set(&limits).map_err(internal)?;
            runtime.folders.save_container(&saved).map_err(internal)
        })
        .await?;
        if let Some(container) = self.state().containers.get_mut(id) {
            container.record = Arc::new(record);
        }
        Ok(())
    }

    pub(crate) fn status_of(&self, container: &Container) -> ContainerStatus {
        let (record, run) = (&container.record, &container.run);
        let state = match (run.started_at, run.finished_at) {
            (_, finished) if finished != 0 => ContainerState::Exited,
            (started, _) if started != 0 => ContainerState::Running,
            _ => ContainerState::Created,
        };
        let (reason, message) = reason(run);
        ContainerStatus {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            metadata: record.config.metadata.clone(),
            state,
            created_at: record.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            exit_code: run.exit_code,
            signal: run.signal,
            reason,
            message,
            image: image_name(&record.config),
            image_ref: record.image_ref.clone(),
            image_id: record.image_id.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            mounts: record.config.mounts.clone(),
            log_path: record.log_path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
            resources: self.resources_of(record, state),
            user: Some(LinuxContainerUser {
                uid: record.uid.into(),
                gid: record.gid.into(),
                supplemental_groups: record.groups.iter().map(|group| i64::from(*group)).collect(),
            }),
            stop_signal: signals::name(&record.stop_signal),
            pid: container.is_running().then_some(run.pid),
        }
    }

    /// The limits as the kernel has them while the container is there to have any.
    fn resources_of(&self, record: &ContainerRecord, state: ContainerState) -> LinuxContainerResources {
        let asked = record.config.linux.resources.clone();
        let Ok(group) = self.cgroups.group(&record.cgroup) else { return asked };
        if state == ContainerState::Exited {
            return asked;
        }
        let limits = group.limits_as_asked(asked.cpu_shares);
        LinuxContainerResources {
            cpu_period: limits.cpu_period,
            cpu_quota: limits.cpu_quota,
            cpu_shares: limits.cpu_shares,
            memory_limit: limits.memory,
            ..asked
        }
    }
}

/// Folders that a container with users of its own needs besides: its root is its own, and its layers have a place each.
fn make_mapped_folders(spec: &ContainerSpec) -> coracle_host::Result<()> {
    let Some(map) = &spec.users else { return Ok(()) };
    let upper = std::fs::File::open(&spec.upper).context(|| format!("open {}", spec.upper.display()))?;
    host_fs::chown(&upper, map.uid(0), map.gid(0))?;
    for number in 0..spec.layers.len() {
        let place = spec.lower.join(number.to_string());
        std::fs::create_dir_all(&place).context(|| format!("create {}", place.display()))?;
    }
    Ok(())
}

/// What is said takes the place of what was known.
fn merge(known: &mut LinuxContainerResources, said: &LinuxContainerResources) {
    if said.cpu_period != 0 {
        known.cpu_period = said.cpu_period;
    }
    if said.cpu_quota != 0 {
        known.cpu_quota = said.cpu_quota;
    }
    if said.cpu_shares != 0 {
        known.cpu_shares = said.cpu_shares;
    }
    if said.memory_limit != 0 {
        known.memory_limit = said.memory_limit;
    }
    if said.pids_limit != 0 {
        known.pids_limit = said.pids_limit;
    }
    if !said.cpuset_cpus.is_empty() {
        known.cpuset_cpus.clone_from(&said.cpuset_cpus);
    }
    if !said.cpuset_mems.is_empty() {
        known.cpuset_mems.clone_from(&said.cpuset_mems);
    }
}

/// Source: containerd `internal/cri/server/container_status.go`.
fn reason(run: &RunState) -> (String, String) {
    if run.finished_at == 0 {
        return (String::new(), String::new());
    }
    let reason = match run {
        RunState { error: Some(_), .. } => "StartError",
        RunState { oom_killed: true, .. } => "OOMKilled",
        RunState { exit_code: 0, .. } => "Completed",
        RunState { exit_code: UNKNOWN_EXIT_CODE, started_at: 0, .. } => "Unknown",
        _ => "Error",
    };
    (reason.to_owned(), run.error.clone().unwrap_or_default())
}

fn image_name(config: &ContainerConfig) -> String {
    if config.user_specified_image.is_empty() { config.image.clone() } else { config.user_specified_image.clone() }
}

fn image_ref(image: &ImageRecord) -> String {
    image.digests.first().cloned().unwrap_or_else(|| image.id.to_string())
}
