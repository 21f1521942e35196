//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn validating_webhooks(_: &At<'_>, _: &mut Errors) {}
pub fn mutating_webhooks(_: &At<'_>, _: &mut Errors) {}
pub fn validating_policy(_: &At<'_>, _: &mut Errors) {}
pub fn validating_binding(_: &At<'_>, _: &mut Errors) {}
pub fn mutating_policy(_: &At<'_>, _: &mut Errors) {}
pub fn mutating_binding(_: &At<'_>, _: &mut Errors) {}
