//! Registries, content store, layers and snapshots.
