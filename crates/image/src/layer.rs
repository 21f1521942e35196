//! Unpacks one layer into a folder that overlayfs can use as it is.
//!
//! Whiteouts become what overlayfs knows: a 0:0 character device hides a name, the attribute `trusted.overlay.opaque`
//! hides all that lies below. Every path is resolved inside the folder, so a hostile archive cannot write elsewhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use coracle_host::{Context, fs as host_fs};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use tar::EntryType;

use crate::digest::Hashing;
use crate::{Digest, Error, Result};

/// Most files of one layer.
const ENTRIES_MAX: u64 = 4_000_000;
/// Largest memory a zstd stream may ask for, as a power of two.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What ends an archive: one block filled up, and two empty ones.
const END_BYTES: u64 = 3 * 512;
const BUFFER_BYTES: usize = 256 << 10;
const COPY_BYTES: usize = 64 << 10;
/// Largest extended attribute. Source: linux/limits.h `XATTR_SIZE_MAX`.
const XATTR_BYTES_MAX: usize = 64 << 10;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

/// What was unpacked.
pub(crate) struct Unpacked {
    /// Digest of the archive without compression.
    pub diff_id: Digest,
}

/// Unpacks `archive` (plain, gzip or zstd) into `folder`, which exists and is empty.
pub(crate) fn unpack(archive: impl Read + Send, folder: &Path) -> Result<Unpacked> {
    let hashing = Hashing::new(decompress(archive)?);
    // Some writers leave out the end of an archive, even what fills up its last block. The digest tells whether
    // anything else is missing.
    let padded = hashing.chain(io::repeat(0).take(END_BYTES));
    let mut tar = tar::Archive::new(BufReader::with_capacity(BUFFER_BYTES, padded));
    let unpacker = Unpacker { root: host_fs::open_dir(folder)? };
    let mut folders = Vec::new();
    let entries = tar.entries().map_err(unreadable)?;
    for (count, entry) in entries.enumerate() {
        if count as u64 >= ENTRIES_MAX {
            return Err(Error::TooLarge(format!("layer has more than {ENTRIES_MAX} files")));
        }
        let mut entry = entry.map_err(unreadable)?;
        if let Some(folder) = unpacker.entry(&mut entry)? {
            folders.push(folder);
        }
    }
    // Times of folders last, as each new file changes them.
    for (path, time) in folders.into_iter().rev() {
        if let Ok(folder) = host_fs::open_in_root(&unpacker.root, &path, folder_flags(), 0) {
            set_time(&folder, time);
        }
    }
    let mut rest = tar.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(unreadable)?;
    let (hashing, _) = rest.into_inner().into_inner();
    Ok(Unpacked { diff_id: hashing.hasher.finish() })
}

/// The kernel's errors as they are; all others mean that the archive is none.
pub(crate) fn unreadable(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(errno) => coracle_host::Error::new("read an archive", errno).into(),
        None => Error::Corrupt(format!("unreadable archive: {error}")),
    }
}

/// The archive without its compression, recognised by the first bytes.
fn decompress<'a>(archive: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let what = || "read a layer".to_owned();
    let mut archive = BufReader::with_capacity(BUFFER_BYTES, archive);
    let head = io::BufRead::fill_buf(&mut archive).context(what)?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(archive)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(archive).context(what)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).context(what)?;
            Box::new(decoder)
        }
        _ => Box::new(archive),
    })
}

/// Opens an archive of any compression for reading.
pub(crate) fn open_archive(path: &Path) -> Result<Box<dyn Read + Send>> {
    decompress(File::open(path).context(|| format!("open {}", path.display()))?)
}

struct Unpacker {
    root: OwnedFd,
}

/// Ownership, mode and time of an entry.
#[derive(Clone, Copy)]
struct Facts {
    uid: u32,
    gid: u32,
    mode: u32,
    time: u64,
}

