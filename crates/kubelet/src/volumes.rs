//! The volumes of pods: made before the first container, kept up to date, taken away after the last.

mod atomic;
mod host_path;
mod ownership;
mod payload;
mod sub_path;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use coracle_api_meta::Quantity;
use coracle_api_types::Object;
use coracle_client::Api;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume};

use crate::context::Context;
use crate::error::IoContext;
use crate::fieldpath::PodFacts;
use crate::{Error, Result};

pub(crate) use sub_path::{check as check_sub_path, prepare as prepare_sub_path};

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder {
        path: PathBuf,
        readonly: bool,
    },
    /// The file system of an image.
    Image {
        reference: String,
        pull_policy: String,
    },
}

/// The volumes of a pod by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    pub(crate) places: BTreeMap<String, Place>,
    /// When contents age by themselves: tokens.
    pub(crate) refresh: Option<Timestamp>,
}

/// A volume that could not be set up, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) volume: String,
    pub(crate) error: Error,
}

/// Names of config maps and secrets that a pod uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// Makes or renews every volume that some container mounts.
pub(crate) async fn set_up(ctx: &Context, pod: &Pod, facts: &PodFacts) -> (Volumes, Vec<Failure>) {
    let mut volumes = Volumes::default();
    let mut failures = Vec::new();
    let used = mounted_names(pod);
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        if !used.contains(volume.name.as_str()) {
            continue;
        }
        match set_up_one(ctx, pod, volume, facts, &mut volumes.refresh).await {
            Ok(place) => {
                volumes.places.insert(volume.name.clone(), place);
            }
            Err(error) => failures.push(Failure { volume: volume.name.clone(), error }),
        }
    }
    (volumes, failures)
}

fn mounted_names(pod: &Pod) -> BTreeSet<&str> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let containers = spec.containers.iter().chain(init).map(|container| &container.volume_mounts);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.volume_mounts);
    containers.chain(ephemeral).flat_map(|mounts| mounts.iter().flatten()).map(|mount| mount.name.as_str()).collect()
}

async fn set_up_one(
    ctx: &Context,
    pod: &Pod,
    volume: &Volume,
    facts: &PodFacts,
    refresh: &mut Option<Timestamp>,
) -> Result<Place> {
    if let Some(source) = &volume.empty_dir {
        return empty_dir(ctx, pod, &volume.name, source).await;
    }
    if let Some(source) = &volume.host_path {
        let (path, kind) = (source.path.clone(), source.type_.clone().unwrap_or_default());
        blocking(move || host_path::check(Path::new(&path), &kind)).await?;
        return Ok(Place::Folder { path: PathBuf::from(&source.path), readonly: false });
    }
    if let Some(source) = &volume.image {
        let reference = source.reference.clone().unwrap_or_default();
        let pull_policy = source.pull_policy.clone().unwrap_or_default();
        return Ok(Place::Image { reference, pull_policy });
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return claim(ctx, pod, &source.claim_name, source.read_only == Some(true)).await;
    }
    if volume.ephemeral.is_some() {
        return claim(ctx, pod, &format!("{}-{}", pod.name(), volume.name), false).await;
    }
    if let Some(payload) = payload::of(ctx, pod, volume, facts, refresh).await? {
        let path = folder_of(ctx, pod, payload.plugin, &volume.name);
        let (target, group) = (path.clone(), fs_group(pod));
        blocking(move || {
            make_folder(&target)?;
            if atomic::write(&target, &payload.files)? {
                ownership::apply(&target, group, ownership::Access::ReadOnly)?;
            }
            Ok(())
        })
        .await?;
        return Ok(Place::Folder { path, readonly: true });
    }
    Err(Error::message(format!("no volume plugin matched for volume {:?}", volume.name)))
}

async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::message(format!("volume work was interrupted: {error}"))),
    }
}

pub(super) fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

fn folder_of(ctx: &Context, pod: &Pod, plugin: &str, name: &str) -> PathBuf {
    ctx.pod_dir(pod.uid()).join("volumes").join(plugin).join(name)
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).context(|| format!("create {}", path.display()))?;
    set_mode(path, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .context(|| format!("set the mode of {}", path.display()))
}

