//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn create(_: &At<'_>, _: &mut Errors) {}
pub fn update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn create_v1(_: &At<'_>, _: &mut Errors) {}
pub fn update_v1(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