impl Unpacker {
    /// Unpacks one entry; returns path and time of a folder.
    fn entry<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> Result<Option<(PathBuf, u64)>> {
        let path = clean(&entry.path_bytes())?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(None);
        }
        let header = entry.header();
        let small = |number: io::Result<u64>| number.ok().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        let facts = Facts {
            uid: small(header.uid()),
            gid: small(header.gid()),
            mode: header.mode().unwrap_or(0o644) & 0o7777,
            time: header.mtime().unwrap_or(0),
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // The root itself.
            let root = host_fs::open_in_root(&self.root, Path::new("/"), folder_flags(), 0)?;
            finish(&root, facts)?;
            return Ok(Some((PathBuf::from("/"), facts.time)));
        };
        let parent_fd = host_fs::mkdir_all_in_root(&self.root, parent, 0o755)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            whiteout(&parent_fd, name)?;
            return Ok(None);
        }
        let place = Place { parent: &parent_fd, name, path: &path };
        match kind {
            EntryType::Directory => {
                self.folder(&place, facts, entry)?;
                return Ok(Some((path.clone(), facts.time)));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => place.file(facts, entry)?,
            EntryType::Symlink => place.symlink(facts, entry)?,
            EntryType::Link => self.hard_link(&place, entry)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => place.node(kind, facts, entry)?,
            _ => {}
        }
        Ok(None)
    }

    fn folder<R: Read>(&self, place: &Place<'_>, facts: Facts, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let hides = place.is_whiteout();
        match place.file_type() {
            Some(FileType::Directory) => {}
            Some(_) => {
                place.clear()?;
                place.mkdir()?;
            }
            None => place.mkdir()?,
        }
        let folder = host_fs::open_in_root(&self.root, place.path, folder_flags(), 0)?;
        if hides {
            set_attribute(&folder, OPAQUE_ATTRIBUTE, b"y")?;
        }
        finish(&folder, facts)?;
        attributes(&folder, entry)
    }

    fn hard_link<R: Read>(&self, place: &Place<'_>, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let link = entry.link_name_bytes().ok_or_else(|| place.corrupt("hard link without a target"))?;
        let target = clean(&link)?;
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(place.corrupt("hard link to a folder"));
        };
        let folder = host_fs::open_in_root(&self.root, folder, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        place.clear()?;
        rustix::fs::linkat(&folder, name, place.parent, place.name, AtFlags::empty())
            .context(|| format!("link {}", place.path.display()))?;
        Ok(())
    }
}

/// A name in an open folder of the layer.
struct Place<'a> {
    parent: &'a OwnedFd,
    name: &'a OsStr,
    /// From the root of the layer, for messages.
    path: &'a Path,
}

