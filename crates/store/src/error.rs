//! What can go wrong.

use std::path::PathBuf;

use crate::{Key, Revision};

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A range or watch asks for what history no longer holds.
    #[error("revision {requested} has been compacted, the oldest is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    /// A range asks for what did not happen yet.
    #[error("revision {requested} is in the future, the latest is {latest}")]
    Future { requested: Revision, latest: Revision },
    #[error("no space left on the disk of {path}; free some and try again")]
    DiskFull { path: PathBuf },
    #[error("access the data in {path}: {detail}")]
    Io { path: PathBuf, detail: String },
    #[error(
        "data folder {path} has format {found}, this program reads up to {supported}; run the newer version that wrote it"
    )]
    NewerFormat { path: PathBuf, found: i64, supported: i64 },
    #[error(
        "data folder {path} is in use by process {pid}; stop that process first, or name another folder with --data-dir"
    )]
    Locked { path: PathBuf, pid: String },
    /// A value could not be turned into what is kept on disk, or back.
    #[error("seal or open {}/{}: {detail}", key.collection, key.name)]
    Seal { key: Key, detail: String },
    /// Too many writes wait; nothing was written.
    #[error("too many writes are waiting")]
    Busy,
    #[error("the store is closed")]
    Closed,
}
