//! From what the kubelet asks for to what a shim runs.

use std::path::{Path, PathBuf};

use coracle_cri as cri;
use coracle_cri::{ContainerConfig, Error, NamespaceMode, PodSandboxConfig, Result};
use coracle_host::caps::Caps;
use coracle_host::cgroup::{DeviceRule, Limits};
use coracle_host::userns::{IdMap, IdRange};
use coracle_host::{Context, fs as host_fs};
use coracle_image::{ImageConfig, ImageStore};

use crate::privileges;
use crate::records::Folders;
use crate::seccomp;
use crate::spec::{ContainerSpec, DeviceSpec, MountSource, MountSpec, PidMode, ProcessSpec, Propagation};
use crate::users::{Tables, User};

/// Source: containerd `defaultUnixEnv`.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Files of a sandbox that its containers see unless the pod mounts something else there.
const SANDBOX_FILES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

/// All that goes into one container.
pub(crate) struct Request<'a> {
    pub id: &'a str,
    pub sandbox_id: &'a str,
    pub config: &'a ContainerConfig,
    pub sandbox: &'a PodSandboxConfig,
    pub image: &'a ImageConfig,
    pub layers: Vec<PathBuf>,
    pub folders: &'a Folders,
    pub images: &'a ImageStore,
    /// Capabilities of this process.
    pub own_caps: Caps,
}

/// The parts of a spec that the caller completes with cgroups and the log.
pub(crate) struct Prepared {
    pub spec: ContainerSpec,
    pub user: User,
    pub device_rules: Vec<DeviceRule>,
}

pub(crate) fn container(request: Request<'_>) -> Result<Prepared> {
    let context = &request.config.linux.security_context;
    let invalid = Error::InvalidArgument;
    let tables = Tables::read(&request.layers).map_err(internal)?;
    let user = tables.resolve(context, &request.image.config.user).map_err(invalid)?;
    let (devices, device_rules) = devices(request.config)?;
    let folder = request.folders.container(request.id);
    let process = process(&request, &user)?;
    let spec = ContainerSpec {
        id: request.id.to_owned(),
        upper: folder.join("upper"),
        work: folder.join("work"),
        rootfs: folder.join("rootfs"),
        readonly_rootfs: context.readonly_rootfs,
        users: users(request.sandbox),
        lower: folder.join("lower"),
        mounts: mounts(&request)?,
        devices,
        privileged: context.privileged,
        pid: match context.namespaces.pid {
            NamespaceMode::Pod => PidMode::Pod,
            NamespaceMode::Container => PidMode::Own,
            NamespaceMode::Node => PidMode::Host,
            NamespaceMode::Target => PidMode::Container(context.namespaces.target_id.clone()),
        },
        masked_paths: if context.privileged { Vec::new() } else { context.masked_paths.clone() },
        readonly_paths: if context.privileged { Vec::new() } else { context.readonly_paths.clone() },
        shm: Some(match context.namespaces.ipc {
            NamespaceMode::Node => PathBuf::from("/dev/shm"),
            _ => request.folders.shm(request.sandbox_id),
        }),
        process,
        stdin: request.config.stdin,
        stdin_once: request.config.stdin_once,
        layers: request.layers,
        ..ContainerSpec::default()
    };
    Ok(Prepared { spec, user, device_rules })
}

/// How the pod's users are numbered outside, if they are others there.
pub(crate) fn users(sandbox: &PodSandboxConfig) -> Option<IdMap> {
    let asked = sandbox.linux.security_context.namespaces.user.as_ref()?;
    let ranges = |list: &[cri::IdMapping]| {
        let each = list.iter().map(|mapping| IdRange {
            inside: mapping.container_id,
            outside: mapping.host_id,
            length: mapping.length,
        });
        each.collect()
    };
    Some(IdMap { uids: ranges(&asked.uids), gids: ranges(&asked.gids) })
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(error.to_string())
}

