//! One decider per controller.
//!
//! Each module has a `View` (what is known about one key) and `plan(view, now)`, which answers with the calls that bring
//! the world nearer to what is wanted. Deciders may answer with only the next step: whatever is written changes the view
//! and makes them run again. Reasons, messages and names are upstream's. This crate never knows clients or tasks.

pub mod aggregation;
pub mod autoscaling;
pub mod bootstrap_tokens;
pub mod certificates;
pub mod cron;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod gc;
pub mod history;
pub mod job;
pub mod namespace;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod quota;
pub mod replicaset;
pub mod root_ca;
pub mod service;
pub mod serviceaccount;
pub mod statefulset;
pub mod template;
pub mod ttl;
pub mod volumes;
