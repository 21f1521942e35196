//! Revisioned keyspace with watch, durable by group commit.
//!
//! [`Store`] is what the API server needs: compare-and-swap transactions that each take one [`Revision`], ranges at the
//! present or a recent revision, watches that start from a revision, expiry, compaction. [`Embedded`] keeps the present state
//! and a bounded history in memory and makes writes durable in SQLite: one writer thread commits everything that waits in one
//! transaction and acknowledges after the commit. The cost of that decision: all keys fit in memory, and history does not
//! outlive the process (watchers of an older process start over).
//!
//! Values may be sealed on their way to the disk ([`Seal`]); memory holds them as they are.
//!
//! Only this crate knows bytes on disk. It never knows what the values mean, apart from where a value shows its revision.

mod disk;
mod embedded;
mod error;
mod lock;
mod memory;
mod model;
mod reserve;
mod seal;
mod watch;
mod writer;

pub use embedded::{Embedded, Options};
pub use error::StoreError;
pub use memory::Limits;
pub use model::{
    Condition, Content, Durability, Entry, Event, Expectation, Key, Outcome, Page, Range, Revision, Store, Transaction,
    Write,
};
pub use seal::{Opened, Seal, SealId, Sealed};
pub use watch::{Batch, Watch};
