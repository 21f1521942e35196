//! Validation, one module per group of kinds. Texts, reasons and order are upstream's (`pkg/apis/<group>/validation`).

pub mod admission;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod core;
pub mod cron;
pub mod endpoints;
pub mod events;
pub mod extensions;
pub mod flowcontrol;
pub mod lease;
pub mod networking;
pub mod node;
pub mod pod;
pub mod policy;
pub mod quota;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod service;
pub mod storage;
pub mod volumes;
pub mod webhook;
pub mod workloads;
