//! Sets of fields: who owns what, and what changed.
//!
//! Source: structured-merge-diff v6 `fieldpath`; the wire form is `FieldsV1` of `metav1.ManagedFieldsEntry`.

mod element;
mod filter;
mod set;
mod wire;

pub use element::PathElement;
pub(crate) use element::path_text;
pub use filter::{FieldFilter, PathPattern};
pub use set::FieldSet;
