//! Services and EndpointSlices to the packet rules that serve them.
//!
//! Entry types: [`Planner`] holds what each Service has in the table; [`Planner::set`] takes one Service with its slices
//! and returns the changes that one transaction carries out, [`Planner::whole`] is the table from nothing.
//! [`Settings`] says for whom: address family, node, CIDRs.
//!
//! A packet's way: `services` looks its destination up in one verdict map (`service-ips`, or `service-nodeports` when
//! the destination is the host itself) and goes to the chain of that Service port, which goes to the chain of one
//! endpoint at random, which translates the destination. What has no endpoint is in maps of its own and is refused or
//! dropped. So the cost for a packet does not depend on the number of Services.
//!
//! The key decision: each Service owns a share ([`coracle_nft::Parts`]) of the table, and a change of one endpoint is
//! the difference of two shares: a handful of netlink messages, whatever else is in the table. Where two Services claim
//! one address and port, the first by name has it.
//!
//! Which endpoints serve, and what local policies, terminating endpoints and zone hints mean, is as in upstream's
//! kube-proxy. This crate never knows netlink, time or the API.

mod base;
mod endpoints;
mod name;
mod planner;
mod service;
mod share;

pub use name::ServiceName;
pub use planner::{HealthCheck, Planner};

use coracle_nft::Family;
use ipnet::IpNet;

/// For whom the rules are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub family: Family,
    pub node: Node,
    /// Addresses of Services; what is sent to an unknown one is dropped. Empty: it is let pass.
    pub service_cidrs: Vec<IpNet>,
}

/// What the rules depend on of the node they are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Where the node's pods are: traffic from elsewhere to a ClusterIP is masqueraded. Empty: nothing is.
    pub pod_cidrs: Vec<IpNet>,
}
