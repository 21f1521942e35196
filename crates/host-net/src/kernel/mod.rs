//! The host's network by netlink, in the namespace of the thread that made the value.

mod conntrack;
mod expr;
mod firewall;
mod links;
mod monitor;
mod pod;
mod tables;
mod wire;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use coracle_nft::{Change, Family};
use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt};
use nlink::netlink::{Connection, Netfilter, Nftables, Route};

use crate::error::Context;
use crate::host::{BridgeSpec, HostNet, PodInterface, Port, RouteTo, UdpFlow, VethSpec};
use crate::{Error, Meddling, Result};

/// A transaction is one message to the kernel: the send buffer must hold all of it.
const TRANSACTION_BYTES_MAX: usize = 256 << 20;

/// The network namespace of the thread that called [`Kernel::new`].
pub struct Kernel {
    route: Connection<Route>,
    nftables: Connection<Nftables>,
    conntrack: Connection<Netfilter>,
    /// The number of `nftables`, by which notices tell our transactions from others'.
    number: u32,
    /// Taken by who follows the notices.
    notices: Mutex<Option<OwnedFd>>,
}

impl Kernel {
    /// Opens the netlink sockets. Must be called inside a tokio runtime.
    pub fn new() -> Result<Kernel> {
        let route = Connection::<Route>::new().context(|| "open a route netlink socket".to_owned())?;
        let nftables = Connection::<Nftables>::new().context(|| "open an nftables netlink socket".to_owned())?;
        let conntrack = Connection::<Netfilter>::new().context(|| "open a conntrack netlink socket".to_owned())?;
        setsockopt(nftables.socket(), sockopt::SndBufForce, &TRANSACTION_BYTES_MAX)
            .map_err(|errno| Error::Io { what: "enlarge the nftables send buffer".to_owned(), source: errno.into() })?;
        let number = monitor::number_of(nftables.socket())?;
        let notices = Mutex::new(Some(monitor::open()?));
        Ok(Kernel { route, nftables, conntrack, number, notices })
    }
}

#[async_trait]
impl HostNet for Kernel {
    async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<()> {
        links::ensure_bridge(&self.route, spec).await
    }

    async fn delete_link(&self, name: &str) -> Result<bool> {
        self.route.del_link_if_exists(name).await.context(|| format!("delete link {name}"))
    }

    async fn add_veth(&self, spec: &VethSpec) -> Result<()> {
        links::add_veth(&self.route, spec).await
    }

    async fn configure_pod(&self, netns: &Path, interface: &PodInterface) -> Result<()> {
        pod::configure(netns, interface).await
    }

    async fn pod_addresses(&self, netns: &Path, interface: &str) -> Result<Option<Vec<IpAddr>>> {
        pod::addresses(netns, interface).await
    }

    async fn bridge_ports(&self, bridge: &str) -> Result<Vec<Port>> {
        links::bridge_ports(&self.route, bridge).await
    }

    async fn default_mtu(&self) -> Result<Option<u32>> {
        links::default_mtu(&self.route).await
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>> {
        links::addresses(&self.route).await
    }

    async fn routes(&self) -> Result<Vec<RouteTo>> {
        links::routes(&self.route).await
    }

    async fn replace_route(&self, net: IpNet, device: &str, source: IpAddr) -> Result<()> {
        links::replace_route(&self.route, net, device, source).await
    }

    async fn delete_route(&self, net: IpNet, device: &str) -> Result<()> {
        links::delete_route(&self.route, net, device).await
    }

    async fn sysctl(&self, key: &str) -> Result<Option<String>> {
        match std::fs::read_to_string(sysctl_path(key)?) {
            Ok(value) => Ok(Some(value.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("read sysctl {key}")),
        }
    }

    async fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        std::fs::write(sysctl_path(key)?, value).context(|| format!("set sysctl {key} to {value}"))
    }

    async fn apply(&self, family: Family, table: &str, changes: &[Change]) -> Result<()> {
        tables::apply(&self.nftables, family, table, changes).await
    }

    async fn tables(&self, family: Family) -> Result<Vec<String>> {
        tables::names(&self.nftables, family).await
    }

    fn meddling(&self) -> Meddling {
        let Some(notices) = self.notices.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Meddling::never();
        };
        let (tell, meddling) = Meddling::channel();
        let own = self.number;
        tokio::spawn(async move {
            if let Err(error) = monitor::follow(notices, own, tell).await {
                tracing::warn!(error = error.chain(), "changes of nftables by others are not seen at once any more");
            }
        });
        meddling
    }

    async fn admit(&self, interface: &str) -> Result<usize> {
        firewall::admit(&self.nftables, interface).await
    }

    async fn withdraw(&self, interface: &str) -> Result<usize> {
        firewall::withdraw(&self.nftables, interface).await
    }

    async fn udp_flows(&self, family: Family) -> Result<Vec<UdpFlow>> {
        conntrack::udp_flows(&self.conntrack, family).await
    }

    async fn delete_udp_flows(&self, flows: &[UdpFlow]) -> Result<usize> {
        conntrack::delete_udp_flows(&self.conntrack, flows).await
    }
}

/// `/proc/sys/net` shows the namespace of the thread that opens it, which is that of the runtime's threads.
fn sysctl_path(key: &str) -> Result<String> {
    if key.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::Invalid(format!("not a sysctl: {key}")));
    }
    Ok(format!("/proc/sys/{key}"))
}
