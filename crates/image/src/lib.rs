//! Registries, content store, layers and snapshots.
//!
//! [`ImageStore`] keeps blobs by digest, unpacks each layer once into a folder of its own (shared by every image that
//! has it), and knows images by name and by id. A container's root is an overlay of those folders; the overlay itself
//! is made by who runs the container. Images come from registries ([`ImageStore::pull`]), from OCI layouts and
//! `docker save` archives ([`ImageStore::load`]) and from memory ([`ImageStore::import_single_layer`]).
//!
//! Everything is written under a temporary name, synced and renamed, and the index is replaced last: a crash at any
//! moment leaves files that nothing refers to, which [`ImageStore::collect`] removes. The cost of unpacking layers apart
//! is one overlay layer for each; the kernel takes 500.
//!
//! It never talks to a registry unless asked to pull, and never follows a link out of a layer.

mod build;
mod digest;
mod error;
mod http;
mod layer;
mod load;
mod manifest;
mod proxy;
mod pull;
mod reference;
mod registry;
mod store;

pub use build::{NewContent, NewFile};
pub use digest::Digest;
pub use error::{Error, Result};
pub use manifest::{ImageConfig, ProcessConfig};
pub use pull::Credentials;
pub use reference::Reference;
pub use store::{Config, ImageRecord, ImageStore, Proxies};
