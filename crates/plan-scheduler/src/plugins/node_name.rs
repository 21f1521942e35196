//! NodeName: a pod that names its node goes nowhere else.

use super::NODE_NAME;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Verdict {
    let wanted = coracle_plan_core::pod::node_name(&pod.pod);
    if wanted.is_empty() || wanted == node.name() {
        return Ok(());
    }
    Err(Rejection::unresolvable(NODE_NAME, "node(s) didn't match the requested node name"))
}
