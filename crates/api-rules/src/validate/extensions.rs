//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn definition(_: &At<'_>, _: &mut Errors) {}
pub fn definition_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn api_service(_: &At<'_>, _: &mut Errors) {}