impl Place<'_> {
    fn corrupt(&self, why: &str) -> Error {
        Error::Corrupt(format!("unpack {}: {why}", self.path.display()))
    }

    fn file_type(&self) -> Option<FileType> {
        let stat = rustix::fs::statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    fn is_whiteout(&self) -> bool {
        let stat = rustix::fs::statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
    }

    /// Removes what an earlier entry of the same layer left here.
    fn clear(&self) -> Result<()> {
        match self.file_type() {
            None => Ok(()),
            Some(FileType::Directory) => {
                let path = Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string()).join(self.name);
                Ok(host_fs::remove_all(&path)?)
            }
            Some(_) => Ok(rustix::fs::unlinkat(self.parent, self.name, AtFlags::empty())
                .context(|| format!("replace {}", self.path.display()))?),
        }
    }

    fn mkdir(&self) -> Result<()> {
        let made = rustix::fs::mkdirat(self.parent, self.name, Mode::from_raw_mode(0o755));
        Ok(made.context(|| format!("mkdir {}", self.path.display()))?)
    }

    fn file<R: Read>(&self, facts: Facts, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        self.clear()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let what = || format!("write {}", self.path.display());
        let file = rustix::fs::openat(self.parent, self.name, flags, Mode::from_raw_mode(0o600)).context(what)?;
        let mut file = File::from(file);
        copy(entry, &mut file).context(what)?;
        finish(&file, facts)?;
        attributes(&file, entry)
    }

    fn symlink<R: Read>(&self, facts: Facts, entry: &tar::Entry<'_, R>) -> Result<()> {
        let target = entry.link_name_bytes().ok_or_else(|| self.corrupt("link without a target"))?;
        self.clear()?;
        rustix::fs::symlinkat(OsStr::from_bytes(&target), self.parent, self.name)
            .context(|| format!("link {}", self.path.display()))?;
        self.own(facts)
    }

    fn node<R: Read>(&self, kind: EntryType, facts: Facts, entry: &tar::Entry<'_, R>) -> Result<()> {
        self.clear()?;
        let kind = match kind {
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let part = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
        let device = rustix::fs::makedev(part(entry.header().device_major()), part(entry.header().device_minor()));
        rustix::fs::mknodat(self.parent, self.name, kind, Mode::from_raw_mode(facts.mode), device)
            .context(|| format!("mknod {}", self.path.display()))?;
        self.own(facts)?;
        let mode = Mode::from_raw_mode(facts.mode);
        Ok(rustix::fs::chmodat(self.parent, self.name, mode, AtFlags::empty())
            .context(|| format!("chmod {}", self.path.display()))?)
    }

    fn own(&self, facts: Facts) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(facts.uid)), Some(Gid::from_raw(facts.gid)));
        rustix::fs::chownat(self.parent, self.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .context(|| format!("chown {}", self.path.display()))?;
        let times = times(facts.time);
        Ok(rustix::fs::utimensat(self.parent, self.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .context(|| format!("set the time of {}", self.path.display()))?)
    }
}

/// Copies in larger pieces than the standard library.
fn copy(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => io::Write::write_all(to, buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn whiteout(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    if name.as_bytes() == OPAQUE {
        let folder = rustix::fs::openat(parent, ".", folder_flags(), Mode::empty())
            .context(|| "open a folder of a layer".to_owned())?;
        return set_attribute(&folder, OPAQUE_ATTRIBUTE, b"y");
    }
    let hidden = OsStr::from_bytes(name.as_bytes().get(WHITEOUT.len()..).unwrap_or_default());
    if hidden.is_empty() || hidden == "." || hidden == ".." || hidden.as_bytes().starts_with(b".wh.") {
        // `.wh..wh.*` are notes of AUFS.
        return Ok(());
    }
    let place = Place { parent, name: hidden, path: Path::new(hidden) };
    match place.file_type() {
        None => Ok(host_fs::mknod(parent, Path::new(hidden), true, (0, 0), 0)?),
        // The layer has a folder of this name as well: only what lies below it is hidden.
        Some(FileType::Directory) => {
            let folder = rustix::fs::openat(parent, hidden, folder_flags() | OFlags::NOFOLLOW, Mode::empty())
                .context(|| format!("open {}", place.path.display()))?;
            set_attribute(&folder, OPAQUE_ATTRIBUTE, b"y")
        }
        Some(_) => Ok(()),
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// A path from the root, without `.` and `..`.
fn clean(bytes: &[u8]) -> Result<PathBuf> {
    let path = Path::new(OsStr::from_bytes(bytes));
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                return Err(Error::Corrupt(format!("unpack {}: path leaves the layer", path.display())));
            }
            _ => {}
        }
    }
    Ok(clean)
}

/// Owner before mode, as a change of owner clears set-user-id bits.
fn finish(file: impl AsFd, facts: Facts) -> Result<()> {
    host_fs::chown(&file, facts.uid, facts.gid)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(facts.mode)).context(|| "change the mode of a file".to_owned())?;
    set_time(&file, facts.time);
    Ok(())
}

