//! The Service rules of one node: ClusterIPs, node ports, external and load balancer addresses.
//!
//! Entry types: [`run`] follows Services, EndpointSlices and the node's own Node object, and keeps the nftables table of
//! the node equal to what they say; [`Config`] says for which node. [`Rules`] is the same without the API, for who has
//! the objects already.
//!
//! What the rules are is decided in `plan-network`; how they reach the kernel is `host-net`'s. This component joins the
//! slices of each Service, sends the differences as one transaction per batch of changes, forgets UDP flows that lead
//! to endpoints which are gone, and answers on health check ports.
//!
//! The key decision: until the first lists are there the table of an earlier run is left as it is, then it is replaced
//! in one transaction; so a restart is not felt. When a transaction fails, the whole table is built anew.
//!
//! Node ports answer on every address of the node, `127.0.0.1` included (there the crate `network` does its part).
//! This component never gives addresses to Services and never runs on objects labelled for another proxy.

mod config;
mod error;
mod health;
mod http;
mod rules;
mod run;
mod status;

pub use config::Config;
pub use error::Error;
pub use rules::Rules;
pub use run::{reset, run, run_on};
