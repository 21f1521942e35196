//! A file that is there to be removed: when the disk is full, what it held lets objects be deleted.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "reserve";
const CHUNK_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub(crate) fn new(folder: &Path, bytes: u64) -> Self {
        Self { path: folder.join(FILE_NAME), bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file where it is missing or too small. A file with holes would hold nothing, so it is written.
    pub(crate) fn hold(&self) -> io::Result<()> {
        let found = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if found >= self.bytes {
            return Ok(());
        }
        let written = self.write();
        if written.is_err() {
            self.release();
        }
        written
    }

    fn write(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        let chunk = vec![0; usize::try_from(CHUNK_BYTES.min(self.bytes)).unwrap_or_default()];
        for _ in 0..self.bytes.div_ceil(CHUNK_BYTES) {
            file.write_all(&chunk)?;
        }
        file.flush()
    }

    pub(crate) fn release(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }
}