fn set_time(file: impl AsFd, seconds: u64) {
    // A file system that cannot keep the time is no reason to fail.
    rustix::fs::futimens(file, &times(seconds)).ok();
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets the extended attributes of an entry; those of overlayfs itself are not taken from archives.
fn attributes<R: Read>(file: impl AsFd, entry: &mut tar::Entry<'_, R>) -> Result<()> {
    let Some(extensions) = entry.pax_extensions().context(|| "read a layer".to_owned())? else { return Ok(()) };
    for extension in extensions.flatten() {
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else { continue };
        if !name.starts_with("trusted.overlay.") && extension.value_bytes().len() <= XATTR_BYTES_MAX {
            set_attribute(&file, name, extension.value_bytes())?;
        }
    }
    Ok(())
}

fn set_attribute(file: impl AsFd, name: &str, value: &[u8]) -> Result<()> {
    let result = rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty());
    match result {
        // Labels of security modules that this machine lacks.
        Err(rustix::io::Errno::NOTSUP) if name.starts_with("security.") => Ok(()),
        other => Ok(other.context(|| format!("set attribute {name}"))?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, link: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    #[test]
    fn files_links_and_whiteouts_are_unpacked() {
        let tar = archive(|to| {
            add(to, "./", EntryType::Directory, "", b"");
            add(to, "bin/", EntryType::Directory, "", b"");
            add(to, "bin/sh", EntryType::Regular, "", b"shell");
            add(to, "bin/ash", EntryType::Link, "bin/sh", b"");
            add(to, "lib", EntryType::Symlink, "usr/lib", b"");
            add(to, "etc/.wh.gone", EntryType::Regular, "", b"");
            add(to, "var/.wh..wh..opq", EntryType::Regular, "", b"");
            add(to, "bin/sh", EntryType::Regular, "", b"again");
        });
        let dir = tempfile::tempdir().unwrap();
        let unpacked = unpack(tar.as_slice(), dir.path()).unwrap();
        assert_eq!(unpacked.diff_id, Digest::of(&tar));
        let file = dir.path().join("bin/sh");
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777), (7, 8, 0o4755));
        assert_eq!(metadata.mtime(), 1_000_000);
        assert_eq!(std::fs::read(file).unwrap(), b"again");
        assert_eq!(std::fs::read(dir.path().join("bin/ash")).unwrap(), b"shell");
        assert_eq!(std::fs::read_link(dir.path().join("lib")).unwrap(), Path::new("usr/lib"));
        let gone = dir.path().join("etc/gone").metadata().unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        let opaque = xattr::get(dir.path().join("var"), OPAQUE_ATTRIBUTE).unwrap();
        assert_eq!(opaque.as_deref(), Some(b"y".as_slice()));
    }

    #[test]
    fn compressed_layers_have_the_digest_of_the_plain_one() {
        let tar = archive(|to| add(to, "file", EntryType::Regular, "", b"text"));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        io::Write::write_all(&mut gzip, &tar).unwrap();
        let packed = [gzip.finish().unwrap(), zstd::encode_all(tar.as_slice(), 1).unwrap()];
        for bytes in packed {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(unpack(bytes.as_slice(), dir.path()).unwrap().diff_id, Digest::of(&tar));
            assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"text");
        }
    }

    #[test]
    fn hostile_paths_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().to_str().unwrap();
        let tar = archive(|to| {
            add(to, "out", EntryType::Symlink, target, b"");
            add(to, "up", EntryType::Symlink, "../../../../../..", b"");
            add(to, "up/evil", EntryType::Regular, "", b"evil");
        });
        let dir = tempfile::tempdir().unwrap();
        unpack(tar.as_slice(), dir.path()).unwrap();
        assert!(dir.path().join("evil").exists());
        let tar = archive(|to| {
            add(to, "out", EntryType::Symlink, target, b"");
            add(to, "out/evil", EntryType::Regular, "", b"evil");
        });
        let dir = tempfile::tempdir().unwrap();
        // The link leads to a place that is not in the layer: an error or a file inside, never a file outside.
        drop(unpack(tar.as_slice(), dir.path()));
        assert!(!outside.path().join("evil").exists());
        let tar = archive(|to| add(to, "../evil", EntryType::Regular, "", b"evil"));
        assert!(unpack(tar.as_slice(), dir.path()).is_err());
    }
}
