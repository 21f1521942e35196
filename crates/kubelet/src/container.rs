//! One container, as the runtime is asked for it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use coracle_api_types::Object;
use coracle_cri::{
    ContainerConfig, ContainerMetadata, ContainerState, Image, LinuxContainerConfig, Mount, MountPropagation,
    NamespaceMode,
};
use coracle_plan_pods::{grace_seconds, resources, spec_hash};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, VolumeMount};

use crate::context::Context;
use crate::env::{Environment, expand, expand_with};
use crate::error::IoContext;
use crate::fieldpath::PodFacts;
use crate::sandbox::{LABEL_CONTAINER_NAME, LABEL_POD_UID, labels, seccomp_dir};
use crate::volumes::{Place, Volumes, check_sub_path, prepare_sub_path};
use crate::{Error, Result, env, hosts, security};

const ANNOTATION_HASH: &str = "io.kubernetes.container.hash";
const ANNOTATION_RESTARTS: &str = "io.kubernetes.container.restartCount";
pub(crate) const ANNOTATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const ANNOTATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub(crate) const ANNOTATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
const MESSAGE_PATH_DEFAULT: &str = "/dev/termination-log";

/// What a container is made from.
pub(crate) struct Recipe<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) attempt: u32,
    /// As the runtime knows the image.
    pub(crate) image_id: String,
    pub(crate) image: Image,
    pub(crate) volumes: &'a Volumes,
    /// Ids of the images of image volumes, by volume.
    pub(crate) image_volumes: &'a BTreeMap<String, String>,
    pub(crate) facts: &'a PodFacts,
}

