//! NodePorts: two pods of a node cannot have the same host port.

use super::NODE_PORTS;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Verdict {
    let mut taken = node.pods.iter().flat_map(|other| &other.ports);
    if pod.ports.is_empty() || !taken.any(|taken| pod.ports.iter().any(|wanted| wanted.conflicts(taken))) {
        return Ok(());
    }
    Err(Rejection::unschedulable(NODE_PORTS, "node(s) didn't have free ports for the requested pod ports"))
}
