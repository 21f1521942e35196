//! The root file system of a container: overlay, system mounts, volumes, masks.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_host::mount::{self, Attributes, NewAttributes, OverlayUpper};
use coracle_host::{Error, Result, fs as host_fs, process};
use rustix::fs::OFlags;

use super::{Failure, dev};
use crate::spec::{ContainerSpec, MountSource, MountSpec, Propagation};

const STILL: NewAttributes = NewAttributes { readonly: false, nosuid: true, nodev: true, noexec: true };

/// Builds the root in this process's own mount namespace and moves into it.
pub(super) fn enter(spec: &ContainerSpec, users: Option<&OwnedFd>) -> std::result::Result<(), Failure> {
    // Sources first: below, the host's mounts stop to be shared with this namespace.
    let volumes = spec.mounts.iter().map(|volume| open_volume(volume, spec, users));
    let volumes = volumes.collect::<std::result::Result<Vec<_>, _>>()?;
    let shm = spec.shm.as_deref().map(|path| match users {
        Some(users) => mount::clone_mapped(path, users),
        None => mount::clone_tree(path, false),
    });
    let shm = shm.transpose().map_err(text)?;
    mount::set_propagation(Path::new("/"), mount::Propagation::Slave, true).map_err(text)?;
    let upper = OverlayUpper { upper: &spec.upper, work: &spec.work };
    let layers = match users {
        Some(users) => mapped_layers(spec, users).map_err(text)?,
        None => spec.layers.clone(),
    };
    let tree = mount::overlay(&layers, Some(upper)).map_err(|error| format!("mount the root: {error}"))?;
    mount::attach_at(&tree, &spec.rootfs).map_err(text)?;
    drop(tree);
    let root = host_fs::open_dir(&spec.rootfs).map_err(text)?;
    system(&root, spec, shm).map_err(text)?;
    for (volume, tree) in spec.mounts.iter().zip(volumes) {
        attach_volume(&root, volume, &tree).map_err(|error| {
            let source = match &volume.source {
                MountSource::Path(path) => path.display().to_string(),
                MountSource::Image { .. } => "image".to_owned(),
            };
            format!("error mounting {source:?} to rootfs at {:?}: {error}", volume.target.display().to_string())
        })?;
    }
    for path in &spec.readonly_paths {
        protect(&root, Path::new(path)).map_err(text)?;
    }
    for path in &spec.masked_paths {
        mask(&root, Path::new(path)).map_err(text)?;
    }
    drop(root);
    process::pivot_root(&spec.rootfs).map_err(text)
}

fn text(error: Error) -> Failure {
    error.to_string()
}

/// Mounts the layers with the owners that the pod's users see. The kernel cannot shift those of the overlay itself.
fn mapped_layers(spec: &ContainerSpec, users: &OwnedFd) -> Result<Vec<std::path::PathBuf>> {
    let each = spec.layers.iter().enumerate().map(|(number, layer)| {
        let place = spec.lower.join(number.to_string());
        mount::attach_at(mount::clone_mapped(layer, users)?, &place)?;
        Ok(place)
    });
    each.collect()
}

/// Makes the root mount read-only; what is mounted below keeps its own mode.
pub(super) fn make_readonly() -> Result<()> {
    let root = host_fs::open_dir(Path::new("/"))?;
    mount::set_attributes(root, Attributes { readonly: true, ..Attributes::default() })
}

fn system(root: &OwnedFd, spec: &ContainerSpec, shm: Option<OwnedFd>) -> Result<()> {
    attach_dir(root, "/proc", &mount::filesystem("proc", &[], STILL)?)?;
    dev::set_up(root, spec, shm)?;
    let sys = NewAttributes { readonly: !spec.privileged, ..STILL };
    attach_dir(root, "/sys", &mount::filesystem("sysfs", &[], sys)?)?;
    cgroups(root, spec)
}

fn attach_dir(root: &OwnedFd, path: &str, tree: &OwnedFd) -> Result<()> {
    mount::attach(tree, host_fs::mkdir_all_in_root(root, Path::new(path), 0o755)?)
}

