//! The guest's kernel, as `scripts/setup` left it, and the first file system that finds the disks.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::cpio::Archive;
use crate::disk::BUSYBOX;

/// Runs before the disks are there.
const FIRST_INIT: &str = include_str!("files/first-init.sh");

/// Where a kernel and its modules lie.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    folder: PathBuf,
}

impl Kernel {
    /// The one that `scripts/setup` fetched.
    pub fn find() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest-kernel");
        let kernel = Self { folder };
        ensure!(kernel.image().exists(), "{} is missing: run scripts/setup", kernel.image().display());
        Ok(kernel)
    }

    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// A disk with every module.
    pub fn modules(&self) -> PathBuf {
        self.folder.join("modules.img")
    }

    /// Busybox, the modules that disks need, and a script that goes on to the disk.
    pub fn first_file_system(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "proc", "sys", "root", "modules"] {
            archive.folder(folder);
        }
        archive.character_device("dev/console", 5, 1);
        let busybox = std::fs::read(BUSYBOX).with_context(|| format!("{BUSYBOX}: run scripts/setup"))?;
        archive.file("bin/busybox", 0o755, &busybox);
        archive.file("init", 0o755, FIRST_INIT.as_bytes());
        let folder = self.folder.join("boot");
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}: run scripts/setup", folder.display()))? {
            let entry = entry?;
            let name = format!("modules/{}", entry.file_name().to_string_lossy());
            archive.file(&name, 0o644, &std::fs::read(entry.path())?);
        }
        Ok(archive.finish())
    }
}
