//! TaintToleration: taints keep pods away that do not tolerate them.

use coracle_api_types::k8s_openapi::api::core::v1::{Taint, Toleration};

use super::TAINT_TOLERATION;
use crate::info::{NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

/// Source: `core/v1 Toleration.ToleratesTaint`.
#[must_use]
pub fn tolerates_one(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let own = text(&toleration.value);
    let other = text(&taint.value);
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => own == other,
        "Exists" => true,
        "Gt" | "Lt" => match (own.parse::<i64>(), other.parse::<i64>()) {
            (Ok(own), Ok(other)) if toleration.operator.as_deref() == Some("Gt") => other > own,
            (Ok(own), Ok(other)) => other < own,
            _ => false,
        },
        _ => false,
    }
}

#[must_use]
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates_one(toleration, taint))
}

fn taints(node: &NodeInfo) -> &[Taint] {
    node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Verdict {
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if taints(node).iter().filter(keeps_away).all(|taint| tolerates(pod.tolerations(), taint)) {
        return Ok(());
    }
    Err(Rejection::unresolvable(TAINT_TOLERATION, "node(s) had untolerated taint(s)"))
}

/// How many `PreferNoSchedule` taints the pod does not tolerate: fewer is better.
#[must_use]
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let disliked = |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(pod.tolerations(), taint);
    i64::try_from(taints(node).iter().filter(disliked).count()).unwrap_or(i64::MAX)
}
