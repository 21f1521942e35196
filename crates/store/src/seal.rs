//! How values look on disk, where that differs from how they are.

use crate::Key;

/// Says which key, of whatever kind, a value was sealed with. Zero: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SealId(pub u32);

/// A value on its way to the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    /// `None`: the value is written as it is.
    pub value: Option<Vec<u8>>,
    pub id: SealId,
}

/// A value that came from the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// `None`: what was read is the value.
    pub value: Option<Vec<u8>>,
    pub id: SealId,
}

/// Turns values into what is kept on disk, and back. Called by the thread that writes: it may wait, but not for long.
pub trait Seal: Send + Sync + 'static {
    fn seal(&self, key: &Key, value: &[u8]) -> Result<Sealed, String>;

    fn open(&self, key: &Key, stored: &[u8]) -> Result<Opened, String>;

    /// What [`Seal::seal`] would use for this collection now.
    fn current(&self, collection: &str) -> SealId;
}
