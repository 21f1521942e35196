//! What preparing a cluster can fail with. Each text names the file and, where there is one, the remedy.

use std::path::PathBuf;

/// Result of a step.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{verb} {}", path.display())]
    File { verb: &'static str, path: PathBuf, source: std::io::Error },
    #[error("data folder {} is in use by process {pid}: stop that one first, or choose another with --data-dir", path.display())]
    InUse { path: PathBuf, pid: String },
    #[error("data folder {} was written by a newer Coracle (format {found}, this one knows {known}): use that version, or another --data-dir", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("the cluster in {} has {what} {kept}, not {asked}: leave the flag out, or make a new cluster with another --data-dir (or after `coracle reset`)", path.display())]
    Changed { path: PathBuf, what: &'static str, kept: String, asked: String },
    #[error("{what} {value:?} is not valid: {why}")]
    Setting { what: &'static str, value: String, why: String },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("data folder {} is a file: name a folder with --data-dir", .0.display())]
    NotAFolder(PathBuf),
    #[error("the cluster in {} has lost its data: {} is gone. Put it back from a copy, or remove the rest of the cluster with `coracle reset` and begin anew", root.display(), store.display())]
    Lost { root: PathBuf, store: PathBuf },
    #[error("credentials")]
    Pki(#[from] coracle_pki::Error),
    #[error("{0}")]
    Kubeconfig(String),
    #[error("there is no cluster in {}: name its folder with --data-dir, or make one with `coracle up`", .0.display())]
    NoCluster(PathBuf),
    #[error("cannot talk to the cluster in {}: {why}", path.display())]
    Control { path: PathBuf, why: String },
    /// The running cluster's own words.
    #[error("{0}")]
    Refused(String),
}
