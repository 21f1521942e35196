//! What is particular about each built-in kind: defaults, validation, what a write may change, field selectors, and how
//! `kubectl get` shows it.
//!
//! - [`strategy`] gives the [`Strategy`] of a kind. Kinds that have nothing particular, custom resources among them, get
//!   one that only looks after `metadata`, `status` and `generation`.
//! - [`table`] prints rows of server-side tables.
//! - [`scale`] reads and writes `autoscaling/v1 Scale` of the kinds that have it.
//! - [`qos`] and [`resources`] say what a pod needs.
//! - [`convert`] turns kinds that are served in several versions into each other.
//! - [`subresource`] holds the rules of pod bindings, evictions, token requests and other kinds that are never stored.
//!
//! How a registry writes with it:
//! 1. create: decode, [`Strategy::default`], fill `name` (from `generateName`), `namespace`, `uid` and
//!    `creationTimestamp`, drop what clients may not send, [`Strategy::prepare_for_create`], admit, default again when
//!    admission changed it, [`Strategy::validate_create`].
//! 2. update: decode, default, [`Strategy::prepare_for_update`] (which carries status and generation over), admit,
//!    [`Strategy::validate_update`]. Subresources go through [`Strategy::prepare_for_subresource_update`] and
//!    [`Strategy::validate_subresource_update`].
//! 3. The resource version, its absence included, is the registry's business.
//!
//! The key decision: rules work on object trees, not on typed views, so that one write path serves every kind. The cost is
//! that a rule must not assume anything about the shape; [`at::At`] reads wrong shapes as missing ones. Decoding by schema
//! comes first and reports those.
//!
//! This crate never knows HTTP, storage, time of day or chance.

pub mod at;
pub mod convert;
mod defaults;
mod diff;
mod edit;
mod fields;
pub mod formats;
mod image;
mod kinds;
mod meta;
mod prepare;
pub mod qos;
pub mod resources;
mod same;
pub mod scale;
mod strategy;
pub mod subresource;
pub mod table;
mod validate;

pub use fields::supported_field;
pub use meta::{NameRule, validate_object_meta, validate_object_meta_update};
pub use same::{same, same_quantities};
pub use strategy::{Strategy, strategy};
