//! NodeUnschedulable: cordoned nodes take only pods that tolerate it.

use super::NODE_UNSCHEDULABLE;
use super::taint_toleration::tolerates;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};
use coracle_api_types::k8s_openapi::api::core::v1::Taint;

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Verdict {
    let cordoned = node.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if !cordoned {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if tolerates(pod.tolerations(), &taint) {
        return Ok(());
    }
    Err(Rejection::unresolvable(NODE_UNSCHEDULABLE, "node(s) were unschedulable"))
}
