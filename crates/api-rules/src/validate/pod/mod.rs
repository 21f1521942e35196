//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub mod update;
pub mod warnings;
pub fn create(_: &At<'_>, _: &mut Errors) {}
