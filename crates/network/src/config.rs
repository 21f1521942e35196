//! What the network may use of the host.

use std::path::PathBuf;

use ipnet::IpNet;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the bridge; at most 15 bytes. Two clusters on one host need two names.
    pub bridge: String,
    /// Name of the nftables table.
    pub table: String,
    /// The node's share of the pod network, at most one of each family. Empty until the node has been given one.
    pub pod_cidrs: Vec<IpNet>,
    /// The Services' addresses, at most one of each family. The host reaches them by a route to the bridge, so that it
    /// needs no default route for it. Empty for no such route.
    pub service_cidrs: Vec<IpNet>,
    /// Traffic from pods to these keeps the pods' addresses; the pod CIDRs always do.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// `None` for that of the interface of the default route, or 1500.
    pub mtu: Option<u32>,
    /// Folder for the journal of changed sysctls, which all clusters on the host share; they live as long as the host
    /// runs, so it is best below `/run`. `None` keeps none, so that `reset` cannot restore them.
    pub state_dir: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bridge: "coracle0".to_owned(),
            table: "coracle-network".to_owned(),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            non_masquerade_cidrs: Vec::new(),
            mtu: None,
            state_dir: None,
        }
    }
}
