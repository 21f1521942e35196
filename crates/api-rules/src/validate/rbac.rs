//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn role(_: &At<'_>, _: &mut Errors) {}
pub fn cluster_role(_: &At<'_>, _: &mut Errors) {}
pub fn role_binding(_: &At<'_>, _: &mut Errors) {}
pub fn binding_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn cluster_role_binding(_: &At<'_>, _: &mut Errors) {}
