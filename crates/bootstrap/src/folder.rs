//! The folder of a cluster.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::files::{failed, make_folder};
use crate::{Error, Result};

/// Names of everything a cluster keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFolder(PathBuf);

/// Held by the one process that runs the cluster; ends with the process.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl ClusterFolder {
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// `/var/lib/coracle` for root, else a folder of the user's own.
    #[must_use]
    pub fn default_path(is_root: bool) -> PathBuf {
        if is_root {
            return PathBuf::from("/var/lib/coracle");
        }
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        home.join(".local/share/coracle")
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    #[must_use]
    pub fn pki(&self, file: &str) -> PathBuf {
        self.0.join("pki").join(file)
    }

    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// State of the node: volumes, logs, containers, images.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.0.join("node")
    }

    /// Static pods.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.0.join("manifests")
    }

    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.0.join("audit/audit.log")
    }

    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.0.join("admin.kubeconfig")
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        self.settings().exists()
    }

    /// Makes the folder when it is missing, and takes it for this process.
    pub fn lock(&self) -> Result<FolderLock> {
        if let Some(file) = self.0.ancestors().find(|path| path.exists()).filter(|path| !path.is_dir()) {
            return Err(Error::NotAFolder(file.to_owned()));
        }
        make_folder(&self.0)?;
        let path = self.0.join("lock");
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(Error::InUse { path: self.0.clone(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .and_then(|()| file.flush());
        written.map_err(failed("write", &path))?;
        Ok(FolderLock { _file: file })
    }
}
