//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn job(_: &At<'_>, _: &mut Errors) {}
pub fn job_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn job_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
pub fn cron_job(_: &At<'_>, _: &mut Errors) {}
pub fn cron_job_update(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
