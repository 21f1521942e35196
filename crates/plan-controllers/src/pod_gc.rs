//! Pods that nobody else will remove. Source: `pkg/controller/podgc`.

use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::time::{left, seconds};
use coracle_plan_core::{Action, Plan, pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

/// A pod's node may be missing for so long before the pod is removed.
const QUARANTINE: Duration = Duration::from_secs(40);

/// The plan for a pod whose node is missing since `missing`, as far as it has one.
#[must_use]
pub fn plan(pod: &Pod, missing: Option<Timestamp>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if pod.is_deleting() && pod::node_name(pod).is_empty() {
        plan.because("delete the pod", "it was never on a node, so nobody else will");
        plan.push(Action::delete(pod).with_grace(0));
        return plan;
    }
    let Some(missing) = missing else { return plan };
    if let Some(left) = left(missing, QUARANTINE, now) {
        plan.requeue(left + Duration::from_millis(10));
        return plan;
    }
    plan.because("delete the pod", "its node no longer exists");
    if !pod::is_finished(pod) {
        plan.push(Action::strategic(
            pod,
            "status",
            json!({"metadata": {"uid": pod.uid()}, "status": {
                "phase": "Failed",
                "conditions": [{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists",
                    "observedGeneration": pod.metadata.generation,
                    "lastTransitionTime": seconds(now),
                }],
            }}),
        ));
    }
    plan.push(Action::delete(pod).with_grace(0));
    plan
}
