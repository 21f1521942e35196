//! What the network components ask of a host.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use coracle_nft::{Change, Family};
use ipnet::IpNet;

use crate::{Meddling, Result};

/// A host's network. Everything is idempotent: making what is there and removing what is gone succeed.
#[async_trait]
pub trait HostNet: Send + Sync + 'static {
    /// Makes a bridge with these addresses (and no others) and brings it up.
    async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<()>;
    /// Removes a link; `false` when there was none.
    async fn delete_link(&self, name: &str) -> Result<bool>;
    /// Makes a veth pair: one end a port of the bridge, the other in a namespace. An old link of the name is replaced.
    async fn add_veth(&self, spec: &VethSpec) -> Result<()>;
    /// Brings `lo` and the interface up inside the namespace, with its addresses and routes.
    async fn configure_pod(&self, netns: &Path, interface: &PodInterface) -> Result<()>;
    /// The addresses of an interface inside the namespace; `None` when it has no such interface.
    async fn pod_addresses(&self, netns: &Path, interface: &str) -> Result<Option<Vec<IpAddr>>>;
    /// The ports of a bridge; empty when there is no such bridge.
    async fn bridge_ports(&self, bridge: &str) -> Result<Vec<Port>>;
    /// MTU of the interface of the default route; `None` without one.
    async fn default_mtu(&self) -> Result<Option<u32>>;
    /// The addresses of all interfaces that are up.
    async fn addresses(&self) -> Result<Vec<IpAddr>>;
    /// The routes of the main table that lead to a device, but the default ones.
    async fn routes(&self) -> Result<Vec<RouteTo>>;
    /// Routes `net` to the device, with `source` for what the host itself sends.
    async fn replace_route(&self, net: IpNet, device: &str, source: IpAddr) -> Result<()>;
    async fn delete_route(&self, net: IpNet, device: &str) -> Result<()>;
    /// The value of a sysctl (`net/ipv4/ip_forward`); `None` when the kernel has none of the name.
    async fn sysctl(&self, key: &str) -> Result<Option<String>>;
    /// Sets a sysctl; the kernel not having it is an error.
    async fn set_sysctl(&self, key: &str, value: &str) -> Result<()>;
    /// Carries out the changes to a table as one transaction: all or nothing.
    async fn apply(&self, family: Family, table: &str, changes: &[Change]) -> Result<()>;
    /// The names of all tables of the family, whosever they are.
    async fn tables(&self, family: Family) -> Result<Vec<String>>;
    /// Whether the table is there.
    async fn has_table(&self, family: Family, table: &str) -> Result<bool> {
        Ok(self.tables(family).await?.iter().any(|there| there == table))
    }
    /// Tells of the changes that others make to tables, from now on.
    fn meddling(&self) -> Meddling;
    /// Lets what comes from and goes to the interface pass other programs' tables, where they drop by default. Returns
    /// how many rules were missing.
    async fn admit(&self, interface: &str) -> Result<usize>;
    /// Takes back what `admit` did. Returns how many rules there were.
    async fn withdraw(&self, interface: &str) -> Result<usize>;
    /// The UDP flows that connection tracking knows.
    async fn udp_flows(&self, family: Family) -> Result<Vec<UdpFlow>>;
    /// Forgets UDP flows, so that their next packet is translated anew. Returns how many were there.
    async fn delete_udp_flows(&self, flows: &[UdpFlow]) -> Result<usize>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    pub name: String,
    pub addresses: Vec<IpNet>,
    pub mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethSpec {
    /// Name of the host's end.
    pub name: String,
    pub bridge: String,
    pub mtu: u32,
    /// Where the other end goes, and how it is called there.
    pub netns: PathBuf,
    pub peer_name: String,
    pub peer_mac: [u8; 6],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodInterface {
    pub name: String,
    /// Each is set as a single address (/32, /128): everything else is reached through the gateway.
    pub addresses: Vec<IpAddr>,
    pub gateways: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTo {
    pub net: IpNet,
    pub device: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
}

/// One UDP flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UdpFlow {
    pub source: SocketAddr,
    /// Where the client sent its packets.
    pub destination: SocketAddr,
    /// Where they went: the same, unless they were translated.
    pub translated: SocketAddr,
}
