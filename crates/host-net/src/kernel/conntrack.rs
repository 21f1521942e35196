//! Connection tracking: UDP flows that must be translated anew.

use std::net::SocketAddr;

use coracle_nft::Family;
use nlink::netlink::netfilter::{ConntrackBuilder, ConntrackEntry, ConntrackFilter, ConntrackTuple, IpProtocol};
use nlink::netlink::types::AddressFamily;
use nlink::netlink::{Connection, Netfilter};

use crate::Result;
use crate::error::Context;
use crate::host::UdpFlow;

pub(super) async fn udp_flows(connection: &Connection<Netfilter>, family: Family) -> Result<Vec<UdpFlow>> {
    let family = match family {
        Family::Ip => AddressFamily::Inet,
        Family::Ip6 => AddressFamily::Inet6,
    };
    let filter = ConntrackFilter::new().family(family).proto(IpProtocol::Udp);
    let entries = connection.get_conntrack_matching(&filter).await.context(|| "list UDP flows".to_owned())?;
    Ok(entries.iter().filter_map(flow).collect())
}

fn flow(entry: &ConntrackEntry) -> Option<UdpFlow> {
    Some(UdpFlow {
        source: socket(entry.orig.src_ip, entry.orig.src_port)?,
        destination: socket(entry.orig.dst_ip, entry.orig.dst_port)?,
        translated: socket(entry.reply.src_ip, entry.reply.src_port)?,
    })
}

fn socket(address: Option<std::net::IpAddr>, port: Option<u16>) -> Option<SocketAddr> {
    Some(SocketAddr::new(address?, port?))
}

pub(super) async fn delete_udp_flows(connection: &Connection<Netfilter>, flows: &[UdpFlow]) -> Result<usize> {
    let mut deleted = 0;
    for flow in flows {
        let (builder, tuple) = match (flow.source, flow.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                (ConntrackBuilder::new_v4(IpProtocol::Udp), ConntrackTuple::v4(*source.ip(), *destination.ip()))
            }
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                (ConntrackBuilder::new_v6(IpProtocol::Udp), ConntrackTuple::v6(*source.ip(), *destination.ip()))
            }
            _ => continue,
        };
        let tuple = tuple.ports(flow.source.port(), flow.destination.port());
        match connection.del_conntrack(builder.orig(tuple)).await {
            Ok(()) => deleted += 1,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error).context(|| format!("forget the UDP flow from {}", flow.source)),
        }
    }
    Ok(deleted)
}
