//! The pod's file system group owns what its containers share. Source: upstream `SetVolumeOwnership`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use crate::Result;
use crate::error::IoContext;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    fn bits(self, folder: bool) -> u32 {
        let bits = match self {
            Self::ReadOnly => 0o440,
            Self::ReadWrite => 0o660,
        };
        if folder { bits | 0o2110 } else { bits }
    }
}

/// Whether the folder has the group already, and so what is in it. Source: `fsGroupChangePolicy: OnRootMismatch`.
pub(crate) fn belongs_to(root: &Path, group: Option<u32>) -> bool {
    let own = std::fs::metadata(root).map(|metadata| metadata.gid()).ok();
    group.is_none() || own == group
}

/// Gives everything below `root`, and `root`, to the group. Nothing happens without one.
pub(crate) fn apply(root: &Path, group: Option<u32>, access: Access) -> Result<()> {
    let Some(group) = group else { return Ok(()) };
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = std::fs::symlink_metadata(&path).context(|| format!("look at {}", path.display()))?;
        lchown(&path, None, Some(group)).context(|| format!("own {}", path.display()))?;
        if metadata.file_type().is_symlink() {
            continue;
        }
        let mode = metadata.mode() & 0o7777 | access.bits(metadata.is_dir());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
            .context(|| format!("set the mode of {}", path.display()))?;
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).context(|| format!("read {}", path.display()))?;
            paths.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}
