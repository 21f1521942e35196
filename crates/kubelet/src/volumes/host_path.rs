//! Checks of host paths. Source: `HostPathVolumeSource.type`.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use crate::error::IoContext;
use crate::{Error, Result};

/// Makes what may be made, and refuses what is of another type.
pub(crate) fn check(path: &Path, kind: &str) -> Result<()> {
    let shown = path.display();
    let found = std::fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let wrong = |what: &str| Err(Error::message(format!("hostPath type check failed: {shown} is not {what}")));
    match (kind, found) {
        ("", _) => Ok(()),
        ("DirectoryOrCreate", None) => {
            std::fs::create_dir_all(path).context(|| format!("create {shown}"))?;
            set_mode(path, 0o755)
        }
        ("FileOrCreate", None) => {
            std::fs::File::create(path).context(|| format!("create {shown}"))?;
            set_mode(path, 0o644)
        }
        ("DirectoryOrCreate" | "Directory", Some(found)) if found.is_dir() => Ok(()),
        ("FileOrCreate" | "File", Some(found)) if found.is_file() => Ok(()),
        ("Socket", Some(found)) if found.is_socket() => Ok(()),
        ("CharDevice", Some(found)) if found.is_char_device() => Ok(()),
        ("BlockDevice", Some(found)) if found.is_block_device() => Ok(()),
        ("DirectoryOrCreate" | "Directory", _) => wrong("a directory"),
        ("FileOrCreate" | "File", _) => wrong("a file"),
        ("Socket", _) => wrong("a socket file"),
        ("CharDevice", _) => wrong("a character device"),
        ("BlockDevice", _) => wrong("a block device"),
        (other, _) => Err(Error::message(format!("{other} is an invalid volume type"))),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .context(|| format!("set the mode of {}", path.display()))
}