/// Shows the container its own cgroup, as seen from its cgroup namespace.
fn cgroups(root: &OwnedFd, spec: &ContainerSpec) -> Result<()> {
    let attributes = NewAttributes { readonly: !spec.privileged, ..STILL };
    if spec.hierarchies.is_empty() {
        return attach_dir(root, "/sys/fs/cgroup", &mount::filesystem("cgroup2", &[], attributes)?);
    }
    let folder = mount::filesystem("tmpfs", &[("mode", "755")], STILL)?;
    attach_dir(root, "/sys/fs/cgroup", &folder)?;
    for (controllers, name) in &spec.hierarchies {
        let options = controllers.split(',').map(|controller| (controller, "")).collect::<Vec<_>>();
        let tree = mount::filesystem("cgroup", &options, attributes)?;
        attach_dir(root, &format!("/sys/fs/cgroup/{name}"), &tree)?;
        for link in controllers.split(',').filter(|controller| controller != name) {
            rustix::fs::symlinkat(name.as_str(), &folder, link).ok();
        }
    }
    let readonly = Attributes { readonly: true, ..Attributes::default() };
    if spec.privileged { Ok(()) } else { mount::set_attributes(&folder, readonly) }
}

fn open_volume(
    volume: &MountSpec,
    spec: &ContainerSpec,
    users: Option<&OwnedFd>,
) -> std::result::Result<OwnedFd, Failure> {
    let tree = match &volume.source {
        MountSource::Path(path) => mount::clone_tree(path, true)
            .map_err(|error| format!("error mounting {:?} to rootfs at {:?}: {error}", path, volume.target))?,
        MountSource::Image { layers, sub_path } => open_image(layers, sub_path, &spec.rootfs).map_err(text)?,
    };
    if let Some(users) = users {
        mount::set_id_map(&tree, users).map_err(|error| {
            let source = match &volume.source {
                MountSource::Path(path) => path.display().to_string(),
                MountSource::Image { .. } => "image".to_owned(),
            };
            format!("failed to set MOUNT_ATTR_IDMAP on {source}: {error} (maybe the filesystem used doesn't support idmap mounts on this kernel?)")
        })?;
    }
    let propagation = match volume.propagation {
        Propagation::Private => Some(mount::Propagation::Private),
        Propagation::HostToContainer => Some(mount::Propagation::Slave),
        Propagation::Bidirectional => None,
    };
    let attributes = Attributes { readonly: false, recursive: true, propagation };
    mount::set_attributes(&tree, attributes).map_err(text)?;
    if volume.readonly {
        let attributes = Attributes { readonly: true, recursive: volume.recursive_readonly, propagation: None };
        mount::set_attributes(&tree, attributes).map_err(text)?;
    }
    Ok(tree)
}

/// The layers of an image, or a folder in it, read-only. `scratch` is a folder to mount on for a moment.
fn open_image(layers: &[std::path::PathBuf], sub_path: &str, scratch: &Path) -> Result<OwnedFd> {
    let tree = mount::overlay(layers, None)?;
    if sub_path.is_empty() {
        return Ok(tree);
    }
    mount::attach_at(&tree, scratch)?;
    drop(tree);
    let root = host_fs::open_dir(scratch)?;
    let found = host_fs::open_in_root(&root, Path::new(sub_path), OFlags::PATH, 0).and_then(|folder| {
        let tree = mount::clone_tree_of(folder, false)?;
        mount::set_attributes(&tree, Attributes { readonly: true, ..Attributes::default() })?;
        Ok(tree)
    });
    drop(root);
    mount::umount_detach(scratch)?;
    found
}

fn attach_volume(root: &OwnedFd, volume: &MountSpec, tree: &OwnedFd) -> Result<()> {
    let target = if is_dir(tree) {
        host_fs::mkdir_all_in_root(root, &volume.target, 0o755)?
    } else {
        host_fs::touch_in_root(root, &volume.target)?
    };
    mount::attach(tree, target)
}

fn is_dir(file: impl AsFd) -> bool {
    let stat = rustix::fs::fstat(file);
    stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

/// Makes what is at `path` read-only; nothing there is fine.
fn protect(root: &OwnedFd, path: &Path) -> Result<()> {
    let Some(found) = find(root, path)? else { return Ok(()) };
    let tree = mount::clone_tree_of(&found, true)?;
    mount::set_attributes(&tree, Attributes { readonly: true, ..Attributes::default() })?;
    mount::attach(tree, found)
}

/// Hides what is at `path`; nothing there is fine.
fn mask(root: &OwnedFd, path: &Path) -> Result<()> {
    let Some(found) = find(root, path)? else { return Ok(()) };
    let tree = if is_dir(&found) {
        mount::filesystem("tmpfs", &[], NewAttributes { readonly: true, ..STILL })?
    } else {
        mount::clone_tree(Path::new("/dev/null"), false)?
    };
    mount::attach(tree, found)
}

fn find(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>> {
    match host_fs::open_in_root(root, path, OFlags::PATH, 0) {
        Ok(found) => Ok(Some(found)),
        Err(error) if [libc::ENOENT, libc::ENOTDIR].contains(&error.errno()) => Ok(None),
        Err(error) => Err(error),
    }
}
