//! Rules.

#![allow(unused)]
use crate::at::{At, Errors};
use coracle_api_meta::Value;
pub fn pod(_: &Value, _: Option<&Value>) -> Vec<String> {
    Vec::new()
}
pub fn workload(_: &Value, _: Option<&Value>) -> Vec<String> {
    Vec::new()
}