async fn empty_dir(ctx: &Context, pod: &Pod, name: &str, source: &EmptyDirVolumeSource) -> Result<Place> {
    let path = folder_of(ctx, pod, "kubernetes.io~empty-dir", name);
    let place = Place::Folder { path: path.clone(), readonly: false };
    let marker = path.with_extension("ready");
    let medium = source.medium.clone().unwrap_or_default();
    let size = source.size_limit.as_ref().and_then(|size| Quantity::parse(&size.0).ok()).map_or(0, |q| q.value());
    let group = fs_group(pod);
    blocking(move || {
        let in_memory = medium == "Memory";
        std::fs::create_dir_all(&path).context(|| format!("create {}", path.display()))?;
        let mounted = in_memory && coracle_host::mount::is_mountpoint(&path)?;
        if marker.exists() && (mounted || !in_memory) && path.is_dir() {
            return Ok(());
        }
        if in_memory && !mounted {
            coracle_host::mount::tmpfs(&path, u64::try_from(size).unwrap_or(0), 0o777)?;
        }
        set_mode(&path, 0o777)?;
        ownership::apply(&path, group, ownership::Access::ReadWrite)?;
        std::fs::write(&marker, b"").context(|| format!("write {}", marker.display()))
    })
    .await?;
    Ok(place)
}

/// A claim that is bound to a volume which lives on this node.
async fn claim(ctx: &Context, pod: &Pod, name: &str, readonly: bool) -> Result<Place> {
    let api = Api::<PersistentVolumeClaim>::namespaced(&ctx.client, pod.namespace());
    let claim = api.get_opt(name).await?;
    let claim = claim.ok_or_else(|| Error::message(format!("persistentvolumeclaim \"{name}\" not found")))?;
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty());
    let Some(volume) = volume.filter(|_| bound) else {
        return Err(Error::message(format!(
            "PVC {}/{name} has non-bound phase or empty pvc.Spec.VolumeName",
            pod.namespace()
        )));
    };
    let volume = Api::<PersistentVolume>::all(&ctx.client).get(&volume).await?;
    let spec = volume.spec.unwrap_or_default();
    let is_local = spec.host_path.is_none();
    let (path, kind) = match (spec.host_path, spec.local) {
        (Some(host_path), _) => (host_path.path, host_path.type_.unwrap_or_default()),
        (None, Some(local)) => (local.path, "Directory".to_owned()),
        (None, None) => return Err(Error::message("no volume plugin matched for the persistent volume")),
    };
    let checked = PathBuf::from(&path);
    // Files of the host itself keep their owners; a local volume is the pods'.
    let group = fs_group(pod).filter(|_| is_local && !readonly);
    blocking(move || {
        host_path::check(&checked, &kind)?;
        if ownership::belongs_to(&checked, group) {
            Ok(())
        } else {
            ownership::apply(&checked, group, ownership::Access::ReadWrite)
        }
    })
    .await?;
    Ok(Place::Folder { path: PathBuf::from(path), readonly })
}

/// Takes away everything of a pod: mounts first, then files. Nothing is removed below a mount that stays.
pub(crate) async fn tear_down(pod_dir: PathBuf) -> Result<()> {
    blocking(move || {
        if !pod_dir.exists() {
            return Ok(());
        }
        if let Some((path, error)) = coracle_host::mount::umount_below(&pod_dir)?.into_iter().next() {
            return Err(Error::message(format!("unmount {}: {error}", path.display())));
        }
        coracle_host::fs::remove_all(&pod_dir)?;
        Ok(())
    })
    .await
}

/// What a pod's volumes and environment read from the API.
pub(crate) fn references(pod: &Pod) -> References {
    let mut found = References::default();
    let Some(spec) = &pod.spec else { return found };
    for volume in spec.volumes.iter().flatten() {
        found.add_volume(volume);
    }
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for container in spec.containers.iter().chain(init) {
        for source in container.env_from.iter().flatten() {
            found.config_maps.extend(source.config_map_ref.iter().map(|reference| reference.name.clone()));
            found.secrets.extend(source.secret_ref.iter().map(|reference| reference.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            found.config_maps.extend(source.config_map_key_ref.iter().map(|selector| selector.name.clone()));
            found.secrets.extend(source.secret_key_ref.iter().map(|selector| selector.name.clone()));
        }
    }
    found.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|reference| reference.name.clone()));
    found
}

impl References {
    fn add_volume(&mut self, volume: &Volume) {
        self.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        self.secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for source in projected {
            self.config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            self.secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
}
