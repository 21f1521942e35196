//! Words shared by everything: identifiers, metadata, selectors, quantities, names and Status errors.
//!
//! Stored and served objects are dynamic trees ([`Value`]); this crate knows what all of them have in common.
//! It never knows HTTP, time of day or IO.

pub mod field;
pub mod ids;
pub mod names;
pub mod object;
pub mod quantity;
pub mod selector;
pub mod status;
pub mod user;

pub use field::{FieldError, FieldErrorKind, FieldPath};
pub use ids::{GroupVersion, Gvk, Gvr, ObjectKey};
pub use object::ObjectExt;
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Cause, Status, StatusDetails, reason};
pub use user::UserInfo;

/// An object, or any part of one. Key order is kept as it came.
pub type Value = serde_json::Value;
/// The fields of an object. `remove` swaps; use `shift_remove`.
pub type Map = serde_json::Map<String, Value>;
