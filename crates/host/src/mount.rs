//! Mounts: by path, by descriptor, overlays, propagation, and the table of what is mounted.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};

use crate::{Context, Error, Result};

/// Flags of a mount, as `mount(2)` takes them.
pub use rustix::mount::MountFlags as Flags;

/// Who sees mounts made below a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Private,
    /// Receives, does not send.
    Slave,
    Shared,
}

/// How a directory or file is bound to a second place.
#[derive(Debug, Clone, Copy, Default)]
pub struct BindOptions {
    pub readonly: bool,
    /// Read-only for everything mounted below too.
    pub recursive_readonly: bool,
    /// Takes along what is mounted below.
    pub recursive: bool,
}

/// Attributes that [`set_attributes`] adds to a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    pub readonly: bool,
    pub recursive: bool,
    pub propagation: Option<Propagation>,
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Folder inside the file system that is mounted.
    pub root: PathBuf,
    pub target: PathBuf,
    pub fs_type: String,
    pub source: String,
    /// Options of the mount: `ro,nosuid`.
    pub options: String,
    /// Options of the file system: `rw,cpu`.
    pub fs_options: String,
    pub shared: bool,
}

/// Mounts a file system of type `fs_type`.
pub fn mount(source: &str, target: &Path, fs_type: &str, flags: MountFlags, data: &str) -> Result<()> {
    let data_c = CString::new(data).map_err(|_| Error::new("mount data with a NUL byte", libc::EINVAL))?;
    rustix::mount::mount(source, target, fs_type, flags, Some(data_c.as_c_str()))
        .context(|| format!("mount {fs_type} at {}", target.display()))
}

/// Mounts a tmpfs. `size` is in bytes, 0 for the kernel's default (half of memory).
pub fn tmpfs(target: &Path, size: u64, mode: u32) -> Result<()> {
    let size = if size == 0 { String::new() } else { format!("size={size},") };
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &format!("{size}mode={mode:o}"))
}

/// Binds `source` to `target`, which must exist.
pub fn bind(source: &Path, target: &Path, options: BindOptions) -> Result<()> {
    let tree = clone_tree(source, options.recursive)?;
    if options.readonly || options.recursive_readonly {
        let attributes = Attributes { readonly: true, recursive: options.recursive_readonly, ..Attributes::default() };
        set_attributes(&tree, attributes)?;
    }
    attach_at(&tree, target)
}

/// Takes a mount away; succeeds when there is none.
pub fn umount(target: &Path) -> Result<()> {
    tolerate(unmount(target, UnmountFlags::NOFOLLOW), target)
}

/// Takes a mount away even while it is in use; succeeds when there is none.
pub fn umount_detach(target: &Path) -> Result<()> {
    tolerate(unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW), target)
}

fn tolerate(result: rustix::io::Result<()>, target: &Path) -> Result<()> {
    match result {
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        other => other.context(|| format!("unmount {}", target.display())),
    }
}

/// Takes away every mount at or below `prefix`, the last made first. Returns those that stayed.
pub fn umount_below(prefix: &Path) -> Result<Vec<(PathBuf, Error)>> {
    let mut failed = Vec::new();
    for info in mounts()?.into_iter().rev().filter(|info| info.target.starts_with(prefix)) {
        if let Err(error) = umount_detach(&info.target) {
            failed.push((info.target, error));
        }
    }
    Ok(failed)
}

/// Changes who sees mounts below `target`.
pub fn set_propagation(target: &Path, propagation: Propagation, recursive: bool) -> Result<()> {
    let mut flags = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
    };
    if recursive {
        flags |= MountPropagationFlags::REC;
    }
    mount_change(target, flags).context(|| format!("change the propagation of {}", target.display()))
}

/// Makes `path` a shared mount point of its own, so that mounts travel into containers and back.
pub fn make_shared(path: &Path) -> Result<()> {
    if !is_mountpoint(path)? {
        bind(path, path, BindOptions { recursive: true, ..BindOptions::default() })?;
    }
    set_propagation(path, Propagation::Shared, false)
}

/// A detached copy of the mount at `path`, to be changed and then attached.
pub fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).context(|| format!("clone the mount of {}", path.display()))
}

