//! The `VOLUME`s of an image: a folder of its own for each container, with what the image has there.
//!
//! Source: OCI image specification, `config.Volumes`; containerd `internal/cri/server` `volumeMounts`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use coracle_cri::ContainerConfig;
use coracle_host::{Context, Result, fs as host_fs, mount};
use coracle_image::ImageConfig;

use crate::spec::{MountSource, MountSpec, Propagation};

/// Folder of the container's that holds them.
const FOLDER: &str = "volumes";

/// Makes the folders below `container` and says where they go. What the pod mounts there itself is left out.
pub(crate) fn make(
    image: &ImageConfig,
    config: &ContainerConfig,
    layers: &[PathBuf],
    container: &Path,
) -> Result<Vec<MountSpec>> {
    let taken = |target: &Path| config.mounts.iter().any(|mount| Path::new("/").join(&mount.container_path) == target);
    let asked = image.config.volumes.keys().map(|path| Path::new("/").join(path));
    let asked: Vec<PathBuf> = asked.filter(|target| is_plain(target) && !taken(target)).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let root = match layers {
        [only] => host_fs::open_dir(only)?,
        layers => mount::overlay(layers, None)?,
    };
    let mut mounts = Vec::new();
    for (number, target) in asked.into_iter().enumerate() {
        let folder = container.join(FOLDER).join(number.to_string());
        std::fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
        fill(&root, &target, &folder)?;
        mounts.push(MountSpec {
            source: MountSource::Path(folder),
            target,
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
        });
    }
    Ok(mounts)
}

/// A path that names something below the root and leads nowhere else.
fn is_plain(path: &Path) -> bool {
    let mut parts = path.components().skip(1).peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn fill(root: &OwnedFd, target: &Path, folder: &Path) -> Result<()> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    match host_fs::open_in_root(root, target, flags, 0) {
        Ok(source) => host_fs::copy_tree(source.as_fd(), folder),
        Err(error) if [libc::ENOENT, libc::ENOTDIR].contains(&error.errno()) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_volumes() {
        let plain = ["/data", "/", "/a/../b", "/var/lib/x"].map(|path| is_plain(Path::new(path)));
        assert_eq!(plain, [true, false, false, true]);
    }
}
