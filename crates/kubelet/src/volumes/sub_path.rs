//! Parts of volumes. A part is resolved inside its volume, so that links cannot lead out of it, and held by a mount.

use std::path::{Path, PathBuf};

use crate::error::IoContext;
use crate::{Error, Result};

/// Makes `sub_path` of `volume` (as a folder when it is missing) and mounts it at `target`; returns `target`.
pub(crate) fn prepare(volume: &Path, sub_path: &str, target: &Path) -> Result<PathBuf> {
    let root = coracle_host::fs::open_dir(volume)?;
    let relative = Path::new(sub_path);
    let flags = coracle_host::fs::OFlags::PATH | coracle_host::fs::OFlags::CLOEXEC;
    let found = match coracle_host::fs::open_in_root(&root, relative, flags, 0) {
        Ok(found) => found,
        Err(error) if error.is_not_found() => coracle_host::fs::mkdir_all_in_root(&root, relative, mode_of(volume))?,
        Err(error) => return Err(error.into()),
    };
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    let is_folder = std::fs::metadata(&path).context(|| format!("look at {sub_path}"))?.is_dir();
    if coracle_host::mount::is_mountpoint(target).unwrap_or(false) {
        coracle_host::mount::umount_detach(target)?;
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).context(|| format!("create {}", parent.display()))?;
    }
    if is_folder {
        std::fs::create_dir_all(target).context(|| format!("create {}", target.display()))?;
    } else {
        std::fs::File::create(target).context(|| format!("create {}", target.display()))?;
    }
    let tree = coracle_host::mount::clone_tree_of(&found, true)?;
    coracle_host::mount::attach_at(&tree, target)?;
    Ok(target.to_owned())
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0o755, |metadata| metadata.mode() & 0o7777)
}

/// Refuses what could lead out of the volume.
pub(crate) fn check(sub_path: &str) -> Result<()> {
    if sub_path.starts_with('/') {
        return Err(Error::message(format!("error SubPath `{sub_path}` must not be an absolute path")));
    }
    if sub_path.split('/').any(|part| part == "..") {
        return Err(Error::message(format!("unable to provision SubPath `{sub_path}`: must not contain '..'")));
    }
    Ok(())
}