/// A detached copy of what `file` refers to.
pub fn clone_tree_of(file: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(file, "", flags).context(|| "clone a mount".to_owned())
}

/// Puts a detached mount onto the file or folder that `target` refers to.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags).context(|| "attach a mount".to_owned())
}

/// Puts a detached mount at a path.
pub fn attach_at(tree: impl AsFd, target: &Path) -> Result<()> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context(|| format!("attach a mount at {}", target.display()))
}

/// Changes a mount that is named by a descriptor.
pub fn set_attributes(tree: impl AsFd, attributes: Attributes) -> Result<()> {
    let mut attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    if attributes.readonly {
        attr.attr_set |= libc::MOUNT_ATTR_RDONLY;
    }
    attr.propagation = match attributes.propagation {
        None => 0,
        Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Shared) => libc::MS_SHARED,
    };
    mount_setattr(tree, &attr, attributes.recursive).context(|| "change the attributes of a mount".to_owned())
}

/// Shows the files of a detached mount with owners shifted as the user namespace `userns` maps them.
pub fn set_id_map(tree: impl AsFd, userns: impl AsFd) -> Result<()> {
    let userns_fd = u64::try_from(userns.as_fd().as_raw_fd()).unwrap_or(0);
    let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    mount_setattr(tree, &attr, false).context(|| "map the owners of a mount".to_owned())
}

fn mount_setattr(tree: impl AsFd, attr: &libc::mount_attr, recursive: bool) -> std::io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated empty string, `attr` is a live struct of the size given, and the descriptor
    // is open for the call; the kernel reads them and keeps nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A detached mount of a new file system of type `fs_type`. An option without a value is a flag.
pub fn filesystem(fs_type: &str, options: &[(&str, &str)], attributes: NewAttributes) -> Result<OwnedFd> {
    let what = || format!("mount {fs_type}");
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC).context(what)?;
    fsconfig_set_string(&context, "source", fs_type).context(what)?;
    for (name, value) in options {
        let result = match *value {
            "" => rustix::mount::fsconfig_set_flag(&context, *name),
            value => fsconfig_set_string(&context, *name, value),
        };
        result.context(|| format!("mount {fs_type} with {name}={value}"))?;
    }
    fsconfig_create(&context).context(what)?;
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, attributes.readonly);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, attributes.nosuid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, attributes.nodev);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, attributes.noexec);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).context(what)
}

/// Attributes of a new mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewAttributes {
    pub readonly: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

/// A detached copy of the folder at `path` whose owners are shifted as `userns` maps them.
pub fn clone_mapped(path: &Path, userns: impl AsFd) -> Result<OwnedFd> {
    let tree = clone_tree(path, false)?;
    set_id_map(&tree, userns)?;
    Ok(tree)
}

/// Where the changes of an overlay go.
#[derive(Debug, Clone, Copy)]
pub struct OverlayUpper<'a> {
    pub upper: &'a Path,
    pub work: &'a Path,
}

/// A detached overlay of `layers` (the lowest first). Without `upper` it is read-only.
pub fn overlay(layers: &[PathBuf], upper: Option<OverlayUpper<'_>>) -> Result<OwnedFd> {
    let Some(only) = layers.first() else {
        return Err(Error::new("overlay without layers", libc::EINVAL));
    };
    if upper.is_none() && layers.len() == 1 {
        let tree = clone_tree(only, false)?;
        set_attributes(
            &tree,
            Attributes { readonly: true, propagation: Some(Propagation::Private), recursive: false },
        )?;
        return Ok(tree);
    }
    match overlay_with(layers, upper, true) {
        // `lowerdir+` came with Linux 6.5.
        Err(error) if error.errno() == libc::EINVAL => overlay_with(layers, upper, false),
        other => other,
    }
}

