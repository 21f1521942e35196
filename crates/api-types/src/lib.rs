//! The built-in kinds as typed views, and the catalogue of every served resource.
//!
//! Objects are stored and served as trees; the types here ([`k8s_openapi`], one version feature) are for rules, deciders
//! and the node. [`Object`] gives each kind codecs that are compiled once, here, and not in every crate that uses them.
//! This crate never knows behaviour.

pub mod catalogue;
mod object;

pub use k8s_openapi;
pub use object::{Object, ObjectList};
