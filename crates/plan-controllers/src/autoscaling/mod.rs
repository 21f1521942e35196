//! Horizontal pod autoscalers as far as they go without a metrics API: the bounds of replicas, and conditions that say
//! what is missing. Source: `pkg/controller/podautoscaler`.

use coracle_api_types::Object;
use coracle_plan_core::time::seconds;
use coracle_plan_core::{Action, EventKind, Plan, PlannedPatch, Target};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
};
use serde_json::json;

/// The thing that is scaled.
#[derive(Debug, Clone)]
pub struct Scale {
    pub target: Target,
    pub wanted: i32,
    pub actual: i32,
}

#[must_use]
pub fn plan(scaler: &HorizontalPodAutoscaler, scale: Option<&Scale>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let spec = &scaler.spec;
    if scaler.is_deleting() {
        return plan;
    }
    let before = scaler.status.clone().unwrap_or_default();
    let mut status = HorizontalPodAutoscalerStatus { observed_generation: scaler.metadata.generation, ..before };
    let mut conditions = status.conditions.take().unwrap_or_default();
    let Some(scale) = scale else {
        let name = &spec.scale_target_ref.name;
        let message = format!("the HPA controller was unable to get the target's current scale: {name:?} not found");
        set(&mut conditions, "AbleToScale", ("False", "FailedGetScale", &message), now);
        return finish(scaler, status, conditions, plan);
    };
    let message = "the HPA controller was able to get the target's current scale";
    set(&mut conditions, "AbleToScale", ("True", "SucceededGetScale", message), now);
    let min = spec.min_replicas.unwrap_or(1);
    status.current_replicas = Some(scale.actual);
    let (wanted, why) = if scale.wanted == 0 && min != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        set(&mut conditions, "ScalingActive", ("False", "ScalingDisabled", message), now);
        (0, "")
    } else if scale.wanted > spec.max_replicas {
        (spec.max_replicas, "Current number of replicas above Spec.MaxReplicas")
    } else if scale.wanted < min {
        (min, "Current number of replicas below Spec.MinReplicas")
    } else {
        set(&mut conditions, "ScalingActive", ("False", "FailedGetResourceMetric", &no_metrics(scaler)), now);
        (scale.wanted, "")
    };
    status.desired_replicas = wanted;
    if wanted != scale.wanted {
        let patch = PlannedPatch::Merge(json!({"spec": {"replicas": wanted}}));
        plan.because(format!("scale to {wanted}"), why);
        plan.push(Action::Patch { target: scale.target.clone(), subresource: "scale", patch });
        let message = format!("New size: {wanted}; reason: {why}");
        plan.push(Action::event(scaler, EventKind::Normal, "SuccessfulRescale", message));
        let message = format!("the HPA controller was able to update the target scale to {wanted}");
        set(&mut conditions, "AbleToScale", ("True", "SucceededRescale", &message), now);
        status.last_scale_time = Some(seconds(now));
    }
    finish(scaler, status, conditions, plan)
}

fn no_metrics(scaler: &HorizontalPodAutoscaler) -> String {
    let metrics = scaler.spec.metrics.as_ref();
    let named = metrics.into_iter().flatten().find_map(|metric| metric.resource.as_ref().map(|own| own.name.clone()));
    let name = named.unwrap_or("cpu".to_owned());
    format!(
        "the HPA was unable to compute the replica count: failed to get {name} utilization: unable to get metrics for resource {name}: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
    )
}

fn set(
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    now: Timestamp,
) {
    let before = conditions.iter_mut().find(|own| own.type_ == kind);
    let since = before.as_ref().filter(|own| own.status == status).and_then(|own| own.last_transition_time.clone());
    let condition = HorizontalPodAutoscalerCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or_else(|| Some(seconds(now))),
    };
    match before {
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
}

fn finish(
    scaler: &HorizontalPodAutoscaler,
    mut status: HorizontalPodAutoscalerStatus,
    conditions: Vec<HorizontalPodAutoscalerCondition>,
    mut plan: Plan,
) -> Plan {
    status.conditions = Some(conditions);
    if scaler.status.as_ref() != Some(&status) {
        let mut updated = scaler.clone();
        updated.status = Some(status);
        plan.push(Action::update_status(&updated));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;

    #[test]
    fn bounds_hold_without_metrics() {
        let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "d", "generation": 1},
            "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
        let scaler = HorizontalPodAutoscaler::from_value(&scaler).expect("autoscaler");
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let with = |wanted: i32| {
            let scale = Scale { target: Target::named::<Deployment>("d", "web"), wanted, actual: wanted };
            plan(&scaler, Some(&scale), now).to_string()
        };
        assert!(with(9).starts_with(
            "patch deployments.apps d/web scale {\"spec\":{\"replicas\":4}}\nevent h Normal SuccessfulRescale: New size: 4;"
        ));
        assert!(with(1).contains("New size: 2; reason: Current number of replicas below Spec.MinReplicas"));
        assert!(with(3).contains("FailedGetResourceMetric") && !with(3).contains("patch"));
        assert!(with(0).contains("ScalingDisabled"));
        assert!(plan(&scaler, None, now).to_string().contains("FailedGetScale"));
    }
}
