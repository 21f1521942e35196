//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn flow_schema(_: &At<'_>, _: &mut Errors) {}
pub fn priority_level(_: &At<'_>, _: &mut Errors) {}
