//! Schemas of the kinds, built-in and custom alike: what a field is, how lists and maps merge, what is defaulted, how the
//! wire numbers it.
//!
//! The model ([`Schemas`]) is one arena of types. Built-in types come from a table in the crate ([`builtin()`]); custom
//! resources are compiled into the same model ([`crd::compile`]). On it stand decoding of JSON and YAML with strict problems
//! ([`decode_json`]), the protobuf form ([`proto`]), OpenAPI documents ([`openapi`]) and the types that CEL sees ([`cel`]).
//!
//! The decision: objects are trees that tables describe, so one decoder, one transcoder and one renderer serve all kinds, and
//! decoding leaves the very form that Go's decode and encode would. The price is that the tables must carry Go's emptiness
//! rules; `cargo xtask gen-schema` reads them from Go's struct tags.
//!
//! This crate never knows which kinds exist, storage, HTTP or time of day.

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