fn overlay_with(layers: &[PathBuf], upper: Option<OverlayUpper<'_>>, one_by_one: bool) -> Result<OwnedFd> {
    let what = || "mount overlay".to_owned();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(what)?;
    fsconfig_set_string(&context, "source", "overlay").context(what)?;
    if one_by_one {
        for layer in layers.iter().rev() {
            fsconfig_set_string(&context, "lowerdir+", layer.as_path())
                .context(|| format!("add layer {} to an overlay", layer.display()))?;
        }
    } else {
        let joined = layers.iter().rev().map(|layer| layer.to_string_lossy()).collect::<Vec<_>>().join(":");
        fsconfig_set_string(&context, "lowerdir", joined.as_str()).context(what)?;
    }
    if let Some(OverlayUpper { upper, work }) = upper {
        fsconfig_set_string(&context, "upperdir", upper).context(what)?;
        fsconfig_set_string(&context, "workdir", work).context(what)?;
    }
    fsconfig_create(&context).context(what)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).context(what)
}

/// The mount table of this process, in the order of mounting.
pub fn mounts() -> Result<Vec<MountInfo>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read /proc/self/mountinfo".to_owned())?;
    Ok(text.lines().filter_map(parse_mountinfo).collect())
}

/// Whether something is mounted at `path`; nothing is where there is no such path.
pub fn is_mountpoint(path: &Path) -> Result<bool> {
    let path = match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.context(|| format!("resolve {}", path.display()))?,
    };
    Ok(mounts()?.iter().any(|info| info.target == path))
}

/// Source: proc_pid_mountinfo(5): `36 35 98:0 /root /target options optional... - type source super`.
fn parse_mountinfo(line: &str) -> Option<MountInfo> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let root = left.nth(3)?;
    let target = left.next()?;
    let options = left.next()?.to_owned();
    let shared = left.any(|field| field.starts_with("shared:"));
    let mut right = right.split(' ');
    Some(MountInfo {
        root: unescape(root).into(),
        target: unescape(target).into(),
        fs_type: right.next()?.to_owned(),
        source: unescape(right.next()?),
        fs_options: right.next().unwrap_or_default().to_owned(),
        options,
        shared,
    })
}

/// Undoes the octal escapes of blanks in the mount table.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\').then(|| tail.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines_are_parsed() {
        let line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime shared:1 master:2 - ext4 /dev/root rw,errors=continue";
        let info = parse_mountinfo(line).unwrap();
        assert_eq!(info.target, Path::new("/mnt 2"));
        assert_eq!(info.root, Path::new("/mnt1"));
        assert_eq!(info.fs_type, "ext4");
        assert!(info.shared);
        assert_eq!(parse_mountinfo("nonsense"), None);
    }

    #[test]
    fn binds_and_tmpfs_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        std::fs::create_dir(&source).unwrap();
        std::fs::create_dir(&target).unwrap();
        tmpfs(&source, 1 << 20, 0o755).unwrap();
        std::fs::write(source.join("file"), "text").unwrap();
        bind(&source, &target, BindOptions { readonly: true, ..BindOptions::default() }).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), "text");
        assert!(std::fs::write(target.join("other"), "text").is_err());
        assert!(is_mountpoint(&target).unwrap());
        assert_eq!(umount_below(dir.path()).unwrap(), vec![]);
        assert!(!is_mountpoint(&target).unwrap());
        umount(&target).unwrap();
        assert!(!is_mountpoint(&target.join("missing")).unwrap());
    }

    #[test]
    fn overlays_show_the_highest_layer() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (low, high, target) = (folder("low"), folder("high"), folder("target"));
        std::fs::write(low.join("a"), "low").unwrap();
        std::fs::write(low.join("b"), "low").unwrap();
        std::fs::write(high.join("a"), "high").unwrap();
        let upper = OverlayUpper { upper: &folder("upper"), work: &folder("work") };
        let tree = overlay(&[low.clone(), high], Some(upper)).unwrap();
        attach_at(&tree, &target).unwrap();
        drop(tree);
        assert_eq!(std::fs::read_to_string(target.join("a")).unwrap(), "high");
        assert_eq!(std::fs::read_to_string(target.join("b")).unwrap(), "low");
        std::fs::write(target.join("b"), "new").unwrap();
        assert_eq!(std::fs::read_to_string(low.join("b")).unwrap(), "low");
        umount(&target).unwrap();
        assert!(overlay(&[low], None).is_ok());
    }
}
