//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn service(_: &At<'_>, _: &mut Errors) {}
pub fn update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
