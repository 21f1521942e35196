//! Which endpoints serve a Service port. Source: `CategorizeEndpoints` of kube-proxy, KEP-1669, KEP-2433, KEP-3015.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use coracle_nft::{Family, Proto};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use crate::Node;

/// An endpoint of one Service port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    ready: bool,
    serving_and_terminating: bool,
    local: bool,
    zones: Vec<String>,
    nodes: Vec<String>,
}

/// The endpoints of one Service port, in the order of their addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Serving {
    /// For the policy Cluster.
    pub(crate) cluster: Vec<SocketAddr>,
    /// For the policy Local.
    pub(crate) local: Vec<SocketAddr>,
    /// Ready ones on this node, for health checks of load balancers.
    pub(crate) local_ready: usize,
}

impl Serving {
    /// Of the slices of one Service, those endpoints that serve the port.
    pub(crate) fn of(slices: &[&EndpointSlice], family: Family, node: &Node, port: &str, protocol: Proto) -> Serving {
        let mut candidates: BTreeMap<SocketAddr, Candidate> = BTreeMap::new();
        for slice in slices.iter().filter(|slice| slice.address_type == address_type(family)) {
            for number in port_numbers(slice, port, protocol) {
                for endpoint in slice.endpoints.iter().flatten() {
                    add(&mut candidates, endpoint, number, family, node);
                }
            }
        }
        choose(&candidates, node)
    }
}

fn address_type(family: Family) -> &'static str {
    match family {
        Family::Ip => "IPv4",
        Family::Ip6 => "IPv6",
    }
}

fn port_numbers(slice: &EndpointSlice, name: &str, protocol: Proto) -> Vec<u16> {
    let matches = |port: &&EndpointPort| {
        port.name.as_deref().unwrap_or_default() == name
            && Proto::parse(port.protocol.as_deref().unwrap_or("TCP")) == Some(protocol)
    };
    let ports = slice.ports.as_deref().unwrap_or_default().iter().filter(matches);
    ports.filter_map(|port| port.port.and_then(|number| u16::try_from(number).ok())).filter(|port| *port > 0).collect()
}

fn add(candidates: &mut BTreeMap<SocketAddr, Candidate>, endpoint: &Endpoint, port: u16, family: Family, node: &Node) {
    // All addresses of an endpoint are the same one (KEP-4974); the first counts.
    let Some(address) = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok()) else { return };
    if Family::of(address) != family {
        return;
    }
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    let candidate = Candidate {
        ready,
        serving_and_terminating: serving && terminating,
        local: endpoint.node_name.as_deref() == Some(node.name.as_str()),
        zones: zones.iter().map(|zone| zone.name.clone()).collect(),
        nodes: nodes.iter().map(|node| node.name.clone()).collect(),
    };
    // The same endpoint may be in two slices while it moves between them.
    let known = candidates.entry(SocketAddr::new(address, port)).or_insert_with(|| candidate.clone());
    if candidate.ready && !known.ready {
        *known = candidate;
    }
}

fn choose(candidates: &BTreeMap<SocketAddr, Candidate>, node: &Node) -> Serving {
    let by = |keep: &dyn Fn(&Candidate) -> bool| -> Vec<SocketAddr> {
        candidates.iter().filter(|(_, candidate)| keep(candidate)).map(|(address, _)| *address).collect()
    };
    let or = |first: Vec<SocketAddr>, second: Vec<SocketAddr>| if first.is_empty() { second } else { first };
    let ready = by(&|candidate| candidate.ready);
    let cluster = match hinted(candidates, node) {
        Some(hinted) => hinted,
        None => or(ready, by(&|candidate| candidate.serving_and_terminating)),
    };
    let local_ready = by(&|candidate| candidate.local && candidate.ready);
    Serving {
        cluster,
        local_ready: local_ready.len(),
        local: or(local_ready, by(&|candidate| candidate.local && candidate.serving_and_terminating)),
    }
}

/// The ready endpoints meant for this node, or else for its zone; `None` when hints are missing anywhere or lead
/// nowhere, so that all endpoints serve.
fn hinted(candidates: &BTreeMap<SocketAddr, Candidate>, node: &Node) -> Option<Vec<SocketAddr>> {
    let ready = || candidates.iter().filter(|(_, candidate)| candidate.ready);
    let all = |has: &dyn Fn(&Candidate) -> bool| ready().next().is_some() && ready().all(|(_, one)| has(one));
    let some = |keep: &dyn Fn(&Candidate) -> bool| -> Option<Vec<SocketAddr>> {
        let kept: Vec<SocketAddr> = ready().filter(|(_, one)| keep(one)).map(|(address, _)| *address).collect();
        (!kept.is_empty()).then_some(kept)
    };
    let by_node = || some(&|one: &Candidate| one.nodes.contains(&node.name));
    if all(&|one: &Candidate| !one.nodes.is_empty())
        && let Some(kept) = by_node()
    {
        return Some(kept);
    }
    let zone = node.zone.as_ref()?;
    if all(&|one: &Candidate| !one.zones.is_empty()) { some(&|one: &Candidate| one.zones.contains(zone)) } else { None }
}
