//! Changes to objects: JSON patch, merge patch, strategic merge patch.
//!
//! Everything works on the dynamic tree and the type tables of `api-schema`, so built-in kinds and custom resources take the
//! same way. Texts of errors are upstream's, because clients and conformance compare them.
//!
//! This crate never knows storage, HTTP or the time of day: the caller passes in what upstream would look up.

mod error;
mod golang;
mod json_patch;
mod merge_patch;
mod strategic;

pub use error::PatchError;
pub use json_patch::{COPIED_BYTES_MAX, OPERATIONS_MAX, json_patch, json_patch_unknown_fields};
pub use merge_patch::{create_merge_patch, create_three_way_json_merge_patch, merge_patch};
pub use strategic::{
    ThreeWay, check_preconditions, create_three_way_merge_patch, create_two_way_merge_patch, strategic_merge_patch,
};
