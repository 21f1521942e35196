//! Links, addresses and routes of the host's own namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use nlink::netlink::link::{BridgeLink, BridgePortConfig, VethLink};
use nlink::netlink::messages::LinkMessage;
use nlink::netlink::namespace::Netns;
use nlink::netlink::{Connection, Route};
use nlink::{Ipv4Address, Ipv4Route, Ipv6Address, Ipv6Route};

use crate::error::Context;
use crate::host::{BridgeSpec, Port, RouteTo, VethSpec};
use crate::{Error, Result};

pub(super) async fn ensure_bridge(route: &Connection<Route>, spec: &BridgeSpec) -> Result<()> {
    let index = match link(route, &spec.name).await? {
        Some(link) if link.kind() == Some("bridge") => link.ifindex(),
        Some(_) => return Err(Error::Invalid(format!("link {} exists and is not a bridge", spec.name))),
        None => {
            // A fixed address: by default a bridge takes the lowest of its ports', and changes with them.
            let bridge = BridgeLink::new(spec.name.as_str()).mtu(spec.mtu).address(bridge_mac(spec)).stp(false);
            route.add_link(bridge).await.context(|| format!("make bridge {}", spec.name))?;
            skip_duplicate_detection(&spec.name);
            index(route, &spec.name).await?
        }
    };
    for address in &spec.addresses {
        add_address(route, index, *address).await.context(|| format!("set address {address} on {}", spec.name))?;
    }
    remove_other_addresses(route, index, spec).await?;
    route.set_link_up_by_index(index).await.context(|| format!("bring {} up", spec.name))
}

/// The bridge's link-local address, by which it asks for pods, is otherwise unusable for the first second. Without
/// IPv6 there is no such setting, and no need.
fn skip_duplicate_detection(bridge: &str) {
    if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv6/conf/{bridge}/accept_dad"), "0") {
        tracing::debug!(%error, bridge, "duplicate address detection stays on");
    }
}

async fn add_address(route: &Connection<Route>, index: u32, net: IpNet) -> nlink::Result<()> {
    match net {
        IpNet::V4(net) => route.replace_address(Ipv4Address::with_index(index, net.addr(), net.prefix_len())).await,
        // Pods need it at once, and nobody else on the bridge can have it: duplicates are not waited for.
        IpNet::V6(net) => {
            route.replace_address(Ipv6Address::with_index(index, net.addr(), net.prefix_len()).nodad()).await
        }
    }
}

/// Locally administered, the same for the same addresses.
fn bridge_mac(spec: &BridgeSpec) -> [u8; 6] {
    match spec.addresses.first().map(IpNet::addr) {
        Some(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            [0x0a, 0xc0, a, b, c, d]
        }
        _ => [0x0a, 0xc0, 0, 0, 0, 1],
    }
}

async fn remove_other_addresses(route: &Connection<Route>, index: u32, spec: &BridgeSpec) -> Result<()> {
    let there = route.get_addresses_by_index(index).await.context(|| format!("list addresses of {}", spec.name))?;
    for message in there {
        let Some(address) = message.primary_address().copied() else { continue };
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let prefix = message.prefix_len();
        let wanted = spec.addresses.iter().any(|net| net.addr() == address && net.prefix_len() == prefix);
        if !wanted && !link_local {
            route
                .del_address_by_index(index, address, prefix)
                .await
                .context(|| format!("remove address {address} from {}", spec.name))?;
        }
    }
    Ok(())
}

pub(super) async fn add_veth(route: &Connection<Route>, spec: &VethSpec) -> Result<()> {
    let netns = Netns::from_path(&spec.netns).context(|| format!("open namespace {}", spec.netns.display()))?;
    route.del_link_if_exists(spec.name.as_str()).await.context(|| format!("replace link {}", spec.name))?;
    let veth = VethLink::new(spec.name.as_str(), spec.peer_name.as_str())
        .mtu(spec.mtu)
        .peer_address(spec.peer_mac)
        .peer_netns_fd(&netns);
    route.add_link(veth).await.context(|| format!("make veth {} into {}", spec.name, spec.netns.display()))?;
    let made = attach(route, spec).await;
    if made.is_err() {
        // Half a port helps nobody; the error that matters is the first.
        let _ = route.del_link_if_exists(spec.name.as_str()).await;
    }
    made
}

