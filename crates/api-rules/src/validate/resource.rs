//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn device_class(_: &At<'_>, _: &mut Errors) {}
pub fn claim(_: &At<'_>, _: &mut Errors) {}
pub fn claim_template(_: &At<'_>, _: &mut Errors) {}
pub fn slice(_: &At<'_>, _: &mut Errors) {}
pub fn slice_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
