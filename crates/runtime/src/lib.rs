//! The container runtime behind the CRI traits.
