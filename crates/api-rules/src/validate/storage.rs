//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn storage_class(_: &At<'_>, _: &mut Errors) {}
pub fn storage_class_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn volume_attachment(_: &At<'_>, _: &mut Errors) {}
pub fn spec_immutable(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn csi_driver(_: &At<'_>, _: &mut Errors) {}
pub fn csi_driver_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn csi_node(_: &At<'_>, _: &mut Errors) {}
pub fn csi_node_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn storage_capacity(_: &At<'_>, _: &mut Errors) {}
pub fn storage_capacity_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn attributes_class(_: &At<'_>, _: &mut Errors) {}
pub fn attributes_class_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn driver_name(_: &At<'_>, _: &mut Errors) {}
