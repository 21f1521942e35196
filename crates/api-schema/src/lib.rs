//! Schemas of the kinds, built-in and custom alike: what a field is, how lists and maps merge, what is defaulted, how the
//! wire numbers it.
//!
//! The model ([`Schemas`]) is one arena of types. Built-in types come from a table in the crate; custom resources are
//! compiled into the same model. This crate never knows which kinds exist.

mod builtin;
pub mod cel;
pub mod crd;
pub mod decode;
pub mod model;
pub mod openapi;
pub mod proto;
mod scalar;
mod text;
mod time;
mod zero;

pub use builtin::builtin;
pub use decode::{DecodeError, Decoded, Limits, decode_json, decode_value, decode_yaml, normalise, strict_error};
pub use model::{Field, ListKind, MapKind, PatchStrategy, ScalarKind, Schemas, Special, Type, TypeId};
