//! What a pod asks of the host's ports, and the flows that come to them.

use std::net::IpAddr;

use coracle_cri::PodNetworkRequest;
use coracle_host_net::UdpFlow;
use coracle_nft::Proto;

use crate::Error;
use crate::rules::HostPort;

/// Host ports of one sandbox.
const HOST_PORTS_PER_SANDBOX_MAX: usize = 4096;

pub(crate) fn host_ports(request: &PodNetworkRequest, ips: &[IpAddr]) -> Result<Vec<HostPort>, Error> {
    let mut ports = Vec::new();
    for mapping in &request.port_mappings {
        if mapping.host_port == 0 {
            continue;
        }
        let protocol = protocol(mapping.protocol);
        let host_ip: Option<IpAddr> = mapping.host_ip.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
        let (host_port, pod_port) = (mapping.host_port, mapping.container_port);
        if ports.len() >= HOST_PORTS_PER_SANDBOX_MAX {
            let pod = format!("{}/{}", request.pod_namespace, request.pod_name);
            let max = HOST_PORTS_PER_SANDBOX_MAX;
            return Err(Error::TooManyHostPorts { pod, host_port, protocol: protocol.name(), max });
        }
        let port = |pod_ip: &IpAddr| HostPort { host_ip, protocol, host_port, pod_ip: *pod_ip, pod_port };
        ports.extend(ips.iter().map(port));
    }
    Ok(ports)
}

fn protocol(protocol: coracle_cri::Protocol) -> Proto {
    match protocol {
        coracle_cri::Protocol::Tcp => Proto::Tcp,
        coracle_cri::Protocol::Udp => Proto::Udp,
        coracle_cri::Protocol::Sctp => Proto::Sctp,
    }
}

/// Whether a packet of the flow comes to the host port.
pub(crate) fn leads(port: &HostPort, flow: &UdpFlow, own: &[IpAddr]) -> bool {
    let address = flow.destination.ip();
    let to_host = port.host_ip.map_or_else(|| own.contains(&address), |host_ip| host_ip == address);
    port.protocol == Proto::Udp && flow.destination.port() == port.host_port && to_host
}

pub(crate) fn goes_to(port: &HostPort, flow: &UdpFlow) -> bool {
    flow.translated.ip() == port.pod_ip && flow.translated.port() == port.pod_port
}