/// Errors of this become `CreateContainerConfigError`.
pub(crate) async fn config_for(ctx: &Context, recipe: &Recipe<'_>) -> Result<ContainerConfig> {
    let (pod, container) = (recipe.pod, recipe.container);
    let environment = env::environment(ctx, pod, container, recipe.facts).await?;
    let mut security_context = security::container_context(pod, container, &recipe.image, &seccomp_dir(ctx))?;
    if let Some(target) = target_of(ctx, recipe).await? {
        security_context.namespaces.pid = NamespaceMode::Target;
        security_context.namespaces.target_id = target;
    }
    let mut mounts = volume_mounts(ctx, recipe, &environment)?;
    mounts.extend(hosts_mount(ctx, recipe, &mounts)?);
    mounts.push(termination_mount(ctx, recipe)?);
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| expand(word, &[&environment])).collect()
    };
    let resources = resources::container_resources(pod, container, ctx.facts.memory_capacity);
    std::fs::create_dir_all(ctx.pod_log_dir(pod).join(&container.name))
        .context(|| format!("create container log directory for container {}", container.name))?;
    let mut labels = labels(pod);
    labels.insert(LABEL_CONTAINER_NAME.to_owned(), container.name.clone());
    Ok(ContainerConfig {
        metadata: ContainerMetadata { name: container.name.clone(), attempt: recipe.attempt },
        image: recipe.image_id.clone(),
        user_specified_image: container.image.clone().unwrap_or_default(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        mounts,
        devices: Vec::new(),
        labels,
        annotations: annotations(recipe),
        log_path: format!("{}/{}.log", container.name, recipe.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: LinuxContainerConfig { resources, security_context },
        stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
    })
}

fn annotations(recipe: &Recipe<'_>) -> BTreeMap<String, String> {
    let container = recipe.container;
    let grace = grace_seconds(recipe.pod, None, coracle_plan_pods::KillReason::Other);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let list = [
        (ANNOTATION_HASH, spec_hash(container)),
        (ANNOTATION_RESTARTS, recipe.attempt.to_string()),
        (ANNOTATION_MESSAGE_PATH, message_path(container).to_owned()),
        (ANNOTATION_MESSAGE_POLICY, policy.to_owned()),
        (ANNOTATION_GRACE, grace.to_string()),
    ];
    list.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(MESSAGE_PATH_DEFAULT)
}

/// Folder of the kubelet's own files of a container.
fn container_dir(ctx: &Context, recipe: &Recipe<'_>) -> PathBuf {
    ctx.pod_dir(recipe.pod.uid()).join("containers").join(&recipe.container.name)
}

/// The file that the container leaves its last words in, writable for every user.
fn termination_mount(ctx: &Context, recipe: &Recipe<'_>) -> Result<Mount> {
    let dir = container_dir(ctx, recipe);
    std::fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
    let path = dir.join(format!("termination-{}", recipe.attempt));
    std::fs::write(&path, b"").context(|| format!("create {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))
        .context(|| format!("set the mode of {}", path.display()))?;
    Ok(Mount {
        container_path: message_path(recipe.container).to_owned(),
        host_path: path.to_string_lossy().into_owned(),
        ..Mount::default()
    })
}

/// `/etc/hosts`, unless the container mounts something there itself.
fn hosts_mount(ctx: &Context, recipe: &Recipe<'_>, mounts: &[Mount]) -> Result<Option<Mount>> {
    let pod = recipe.pod;
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let taken = mounts.iter().any(|mount| mount.container_path.trim_end_matches('/') == "/etc/hosts");
    if taken || (recipe.facts.pod_ips.is_empty() && !host_network) {
        return Ok(None);
    }
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    let content = if host_network {
        let host_file = std::fs::read_to_string("/etc/hosts").context(|| "read /etc/hosts".to_owned())?;
        hosts::of_host(&host_file, aliases)
    } else {
        let (name, domain) = hosts::name_and_domain(pod, &ctx.config.cluster_domain);
        hosts::managed(&recipe.facts.pod_ips, &name, &domain, aliases)
    };
    let dir = ctx.pod_dir(pod.uid());
    std::fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
    let path = dir.join("etc-hosts");
    // Written in place: running containers have the file mounted.
    std::fs::write(&path, content).context(|| format!("write {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        .context(|| format!("set the mode of {}", path.display()))?;
    Ok(Some(Mount {
        container_path: "/etc/hosts".to_owned(),
        host_path: path.to_string_lossy().into_owned(),
        ..Mount::default()
    }))
}

fn volume_mounts(ctx: &Context, recipe: &Recipe<'_>, environment: &Environment) -> Result<Vec<Mount>> {
    let mounts = recipe.container.volume_mounts.iter().flatten().enumerate();
    mounts.map(|(index, mount)| volume_mount(ctx, recipe, environment, index, mount)).collect()
}

fn volume_mount(
    ctx: &Context,
    recipe: &Recipe<'_>,
    environment: &Environment,
    index: usize,
    mount: &VolumeMount,
) -> Result<Mount> {
    let name = &recipe.container.name;
    let place = recipe.volumes.places.get(&mount.name).ok_or_else(|| {
        Error::message(format!("cannot find volume {:?} to mount into container {name:?}", mount.name))
    })?;
    let sub_path = sub_path_of(mount, environment)?;
    if !sub_path.is_empty() {
        check_sub_path(&sub_path)?;
    }
    let path = &mount.mount_path;
    let read_only = mount.read_only == Some(true);
    let mut made = Mount {
        container_path: if path.starts_with('/') { path.clone() } else { format!("/{path}") },
        readonly: read_only,
        recursive_read_only: read_only
            && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::HostToContainer,
            Some("Bidirectional") => MountPropagation::Bidirectional,
            _ => MountPropagation::Private,
        },
        ..Mount::default()
    };
    match place {
        Place::Image { .. } => {
            made.image = recipe.image_volumes.get(&mount.name).cloned();
            made.image_sub_path = sub_path;
            made.readonly = true;
        }
        Place::Folder { path, readonly } => {
            made.readonly |= readonly;
            let host_path = if sub_path.is_empty() {
                path.clone()
            } else {
                let target = ctx.pod_dir(recipe.pod.uid()).join("volume-subpaths").join(&mount.name);
                let target = target.join(name).join(index.to_string());
                prepare_sub_path(path, &sub_path, &target).map_err(|error| {
                    Error::message(format!(
                        "failed to prepare subPath for volumeMount {:?} of container {name:?}: {error}",
                        mount.name
                    ))
                })?
            };
            made.host_path = host_path.to_string_lossy().into_owned();
        }
    }
    Ok(made)
}

fn sub_path_of(mount: &VolumeMount, environment: &Environment) -> Result<String> {
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(mount.sub_path.clone().unwrap_or_default());
    };
    let known = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
    let (text, unknown) = expand_with(expression, known);
    match unknown.first() {
        Some(_) => Err(Error::message(format!(
            "missing value for {}",
            unknown.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
        ))),
        None => Ok(text),
    }
}

/// The container whose processes an ephemeral container is to see. Source: `targetContainerName`.
async fn target_of(ctx: &Context, recipe: &Recipe<'_>) -> Result<Option<String>> {
    let all = recipe.pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let own = all.into_iter().find(|container| container.name == recipe.container.name);
    let Some(name) = own.and_then(|own| own.target_container_name.as_ref()) else { return Ok(None) };
    let uid = recipe.pod.metadata.uid.as_ref();
    let found = ctx.runtime.list_containers().await?.into_iter().find(|container| {
        container.labels.get(LABEL_CONTAINER_NAME) == Some(name)
            && container.labels.get(LABEL_POD_UID) == uid
            && container.state == ContainerState::Running
    });
    match found {
        Some(container) => Ok(Some(container.id)),
        None => Err(Error::message(format!("unable to find target container {name}"))),
    }
}

/// An ephemeral container as a container: the same fields but those that it must not have.
pub(crate) fn from_ephemeral(source: &EphemeralContainer) -> Container {
    Container {
        args: source.args.clone(),
        command: source.command.clone(),
        env: source.env.clone(),
        env_from: source.env_from.clone(),
        image: source.image.clone(),
        image_pull_policy: source.image_pull_policy.clone(),
        name: source.name.clone(),
        security_context: source.security_context.clone(),
        stdin: source.stdin,
        stdin_once: source.stdin_once,
        termination_message_path: source.termination_message_path.clone(),
        termination_message_policy: source.termination_message_policy.clone(),
        tty: source.tty,
        volume_mounts: source.volume_mounts.clone(),
        working_dir: source.working_dir.clone(),
        ..Container::default()
    }
}
