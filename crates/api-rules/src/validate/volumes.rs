//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn persistent_volume(_: &At<'_>, _: &mut Errors) {}
pub fn persistent_volume_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn claim(_: &At<'_>, _: &mut Errors) {}
pub fn claim_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn claim_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn network_source(_: &str, _: &At<'_>, _: &mut Errors) {}
pub fn claim_spec(_: &At<'_>, _: &mut Errors) {}