fn process(request: &Request<'_>, user: &User) -> Result<ProcessSpec> {
    let (config, image) = (request.config, &request.image.config);
    let context = &config.linux.security_context;
    let seccomp = if context.privileged { &cri::SecurityProfile::Unconfined } else { &context.seccomp };
    let caps = privileges::capabilities(context, request.own_caps).map_err(Error::InvalidArgument)?;
    let working_dir = [&config.working_dir, &image.working_dir].into_iter().find(|dir| !dir.is_empty());
    let working_dir = working_dir.cloned().unwrap_or_else(|| "/".to_owned());
    Ok(ProcessSpec {
        arguments: arguments(config, request.image)?,
        environment: environment(request, user),
        working_dir: Path::new("/").join(working_dir).to_string_lossy().into_owned(),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        caps,
        no_new_privs: context.no_new_privs,
        seccomp: seccomp::filter(seccomp, caps).map_err(Error::InvalidArgument)?,
        tty: config.tty,
        oom_score_adj: config.linux.resources.oom_score_adj,
    })
}

/// Source: Kubernetes, "Define a Command and Arguments for a Container": a command drops the image's arguments too.
fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>> {
    let (mut command, mut args) = (config.command.clone(), config.args.clone());
    if command.is_empty() {
        if args.is_empty() {
            args.clone_from(&image.config.cmd);
        }
        command.clone_from(&image.config.entrypoint);
    }
    command.append(&mut args);
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::InvalidArgument("no command specified".into()));
    }
    Ok(command)
}

