//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn disruption_budget(_: &At<'_>, _: &mut Errors) {}
pub fn disruption_budget_status(_: &At<'_>, _: &At<'_>, _: &mut Errors) {}
