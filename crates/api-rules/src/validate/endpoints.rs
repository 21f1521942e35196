//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn endpoints(_: &At<'_>, _: &mut Errors) {}
pub fn endpoints_warnings(_: &Value, _: Option<&Value>) -> Vec<String> {
    Vec::new()
}
pub fn slice(_: &At<'_>, _: &mut Errors) {}
pub fn slice_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