/// Later entries of the same name win, in the place of the first.
fn environment(request: &Request<'_>, user: &User) -> Vec<String> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match entries.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => entries.push((name.to_owned(), value.to_owned())),
    };
    let image = request.image.config.env.iter().map(String::as_str);
    for entry in [DEFAULT_PATH].into_iter().chain(image) {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    if request.config.tty {
        set("TERM", "xterm");
    }
    let hostname = if request.sandbox.hostname.is_empty() {
        coracle_host::info::machine().hostname
    } else {
        request.sandbox.hostname.clone()
    };
    set("HOSTNAME", &hostname);
    for (name, value) in &request.config.envs {
        set(name, value);
    }
    if !entries.iter().any(|(name, _)| name == "HOME") {
        entries.push(("HOME".to_owned(), user.home.clone()));
    }
    entries.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn mounts(request: &Request<'_>) -> Result<Vec<MountSpec>> {
    let mut mounts = Vec::new();
    let context = &request.config.linux.security_context;
    for (file, target) in SANDBOX_FILES {
        let source = request.folders.sandbox(request.sandbox_id).join(file);
        let taken = request.config.mounts.iter().any(|mount| Path::new(&mount.container_path) == Path::new(target));
        if !taken && source.exists() {
            mounts.push(MountSpec {
                source: MountSource::Path(source),
                target: target.into(),
                readonly: context.readonly_rootfs,
                recursive_readonly: false,
                propagation: Propagation::Private,
            });
        }
    }
    for mount in &request.config.mounts {
        mounts.push(mount_spec(mount, request.images)?);
    }
    // A mount must come after the one it lies in.
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

fn mount_spec(mount: &cri::Mount, images: &ImageStore) -> Result<MountSpec> {
    let is_image = mount.image.is_some();
    let source = match &mount.image {
        Some(image) => {
            let record = images.find(image).ok_or_else(|| Error::NotFound(format!("image {image:?}: not found")))?;
            MountSource::Image { layers: images.layer_dirs(&record.layers), sub_path: mount.image_sub_path.clone() }
        }
        None => MountSource::Path(host_source(&mount.host_path)?),
    };
    if mount.propagation == cri::MountPropagation::Bidirectional
        && !is_shared(Path::new(&mount.host_path)).map_err(internal)?
    {
        let path = &mount.host_path;
        return Err(Error::FailedPrecondition(format!(
            "path {path:?} is mounted on \"/\" but it is not a shared mount"
        )));
    }
    Ok(MountSpec {
        source,
        target: Path::new("/").join(&mount.container_path),
        readonly: mount.readonly || is_image,
        recursive_readonly: mount.recursive_read_only,
        propagation: match mount.propagation {
            cri::MountPropagation::Private => Propagation::Private,
            cri::MountPropagation::HostToContainer => Propagation::HostToContainer,
            cri::MountPropagation::Bidirectional => Propagation::Bidirectional,
        },
    })
}

/// The place on the host, made as a folder when it is missing.
fn host_source(path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Err(Error::InvalidArgument("mount without a host path".into()));
    }
    let path = Path::new(path);
    if std::fs::symlink_metadata(path).is_err() {
        std::fs::create_dir_all(path).context(|| format!("failed to mkdir {}", path.display())).map_err(internal)?;
    }
    path.canonicalize().context(|| format!("failed to resolve symlink {}", path.display())).map_err(internal)
}

/// Whether what is mounted below `path` travels both ways.
fn is_shared(path: &Path) -> coracle_host::Result<bool> {
    let path = path.canonicalize().context(|| format!("resolve {}", path.display()))?;
    let mounts = coracle_host::mount::mounts()?;
    let holds = mounts.iter().filter(|info| path.starts_with(&info.target));
    let nearest = holds.max_by_key(|info| info.target.components().count());
    Ok(nearest.is_some_and(|info| info.shared))
}

fn devices(config: &ContainerConfig) -> Result<(Vec<DeviceSpec>, Vec<DeviceRule>)> {
    if config.linux.security_context.privileged {
        let mut found = Vec::new();
        find_devices(Path::new("/dev"), &mut found);
        return Ok((found, DeviceRule::all()));
    }
    let (mut specs, mut rules) = (Vec::new(), DeviceRule::defaults());
    for device in &config.devices {
        let host_path = Path::new(&device.host_path);
        let spec = device_spec(host_path, Path::new(&device.container_path))
            .ok_or_else(|| Error::InvalidArgument(format!("{:?} is not a device node", device.host_path)))?;
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        rules.push(DeviceRule {
            kind: if spec.character { 'c' } else { 'b' },
            major: Some(spec.major),
            minor: Some(spec.minor),
            access: access.to_owned(),
        });
        specs.push(spec);
    }
    Ok((specs, rules))
}

fn device_spec(host_path: &Path, container_path: &Path) -> Option<DeviceSpec> {
    let node = host_fs::device_node(host_path)?;
    Some(DeviceSpec {
        path: container_path.to_owned(),
        character: node.character,
        major: node.major,
        minor: node.minor,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
    })
}

/// Every device of the host, but for what a container has of its own. Source: containerd `HostDevices`.
fn find_devices(folder: &Path, found: &mut Vec<DeviceSpec>) {
    const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if OWN.iter().any(|own| *own == name) || entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            continue;
        }
        match device_spec(&path, &path) {
            Some(spec) => found.push(spec),
            None if path.is_dir() => find_devices(&path, found),
            None => {}
        }
    }
}

/// Limits in the words of the host.
pub(crate) fn limits(resources: &cri::LinuxContainerResources) -> Limits {
    Limits {
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        memory: resources.memory_limit,
        pids: resources.pids_limit,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepages: resources.hugepage_limits.clone(),
        unified: resources.unified.iter().map(|(file, value)| (file.clone(), value.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_replace_those_of_the_image() {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut image = ImageConfig::default();
        image.config.entrypoint = strings(&["entry"]);
        image.config.cmd = strings(&["cmd"]);
        let check = |command: &[&str], args: &[&str], expected: &[&str]| {
            let config =
                ContainerConfig { command: strings(command), args: strings(args), ..ContainerConfig::default() };
            assert_eq!(arguments(&config, &image).unwrap(), strings(expected));
        };
        check(&[], &[], &["entry", "cmd"]);
        check(&["c"], &[], &["c"]);
        check(&[], &["a"], &["entry", "a"]);
        check(&["c"], &["a"], &["c", "a"]);
        assert!(arguments(&ContainerConfig::default(), &ImageConfig::default()).is_err());
    }
}
