//! TaintToleration: taints keep pods away that do not tolerate them.

use coracle_api_types::k8s_openapi::api::core::v1::Taint;
use coracle_plan_core::node::taints;
pub use coracle_plan_core::node::tolerates;

use super::TAINT_TOLERATION;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Verdict {
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if taints(&node.node).iter().filter(keeps_away).all(|taint| tolerates(pod.tolerations(), taint)) {
        return Ok(());
    }
    Err(Rejection::unresolvable(TAINT_TOLERATION, "node(s) had untolerated taint(s)"))
}

/// How many `PreferNoSchedule` taints the pod does not tolerate: fewer is better.
#[must_use]
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let disliked = |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(pod.tolerations(), taint);
    i64::try_from(taints(&node.node).iter().filter(disliked).count()).unwrap_or(i64::MAX)
}
