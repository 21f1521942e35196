//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn autoscaler(_: &At<'_>, _: &mut Errors) {}
