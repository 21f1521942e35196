//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn namespace(_: &At<'_>, _: &mut Errors) {}
pub fn namespace_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn config_map(_: &At<'_>, _: &mut Errors) {}
pub fn config_map_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn secret(_: &At<'_>, _: &mut Errors) {}
pub fn secret_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn namespace_finalize(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
