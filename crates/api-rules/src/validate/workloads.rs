//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn pod_template(_: &At<'_>, _: &mut Errors) {}
pub fn replication_controller(_: &At<'_>, _: &mut Errors) {}
pub fn replica_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn deployment(_: &At<'_>, _: &mut Errors) {}
pub fn selector_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn deployment_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn replica_set(_: &At<'_>, _: &mut Errors) {}
pub fn daemon_set(_: &At<'_>, _: &mut Errors) {}
pub fn daemon_set_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn stateful_set(_: &At<'_>, _: &mut Errors) {}
pub fn stateful_set_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn stateful_set_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn controller_revision(_: &At<'_>, _: &mut Errors) {}
pub fn controller_revision_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
