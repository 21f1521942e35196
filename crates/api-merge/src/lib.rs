//! Changes to objects: JSON patch, merge patch, strategic merge patch, and server-side apply with the ownership of fields.
//!
//! Everything works on the dynamic tree and the type tables of `api-schema`, so built-in kinds and custom resources take the
//! same way. Start at [`json_patch()`], [`merge_patch()`], [`strategic_merge_patch`] for requests with a patch, at
//! [`create_three_way_merge_patch`] for clients that make one, and at [`FieldManager`] for `metadata.managedFields`: its
//! `update` after every write, its `apply` for an apply.
//!
//! Texts of errors are upstream's, because clients and conformance compare them. The price of faithfulness: sets of fields
//! are compared on every write, in time that grows with the object and the number of its managers.
//!
//! This crate never knows storage, HTTP or the time of day: the caller passes in the time, the manager's name, what the
//! kind's strategy resets, and how to see an object at another version.

mod error;
mod fields;
mod golang;
mod json_patch;
mod manager;
mod merge_patch;
mod strategic;
mod typed;
mod values;

pub use error::PatchError;
pub use fields::{FieldFilter, FieldSet, PathElement, PathPattern};
pub use json_patch::{COPIED_BYTES_MAX, OPERATIONS_MAX, json_patch, json_patch_unknown_fields};
pub use manager::{
    ApplyError, Conflict, Converted, FieldManager, OneShape, ScaleMapping, Versions, manager_of,
    revert_times_if_unchanged, scale_to_parent, scale_to_subresource, validate_managed_fields,
};
pub use merge_patch::{create_merge_patch, create_three_way_json_merge_patch, merge_patch};
pub use strategic::{
    ThreeWay, check_preconditions, create_three_way_merge_patch, create_two_way_merge_patch, strategic_merge_patch,
};