async fn attach(route: &Connection<Route>, spec: &VethSpec) -> Result<()> {
    let (port, bridge) = (index(route, &spec.name).await?, index(route, &spec.bridge).await?);
    let what = || format!("make {} a port of {}", spec.name, spec.bridge);
    route.set_link_master_by_index(port, bridge).await.context(what)?;
    // Where bridged packets pass through nftables, a pod that calls itself by a Service leaves by the port it came in.
    route.set_bridge_port_by_index(port, BridgePortConfig::new().hairpin(true)).await.context(what)?;
    route.set_link_up_by_index(port).await.context(|| format!("bring {} up", spec.name))
}

pub(super) async fn link(route: &Connection<Route>, name: &str) -> Result<Option<LinkMessage>> {
    match route.get_link_by_name(name).await {
        Ok(link) => Ok(link),
        Err(error) if error.is_not_found() || error.is_no_device() => Ok(None),
        Err(error) => Err(error).context(|| format!("look up link {name}")),
    }
}

pub(super) async fn index(route: &Connection<Route>, name: &str) -> Result<u32> {
    match link(route, name).await? {
        Some(link) => Ok(link.ifindex()),
        None => Err(Error::Invalid(format!("no link {name}"))),
    }
}

pub(super) async fn bridge_ports(route: &Connection<Route>, bridge: &str) -> Result<Vec<Port>> {
    let Some(bridge) = link(route, bridge).await? else { return Ok(Vec::new()) };
    let links = route.get_links().await.context(|| "list links".to_owned())?;
    let ports = links.iter().filter(|link| link.master() == Some(bridge.ifindex()));
    Ok(ports.filter_map(|link| link.name().map(|name| Port { name: name.to_owned() })).collect())
}

pub(super) async fn default_mtu(route: &Connection<Route>) -> Result<Option<u32>> {
    let routes = route.get_routes().await.context(|| "list routes".to_owned())?;
    let default = routes.iter().find(|route| route.is_default() && route.oif().is_some());
    let Some(index) = default.and_then(|route| route.oif()) else { return Ok(None) };
    let link = route.get_link_by_index(index).await.context(|| format!("look up link {index}"))?;
    Ok(link.and_then(|link| link.mtu()))
}

pub(super) async fn addresses(route: &Connection<Route>) -> Result<Vec<IpAddr>> {
    let messages = route.get_addresses().await.context(|| "list addresses".to_owned())?;
    Ok(messages.iter().filter_map(|message| message.primary_address().copied()).collect())
}

pub(super) async fn routes(route: &Connection<Route>) -> Result<Vec<RouteTo>> {
    const MAIN_TABLE: u32 = 254;
    let names = route.get_interface_names().await.context(|| "list links".to_owned())?;
    let routes = route.get_routes().await.context(|| "list routes".to_owned())?;
    let unicast = routes.iter().filter(|route| route.table_id() == MAIN_TABLE && route.dst_len() > 0);
    let to = unicast.filter_map(|route| {
        let net = IpNet::new(*route.destination()?, route.dst_len()).ok()?;
        let link_local = matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
        let device = names.get(&route.oif()?)?.clone();
        (!link_local).then_some(RouteTo { net, device })
    });
    Ok(to.collect())
}

pub(super) async fn replace_route(route: &Connection<Route>, net: IpNet, device: &str, source: IpAddr) -> Result<()> {
    let index = index(route, device).await?;
    let what = || format!("route {net} to {device}");
    match (net, source) {
        (IpNet::V4(net), IpAddr::V4(source)) => {
            let wanted = Ipv4Route::new(net.network(), net.prefix_len()).dev_index(index).prefsrc(source);
            route.replace_route(wanted).await.context(what)
        }
        (IpNet::V6(net), IpAddr::V6(source)) => {
            let wanted = Ipv6Route::new(net.network(), net.prefix_len()).dev_index(index).prefsrc(source);
            route.replace_route(wanted).await.context(what)
        }
        _ => Err(Error::Invalid(format!("route {net}: source {source} is of the other family"))),
    }
}

pub(super) async fn delete_route(route: &Connection<Route>, net: IpNet, device: &str) -> Result<()> {
    let Some(link) = link(route, device).await? else { return Ok(()) };
    let gone = match net {
        IpNet::V4(net) => {
            let old = Ipv4Route::new(net.network(), net.prefix_len()).dev_index(link.ifindex());
            route.del_route_if_exists(old).await
        }
        IpNet::V6(net) => {
            let old = Ipv6Route::new(net.network(), net.prefix_len()).dev_index(link.ifindex());
            route.del_route_if_exists(old).await
        }
    };
    gone.map(|_| ()).context(|| format!("remove route {net} from {device}"))
}
