//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn signing_request(_: &At<'_>, _: &mut Errors) {}
pub fn signing_request_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn status_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn approval_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
