//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn ingress(_: &At<'_>, _: &mut Errors) {}
pub fn ingress_class(_: &At<'_>, _: &mut Errors) {}
pub fn ingress_class_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn network_policy(_: &At<'_>, _: &mut Errors) {}
pub fn ip_address(_: &At<'_>, _: &mut Errors) {}
pub fn ip_address_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn service_cidr(_: &At<'_>, _: &mut Errors) {}
pub fn service_cidr_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
