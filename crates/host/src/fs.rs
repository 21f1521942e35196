//! Files: paths inside a root that cannot be escaped, replacement in one step, disk usage.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

pub use rustix::fs::OFlags;
use rustix::fs::{AtFlags, CWD, FileType, Mode, ResolveFlags, mkdirat, mknodat, openat, openat2, statat};
use rustix::io::Errno;

use crate::{Context, Error, Result};

/// Opens a folder to resolve paths in.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open {}", path.display()))
}

/// Opens `path` as if `root` were `/`: links and `..` stay inside.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
    openat2(root, relative(path), flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT)
        .context(|| format!("open {}", path.display()))
}

/// Makes `path` and what leads to it inside `root`, and opens it. Links on the way are followed inside the root.
pub fn mkdir_all_in_root(root: impl AsFd, path: &Path, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(&root, path, flags, 0) {
        Err(error) if error.is_not_found() => {}
        other => return other,
    }
    let mut current = open_in_root(&root, Path::new("/"), flags, 0)?;
    let mut done = PathBuf::from("/");
    for name in names(path) {
        done.push(name);
        // Each step is resolved from the root again, so that a link leads where it leads inside the container.
        current = match open_in_root(&root, &done, flags, 0) {
            Err(error) if error.is_not_found() => {
                match mkdirat(&current, name, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    other => other.context(|| format!("mkdir {}", done.display()))?,
                }
                open_in_root(&root, &done, flags, 0)?
            }
            other => other?,
        };
    }
    Ok(current)
}

/// Makes an empty file at `path` inside `root` unless something is there, and opens it to mount on.
pub fn touch_in_root(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    match open_in_root(&root, path, OFlags::PATH, 0) {
        Err(error) if error.is_not_found() => {}
        other => return other,
    }
    let name = path.file_name().ok_or_else(|| Error::new("file without a name", libc::EINVAL))?;
    let parent = mkdir_all_in_root(&root, path.parent().unwrap_or(Path::new("/")), 0o755)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&parent, name, flags, Mode::from_raw_mode(0o644)).context(|| format!("create {}", path.display()))?;
    open_in_root(&root, path, OFlags::PATH, 0)
}

/// Reads a small file inside `root`; `None` when it is not there or is no file.
pub fn read_in_root(root: impl AsFd, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
        Ok(file) => File::from(file),
        Err(error) if [libc::ENOENT, libc::ENOTDIR, libc::ENXIO, libc::ELOOP].contains(&error.errno()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content).context(|| format!("read {}", path.display()))?;
    Ok(Some(content))
}

/// Makes a device node in the folder `dir`.
pub fn mknod(dir: impl AsFd, name: &Path, character: bool, device: (u32, u32), mode: u32) -> Result<()> {
    let kind = if character { FileType::CharacterDevice } else { FileType::BlockDevice };
    let number = rustix::fs::makedev(device.0, device.1);
    match mknodat(dir, name, kind, Mode::from_raw_mode(mode), number) {
        Err(Errno::EXIST) => Ok(()),
        other => other.context(|| format!("mknod {}", name.display())),
    }
}

/// A device node: whether it is a character device, its major and minor number, and its mode with owner and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNode {
    pub character: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// `None` when there is something else or nothing at `path`.
pub fn device_node(path: &Path) -> Option<DeviceNode> {
    let stat = statat(CWD, path, AtFlags::empty()).ok()?;
    let character = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => true,
        FileType::BlockDevice => false,
        _ => return None,
    };
    Some(DeviceNode {
        character,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    })
}

/// Gives a file new content in one step: who reads it sees the old or the new, whole. `durable`: also after a power cut.
pub fn replace(path: &Path, content: &[u8], durable: bool) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)?;
        if durable && let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&temporary))).context(|| format!("write {}", path.display()))
}

/// Writes everything of the file system that holds `path` to disk.
pub fn sync_of(path: &Path) -> Result<()> {
    let file = File::open(path).context(|| format!("open {}", path.display()))?;
    rustix::fs::syncfs(&file).context(|| format!("sync {}", path.display()))
}

/// Writes the names in a folder to disk.
pub fn sync_dir(path: &Path) -> Result<()> {
    let what = || format!("sync {}", path.display());
    File::open(path).context(what)?.sync_all().context(what)
}

/// Removes a file or a folder with its content; succeeds when there is none.
pub fn remove_all(path: &Path) -> Result<()> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context(|| format!("remove {}", path.display())),
    }
}

/// Bytes and inodes below `path`, each hard link counted once; what vanishes meanwhile is left out.
#[must_use]
pub fn disk_usage(path: &Path) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 0);
    let mut linked = std::collections::BTreeSet::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.nlink() > 1 && !metadata.is_dir() && !linked.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            bytes += metadata.blocks() * 512;
            inodes += 1;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

/// Copies what lies in the folder `from` into the folder `to`, with owners, modes and links. Devices and sockets stay behind.
pub fn copy_tree(from: impl AsFd, to: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    let source = format!("/proc/self/fd/{}", from.as_fd().as_raw_fd());
    let what = || format!("copy to {}", to.display());
    let mut folders = vec![(PathBuf::from(source), to.to_owned())];
    while let Some((source, target)) = folders.pop() {
        let own = std::fs::metadata(&source).context(what)?;
        lchown(&target, Some(own.uid()), Some(own.gid())).context(what)?;
        std::fs::set_permissions(&target, own.permissions()).context(what)?;
        for entry in std::fs::read_dir(&source).context(what)? {
            let entry = entry.context(what)?;
            let (metadata, place) = (entry.metadata().context(what)?, target.join(entry.file_name()));
            if metadata.is_dir() {
                std::fs::create_dir(&place).context(what)?;
                folders.push((entry.path(), place));
                continue;
            }
            if metadata.is_symlink() {
                symlink(std::fs::read_link(entry.path()).context(what)?, &place).context(what)?;
            } else if metadata.is_file() {
                std::fs::copy(entry.path(), &place).context(what)?;
            } else {
                continue;
            }
            lchown(&place, Some(metadata.uid()), Some(metadata.gid())).context(what)?;
            if metadata.is_file() {
                // After the owner, whose change takes bits away.
                let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o7777);
                std::fs::set_permissions(&place, mode).context(what)?;
            }
        }
    }
    Ok(())
}

/// Whether both paths are on one file system; what is not there is on none.
#[must_use]
pub fn same_file_system(a: &Path, b: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(a).is_some() && device(a) == device(b)
}

/// Changes the owner of an open file.
pub fn chown(file: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    rustix::fs::fchown(file, Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)))
        .context(|| "change the owner of a file".to_owned())
}

fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_cannot_leave_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("../../../..", dir.path().join("up")).unwrap();
        let root = open_dir(dir.path()).unwrap();
        assert_eq!(read_in_root(&root, Path::new("/etc/passwd"), 1000).unwrap(), None);
        assert_eq!(read_in_root(&root, Path::new("/up/etc/passwd"), 1000).unwrap(), None);
        mkdir_all_in_root(&root, Path::new("/up/a/b"), 0o755).unwrap();
        touch_in_root(&root, Path::new("/a/b/c/file")).unwrap();
        assert!(dir.path().join("a/b/c/file").is_file());
    }

    #[test]
    fn files_are_replaced_and_measured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"one", true).unwrap();
        replace(&path, &[7; 8192], false).unwrap();
        std::fs::hard_link(&path, dir.path().join("again")).unwrap();
        assert_eq!(disk_usage(dir.path()), (8192, 1));
        remove_all(&path).unwrap();
        remove_all(&path).unwrap();
    }
}
