//! For which node the rules are.

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
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node_name: String::new(),
            table: "coracle-proxy".to_owned(),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
        }
    }
}
