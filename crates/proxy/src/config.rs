//! For which node the rules are.

use std::net::SocketAddr;

use ipnet::IpNet;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub node_name: String,
    /// Name of the nftables table.
    pub table: String,
    /// Where the node's pods are. What comes from elsewhere to a ClusterIP is masqueraded; nothing is when empty.
    pub pod_cidrs: Vec<IpNet>,
    /// The Services' addresses, one of each family served.
    pub service_cidrs: Vec<IpNet>,
    /// Where `/healthz` and `/livez` are served; nowhere when `None`. Source: `--healthz-bind-address`.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` and `/proxyMode` are. Source: `--metrics-bind-address`.
    pub metrics: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node_name: String::new(),
            table: "coracle-proxy".to_owned(),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            healthz: None,
            metrics: None,
        }
    }
}
