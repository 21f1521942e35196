//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn quota(_: &At<'_>, _: &mut Errors) {}
pub fn quota_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn quota_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn limit_range(_: &At<'_>, _: &mut Errors) {}
