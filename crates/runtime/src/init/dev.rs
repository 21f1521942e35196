//! `/dev` of a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle_host::mount::{self, NewAttributes};
use coracle_host::{Context, Result, fs as host_fs};

use crate::spec::{ContainerSpec, DeviceSpec};

/// Devices of every container. Source: OCI runtime specification, config-linux "Default Devices".
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills `/dev` below `root`. `shm` is what goes to `/dev/shm`.
pub(super) fn set_up(root: impl AsFd, spec: &ContainerSpec, shm: Option<OwnedFd>) -> Result<()> {
    let nosuid = NewAttributes { nosuid: true, ..NewAttributes::default() };
    let quiet = NewAttributes { nosuid: true, noexec: true, ..NewAttributes::default() };
    let (uid, gid, tty) = match &spec.users {
        Some(map) => (map.uid(0), map.gid(0), map.gid(5)),
        None => (0, 0, 5),
    };
    let (uid, gid, tty) = (uid.to_string(), gid.to_string(), tty.to_string());
    let options = [("mode", "755"), ("size", "65536k"), ("uid", &uid), ("gid", &gid)];
    attach_dir(&root, "/dev", &mount::filesystem("tmpfs", &options, nosuid)?)?;
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", &tty)];
    attach_dir(&root, "/dev/pts", &mount::filesystem("devpts", &options, quiet)?)?;
    let still = NewAttributes { nosuid: true, noexec: true, nodev: true, ..NewAttributes::default() };
    let shm = match shm {
        Some(shm) => shm,
        None => mount::filesystem("tmpfs", &[("mode", "1777"), ("size", "65536k")], still)?,
    };
    attach_dir(&root, "/dev/shm", &shm)?;
    attach_dir(&root, "/dev/mqueue", &mount::filesystem("mqueue", &[], still)?)?;
    let dev = host_fs::open_in_root(&root, Path::new("/dev"), rustix::fs::OFlags::PATH, 0)?;
    for (name, major, minor) in NODES {
        // The creation mask takes rights from the mode.
        host_fs::mknod(&dev, Path::new(name), true, (major, minor), 0o666)?;
        rustix::fs::chmodat(&dev, name, rustix::fs::Mode::from_raw_mode(0o666), rustix::fs::AtFlags::empty())
            .context(|| format!("chmod /dev/{name}"))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).context(|| format!("link /dev/{name}"))?;
    }
    spec.devices.iter().try_for_each(|device| add(&root, device))
}

fn attach_dir(root: impl AsFd, path: &str, tree: &OwnedFd) -> Result<()> {
    let target = host_fs::mkdir_all_in_root(root, Path::new(path), 0o755)?;
    mount::attach(tree, target)
}

fn add(root: impl AsFd, device: &DeviceSpec) -> Result<()> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else { return Ok(()) };
    let folder = host_fs::mkdir_all_in_root(root, parent, 0o755)?;
    let name = Path::new(name);
    host_fs::mknod(&folder, name, device.character, (device.major, device.minor), device.mode)?;
    let mode = rustix::fs::Mode::from_raw_mode(device.mode);
    rustix::fs::chmodat(&folder, name, mode, rustix::fs::AtFlags::empty())
        .context(|| format!("chmod {}", device.path.display()))?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(device.uid), rustix::fs::Gid::from_raw(device.gid));
    rustix::fs::chownat(&folder, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .context(|| format!("chown {}", device.path.display()))
}

/// Shows the terminal as `/dev/console` too.
pub(super) fn bind_console(terminal: &OwnedFd) -> Result<()> {
    let root = host_fs::open_dir(Path::new("/"))?;
    let target = host_fs::touch_in_root(&root, Path::new("/dev/console"))?;
    mount::attach(mount::clone_tree_of(terminal, false)?, target)
}
