//! What a cluster needs before its first component starts, and what is left to undo after its last one stopped.
//!
//! A cluster lives in one folder ([`ClusterFolder`]): its settings, its keys and certificates, its data. Preparing it is
//! a list of idempotent steps, each written by rename, so that a start that was cut off is simply done again.
//! This crate starts nothing.

pub mod control;
mod credentials;
mod error;
mod files;
mod folder;
mod kubeconfig;
mod settings;

pub use credentials::{Credentials, prepare};
pub use error::{Error, Result};
pub use folder::{ClusterFolder, FolderLock};
pub use kubeconfig::{
    Access, Remembered, check_kubeconfig, merge_kubeconfig, remember_kubeconfig, remembered_kubeconfigs,
    remove_from_kubeconfig,
};
pub use settings::{Asked, ClusterSettings, FORMAT_VERSION, check_not_lost, kept_settings, note_begun, settle};
