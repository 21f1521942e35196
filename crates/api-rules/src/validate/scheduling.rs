//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn priority_class(_: &At<'_>, _: &mut Errors) {}
pub fn priority_class_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn runtime_class(_: &At<'_>, _: &mut Errors) {}
pub fn runtime_class_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
