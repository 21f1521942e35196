//! Network namespaces that have a name in the file system.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::mount::{BindOptions, bind, umount_detach};
use crate::{Context, Error, Result};

/// Where names of network namespaces live, as iproute2 has them.
pub const NETNS_DIR: &str = "/run/netns";

#[must_use]
pub fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// Makes a network namespace with a name under [`NETNS_DIR`]; its loopback interface is down.
pub fn create(name: &str) -> Result<PathBuf> {
    let path = path_of(name);
    create_at(&path)?;
    Ok(path)
}

/// Makes a network namespace that `path` holds open.
pub fn create_at(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).context(|| format!("create {}", parent.display()))?;
    }
    File::create_new(path).context(|| format!("create {}", path.display()))?;
    let result = in_thread(|| {
        unshare(UnshareFlags::NEWNET).context(|| "create a network namespace".to_owned())?;
        bind(Path::new("/proc/thread-self/ns/net"), path, BindOptions::default())
    });
    if result.is_err() {
        std::fs::remove_file(path).ok();
    }
    result
}

/// Takes the name away; the namespace ends with its last process. Succeeds when there is none.
pub fn remove_at(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    umount_detach(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

pub fn remove(name: &str) -> Result<()> {
    remove_at(&path_of(name))
}

/// The descriptor of a named namespace.
pub fn open(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).context(|| format!("open network namespace {}", path.display()))?.into())
}

/// Runs `work` on a new thread inside the network namespace at `path`, and waits for it.
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = open(path)?;
    in_thread(move || {
        enter(&namespace)?;
        Ok(work())
    })
}

/// Moves the calling thread into a network namespace, for good.
pub fn enter(namespace: impl AsFd) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context(|| "enter a network namespace".to_owned())
}

/// Gives the calling thread new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: none of the flags that callers in this crate pass is FILES, so no descriptor that another thread relies
    // on changes its meaning.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .context(|| "start a thread".to_owned())?;
        thread.join().unwrap_or_else(|_| Err(Error::new("thread in a network namespace panicked", libc::EIO)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_a_name_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns");
        create_at(&path).unwrap();
        let links = run_in(&path, || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
        assert_eq!(links.lines().count(), 3, "{links}");
        remove_at(&path).unwrap();
        remove_at(&path).unwrap();
        assert!(!path.exists());
    }
}
