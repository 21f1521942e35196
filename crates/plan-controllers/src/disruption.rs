//! How many pods a disruption budget allows to go. Source: `pkg/controller/disruption`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::owner::controller_of;
use coracle_plan_core::select::{self, compile_opt};
use coracle_plan_core::time::{left, seconds};
use coracle_plan_core::{Action, EventKind, Plan, pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::template::scaled;

/// An evicted pod that is still there after so long is counted again.
const DISRUPTED_MAX: Duration = Duration::from_secs(120);

/// What is known about one budget.
pub struct View<'a> {
    pub budget: &'a PodDisruptionBudget,
    /// Pods of the namespace.
    pub pods: &'a [Arc<Pod>],
    /// Uid and wanted replicas of the controller that a pod's owner leads to. `None` when it has no scale.
    pub scale: &'a dyn Fn(&OwnerReference) -> Option<(String, i32)>,
}

#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let budget = view.budget;
    let Some(spec) = budget.spec.as_ref().filter(|_| !budget.is_deleting()) else { return plan };
    let selector = compile_opt(spec.selector.as_ref());
    let pods: Vec<&Arc<Pod>> = view
        .pods
        .iter()
        .filter(|pod| select::matches(&selector, pod.metadata.labels.as_ref()) && !pod::is_finished(pod))
        .collect();
    let (expected, desired) = match counts(view, &pods) {
        Ok(counts) => counts,
        Err(message) => {
            plan.push(Action::event(budget, EventKind::Warning, "CalculateExpectedPodCountFailed", message.clone()));
            fail_safe(budget, &message, now, &mut plan);
            return plan;
        }
    };
    let mut disrupted: BTreeMap<_, _> =
        budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    disrupted.retain(|name, since| {
        let there = pods.iter().any(|pod| pod.name() == name && !pod.is_deleting());
        let left = left(since.0, DISRUPTED_MAX, now);
        if let Some(left) = left.filter(|_| there) {
            plan.requeue(left + Duration::from_millis(10));
        }
        there && left.is_some()
    });
    let healthy = pods
        .iter()
        .filter(|pod| pod::is_ready(pod) && !pod.is_deleting() && !disrupted.contains_key(pod.name()))
        .count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let allowed = if expected == 0 { 0 } else { (healthy - desired).max(0) };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
        disrupted_pods: Some(disrupted).filter(|disrupted| !disrupted.is_empty()),
        conditions: budget.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let (value, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut status, budget.metadata.generation, (value, reason, ""), now);
    update(budget, status, &mut plan);
    plan
}

fn update(budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus, plan: &mut Plan) {
    if budget.status.as_ref() != Some(&status) {
        let mut budget = budget.clone();
        budget.status = Some(status);
        plan.push(Action::update_status(&budget));
    }
}

fn fail_safe(budget: &PodDisruptionBudget, message: &str, now: Timestamp, plan: &mut Plan) {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    set_condition(&mut status, budget.metadata.generation, ("False", "SyncFailed", message), now);
    update(budget, status, plan);
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    generation: Option<i64>,
    (value, reason, message): (&str, &str, &str),
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter_mut().find(|own| own.type_ == "DisruptionAllowed");
    let since = before.as_ref().filter(|own| own.status == value).map(|own| own.last_transition_time.clone());
    let condition = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| seconds(now)),
    };
    match before {
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
}

/// How many pods there should be, and how many of them healthy.
fn counts(view: &View<'_>, pods: &[&Arc<Pod>]) -> Result<(i32, i32), String> {
    let own = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let Some(spec) = &view.budget.spec else { return Ok((own, 0)) };
    if let Some(max) = &spec.max_unavailable {
        let expected = expected_by_scale(view, pods)?;
        let max = scaled(max, expected, true).ok_or("maxUnavailable cannot be read")?;
        return Ok((expected, (expected - max).max(0)));
    }
    match &spec.min_available {
        Some(IntOrString::Int(min)) => Ok((own, *min)),
        Some(share) => {
            let expected = expected_by_scale(view, pods)?;
            Ok((expected, scaled(share, expected, true).ok_or("minAvailable cannot be read")?))
        }
        None => Ok((own, own - 1)),
    }
}

fn expected_by_scale(view: &View<'_>, pods: &[&Arc<Pod>]) -> Result<i32, String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else { continue };
        let Some((uid, replicas)) = (view.scale)(owner) else {
            return Err(format!("found no controller with a scale for pod {:?}", pod.name()));
        };
        scales.insert(uid, replicas);
    }
    Ok(scales.values().sum())
}
