//! The inside of a pod's network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use nlink::netlink::types::route::RouteScope;
use nlink::netlink::{Connection, Route};
use nlink::{Ipv4Address, Ipv4Route, Ipv6Address, Ipv6Route};

use super::links;
use crate::Result;
use crate::error::Context;
use crate::host::PodInterface;

fn open(netns: &Path) -> Result<Connection<Route>> {
    Connection::<Route>::new_in(netns).context(|| format!("open namespace {}", netns.display()))
}

pub(super) async fn configure(netns: &Path, interface: &PodInterface) -> Result<()> {
    let route = open(netns)?;
    let what = |step: &str| format!("{step} {} in {}", interface.name, netns.display());
    route.set_link_up("lo").await.context(|| format!("bring lo up in {}", netns.display()))?;
    let index = links::index(&route, &interface.name).await?;
    for address in &interface.addresses {
        add_address(&route, index, *address).await.context(|| what(&format!("set {address} on")))?;
    }
    route.set_link_up_by_index(index).await.context(|| what("bring up"))?;
    for gateway in &interface.gateways {
        add_routes(&route, index, *gateway).await.context(|| what(&format!("route by {gateway} on")))?;
    }
    Ok(())
}

async fn add_address(route: &Connection<Route>, index: u32, address: IpAddr) -> nlink::Result<()> {
    match address {
        IpAddr::V4(v4) => route.replace_address(Ipv4Address::with_index(index, v4, 32)).await,
        // Nobody else can have the address: waiting for duplicates would only delay the pod.
        IpAddr::V6(v6) => route.replace_address(Ipv6Address::with_index(index, v6, 128).nodad()).await,
    }
}

async fn add_routes(route: &Connection<Route>, index: u32, gateway: IpAddr) -> nlink::Result<()> {
    match gateway {
        IpAddr::V4(v4) => {
            let on_link = Ipv4Route::new(v4, 32).dev_index(index).scope(RouteScope::Link);
            route.replace_route(on_link).await?;
            route.replace_route(Ipv4Route::new(Ipv4Addr::UNSPECIFIED, 0).gateway(v4).dev_index(index)).await
        }
        IpAddr::V6(v6) => {
            route.replace_route(Ipv6Route::new(v6, 128).dev_index(index)).await?;
            route.replace_route(Ipv6Route::new(Ipv6Addr::UNSPECIFIED, 0).gateway(v6).dev_index(index)).await
        }
    }
}

pub(super) async fn addresses(netns: &Path, interface: &str) -> Result<Option<Vec<IpAddr>>> {
    let route = open(netns)?;
    let Some(link) = links::link(&route, interface).await? else { return Ok(None) };
    let messages = route
        .get_addresses_by_index(link.ifindex())
        .await
        .context(|| format!("list addresses of {interface} in {}", netns.display()))?;
    let addresses = messages.iter().filter_map(|message| message.primary_address().copied());
    Ok(Some(addresses.filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect()))
}
