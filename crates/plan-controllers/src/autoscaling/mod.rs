//! Horizontal pod autoscalers. Source: `pkg/controller/podautoscaler`.
//!
//! [`plan`] is given the scale of the target and what its pods use; what it must remember from turn to turn
//! ([`Memory`]: recent recommendations and changes of scale) goes in and comes out as a value. Metrics of `Object`,
//! `Pods` and `External` sources come from other servers; without one they are told as invalid.

mod limits;
mod replicas;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::time::seconds;
use coracle_plan_core::{Action, EventKind, Plan, Target};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

pub use limits::Memory;
use replicas::Computed;

/// How often an autoscaler is looked at. Source: `--horizontal-pod-autoscaler-sync-period`.
pub const SYNC_EVERY: Duration = Duration::from_secs(15);

/// The thing that is scaled.
#[derive(Debug, Clone)]
pub struct Scale {
    pub target: Target,
    pub wanted: i32,
    pub actual: i32,
    /// Text of the selector of its pods.
    pub selector: String,
}

/// What a pod uses.
#[derive(Debug, Clone, PartialEq)]
pub struct PodUsage {
    pub name: String,
    pub timestamp: Timestamp,
    pub window: Duration,
    /// Thousandths of each resource, by container.
    pub containers: BTreeMap<String, BTreeMap<String, i64>>,
}

/// What is known about one autoscaler.
pub struct View<'a> {
    pub scaler: &'a HorizontalPodAutoscaler,
    /// Or why it cannot be read.
    pub scale: Result<Scale, String>,
    /// Pods that the scale selects.
    pub pods: &'a [Arc<Pod>],
    /// What they use, or why that is not known.
    pub usage: Result<Vec<PodUsage>, String>,
    /// `namespace/name` of all autoscalers of these pods, this one among them.
    pub rivals: Vec<String>,
    pub memory: Memory,
}

/// The plan and what to remember.
#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> (Plan, Memory) {
    let mut turn = Turn::new(view, now);
    if !view.scaler.is_deleting() {
        turn.run();
    }
    turn.plan.requeue(SYNC_EVERY);
    (turn.plan, turn.memory)
}

struct Turn<'a> {
    view: &'a View<'a>,
    now: Timestamp,
    plan: Plan,
    memory: Memory,
    status: HorizontalPodAutoscalerStatus,
    conditions: Vec<HorizontalPodAutoscalerCondition>,
}

impl<'a> Turn<'a> {
    fn new(view: &'a View<'a>, now: Timestamp) -> Self {
        let mut status = view.scaler.status.clone().unwrap_or_default();
        let conditions = status.conditions.take().unwrap_or_default();
        Self { view, now, plan: Plan::nothing(), memory: view.memory.clone(), status, conditions }
    }

    fn run(&mut self) {
        let scale = match &self.view.scale {
            Ok(scale) => scale,
            Err(error) => {
                self.warn("FailedGetScale", error);
                let message = format!("the HPA controller was unable to get the target's current scale: {error}");
                self.set("AbleToScale", "False", "FailedGetScale", &message);
                return self.finish();
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        self.set("AbleToScale", "True", "SucceededGetScale", message);
        let spec = &self.view.scaler.spec;
        let min = spec.min_replicas.unwrap_or(1);
        self.memory.begin(scale.wanted, self.now);
        let (wanted, why, metrics) = if scale.wanted == 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            self.set("ScalingActive", "False", "ScalingDisabled", message);
            (0, String::new(), None)
        } else if scale.wanted > spec.max_replicas {
            (spec.max_replicas, "Current number of replicas above Spec.MaxReplicas".to_owned(), None)
        } else if scale.wanted < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned(), None)
        } else {
            match self.by_metrics(scale) {
                Ok((wanted, why, statuses)) => (self.normalized(scale.wanted, wanted, min), why, Some(statuses)),
                Err(statuses) => {
                    self.status.current_replicas = Some(scale.wanted);
                    self.status.current_metrics = some(statuses);
                    return self.finish();
                }
            }
        };
        if wanted != scale.wanted {
            self.rescale(scale, wanted, &why);
        }
        self.status.current_replicas = Some(scale.wanted);
        self.status.desired_replicas = wanted;
        self.status.current_metrics = some(metrics.unwrap_or_default());
        self.finish();
    }

    fn rescale(&mut self, scale: &Scale, wanted: i32, why: &str) {
        let Target { gvr, key } = scale.target.clone();
        self.plan.because(format!("scale to {wanted}"), why);
        // Without a version: what counts is the number, whoever wrote the object in between.
        let object = json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": key.name, "namespace": key.namespace}, "spec": {"replicas": wanted}});
        self.plan.push(Action::Update { gvr, subresource: "scale", object });
        let message = format!("New size: {wanted}; reason: {why}");
        self.plan.push(Action::event(self.view.scaler, EventKind::Normal, "SuccessfulRescale", message));
        let message = format!("the HPA controller was able to update the target scale to {wanted}");
        self.set("AbleToScale", "True", "SucceededRescale", &message);
        self.status.last_scale_time = Some(seconds(self.now));
        self.memory.scaled(self.view.scaler.spec.behavior.as_ref(), scale.wanted, wanted, self.now);
    }

    /// The highest of what the metrics propose, why, and their values. Without a proposal, the values alone.
    fn by_metrics(&mut self, scale: &Scale) -> Result<(i32, String, Vec<MetricStatus>), Vec<MetricStatus>> {
        if let Err((reason, event, message)) = self.check_selector(scale) {
            self.set("ScalingActive", "False", reason, &message);
            self.warn(event, &message);
            self.warn("FailedComputeMetricsReplicas", &message);
            return Err(Vec::new());
        }
        let specs = self.view.scaler.spec.metrics.as_deref().unwrap_or_default();
        let mut statuses = Vec::new();
        let mut best: Option<Computed> = None;
        let mut failures: Vec<(&'static str, String, String)> = Vec::new();
        for spec in specs {
            match replicas::compute(self.view, spec, scale.wanted, self.now) {
                Ok(computed) => {
                    statuses.push(computed.status.clone());
                    if best.as_ref().is_none_or(|best| computed.replicas > best.replicas) {
                        best = Some(computed);
                    }
                }
                Err(why) => {
                    let (reason, prefix) = failed_reason(spec);
                    self.warn(reason, &why);
                    statuses.push(MetricStatus::default());
                    failures.push((reason, format!("{prefix}: {why}"), why));
                }
            }
        }
        let falls = |best: &Computed| !failures.is_empty() && best.replicas < scale.wanted;
        match best.filter(|best| !falls(best)) {
            Some(best) => {
                let message = format!(
                    "the HPA was able to successfully calculate a replica count from {metric}",
                    metric = best.metric
                );
                self.set("ScalingActive", "True", "ValidMetricFound", &message);
                let why = if best.replicas > scale.wanted {
                    format!("{} above target", best.metric)
                } else {
                    "All metrics below target".to_owned()
                };
                Ok((best.replicas, why, statuses))
            }
            None => {
                if let Some((reason, first, why)) = failures.first() {
                    let message = format!("the HPA was unable to compute the replica count: {why}");
                    self.set("ScalingActive", "False", reason, &message);
                    let counts = format!("{} invalid out of {}", failures.len(), specs.len());
                    let message = format!("invalid metrics ({counts}), first error is: {first}");
                    self.warn("FailedComputeMetricsReplicas", &message);
                }
                Err(statuses)
            }
        }
    }

    /// Reason of the condition, reason of the event, message.
    fn check_selector(&self, scale: &Scale) -> Result<(), (&'static str, &'static str, String)> {
        if scale.selector.is_empty() {
            let message = "the HPA target's scale is missing a selector".to_owned();
            return Err(("InvalidSelector", "SelectorRequired", message));
        }
        if self.view.rivals.len() > 1 {
            let rivals = self.view.rivals.join(" ");
            let message = format!("pods by selector {} are controlled by multiple HPAs: [{rivals}]", scale.selector);
            return Err(("AmbiguousSelector", "AmbiguousSelector", message));
        }
        Ok(())
    }

    /// Steadied and kept within the bounds and rates.
    fn normalized(&mut self, current: i32, proposed: i32, min: i32) -> i32 {
        let spec = &self.view.scaler.spec;
        let range = limits::Range { current, min, max: spec.max_replicas };
        let (steady, stabilized) = self.memory.stabilize(spec.behavior.as_ref(), current, proposed, self.now);
        match stabilized {
            Some((reason, message)) => self.set("AbleToScale", "True", reason, message),
            None => self.set("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size"),
        }
        let (wanted, reason, message) = self.memory.limit(spec.behavior.as_ref(), &range, steady, self.now);
        let limited = if wanted == steady { "False" } else { "True" };
        self.set("ScalingLimited", limited, reason, message);
        wanted
    }

    fn warn(&mut self, reason: &str, message: &str) {
        self.plan.push(Action::event(self.view.scaler, EventKind::Warning, reason, message));
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let before = self.conditions.iter_mut().find(|own| own.type_ == kind);
        let since = before.as_ref().filter(|own| own.status == status).and_then(|own| own.last_transition_time.clone());
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since.or_else(|| Some(seconds(self.now))),
        };
        match before {
            Some(before) => *before = condition,
            None => self.conditions.push(condition),
        }
    }

    fn finish(&mut self) {
        let mut status = std::mem::take(&mut self.status);
        status.conditions = Some(std::mem::take(&mut self.conditions));
        if self.view.scaler.status.as_ref() != Some(&status) {
            let mut updated = self.view.scaler.clone();
            updated.status = Some(status);
            self.plan.push(Action::update_status(&updated));
        }
    }
}

fn some(statuses: Vec<MetricStatus>) -> Option<Vec<MetricStatus>> {
    Some(statuses).filter(|statuses| !statuses.is_empty())
}

/// The condition's reason, and how the failure is told of all metrics together.
fn failed_reason(spec: &MetricSpec) -> (&'static str, String) {
    match spec.type_.as_str() {
        "Resource" => {
            let name = spec.resource.as_ref().map(|own| own.name.as_str()).unwrap_or_default();
            ("FailedGetResourceMetric", format!("failed to get {name} resource metric value"))
        }
        "ContainerResource" => {
            let name = spec.container_resource.as_ref().map(|own| own.container.as_str()).unwrap_or_default();
            ("FailedGetContainerResourceMetric", format!("failed to get {name} container metric value"))
        }
        "Object" => ("FailedGetObjectMetric", "failed to get object metric value".to_owned()),
        "Pods" => ("FailedGetPodsMetric", "failed to get pods metric value".to_owned()),
        _ => {
            let name = spec.external.as_ref().map(|own| own.metric.name.as_str()).unwrap_or_default();
            ("FailedGetExternalMetric", format!("failed to get {name} external metric value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().expect("time")
    }

    fn scaler(behavior: serde_json::Value) -> HorizontalPodAutoscaler {
        let mut value = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "d", "generation": 1},
            "spec": {"minReplicas": 2, "maxReplicas": 10, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}});
        if behavior.is_object() {
            value["spec"]["behavior"] = behavior;
        }
        HorizontalPodAutoscaler::from_value(&value).expect("autoscaler")
    }

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        let pod = |number: usize| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{number}"), "namespace": "d"},
                "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "100m"}}}]},
                "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z",
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}]}});
            Arc::new(Pod::from_value(&pod).expect("pod"))
        };
        (0..count).map(pod).collect()
    }

    fn usage(millis: &[i64]) -> Vec<PodUsage> {
        let one = |(number, millis): (usize, &i64)| PodUsage {
            name: format!("p{number}"),
            timestamp: now(),
            window: Duration::from_secs(15),
            containers: BTreeMap::from([("main".to_owned(), BTreeMap::from([("cpu".to_owned(), *millis)]))]),
        };
        millis.iter().enumerate().map(one).collect()
    }

    fn turn(scaler: &HorizontalPodAutoscaler, wanted: i32, used: &[i64], memory: Memory) -> (String, Memory) {
        let pods = pods(usize::try_from(wanted).expect("few"));
        let target = Target::named::<Deployment>("d", "web");
        let view = View {
            scaler,
            scale: Ok(Scale { target, wanted, actual: wanted, selector: "app=web".to_owned() }),
            pods: &pods,
            usage: Ok(usage(used)),
            rivals: vec!["d/h".to_owned()],
            memory,
        };
        let (plan, memory) = plan(&view, now());
        (plan.to_string(), memory)
    }

    fn replicas(text: &str) -> Option<&str> {
        text.strip_prefix("update deployments.apps/scale d/web\n")?.split("New size: ").nth(1)?.split(';').next()
    }

    #[test]
    fn the_bounds_hold_without_metrics() {
        let scaler = scaler(json!(null));
        let with = |wanted| turn(&scaler, wanted, &[], Memory::default()).0;
        assert!(with(11).contains("New size: 10; reason: Current number of replicas above Spec.MaxReplicas"));
        assert!(with(1).contains("New size: 2; reason: Current number of replicas below Spec.MinReplicas"));
        assert!(with(0).contains("ScalingDisabled"));
        let none = with(3);
        assert!(none.contains("FailedGetResourceMetric") && replicas(&none).is_none(), "{none}");
        assert!(none.contains("did not receive metrics for targeted pods (pods might be unready)"), "{none}");
    }

    #[test]
    fn load_scales_up_and_calm_scales_down_later() {
        let scaler = scaler(json!(null));
        let (text, memory) = turn(&scaler, 2, &[160, 160], Memory::default());
        assert_eq!(replicas(&text), Some("4"), "{text}");
        assert!(
            text.contains("New size: 4; reason: cpu resource utilization (percentage of request) above target"),
            "{text}"
        );
        assert!(text.contains(r#""averageUtilization":160"#) && text.contains(r#""averageValue":"160m""#), "{text}");
        let (text, memory) = turn(&scaler, 4, &[81, 81, 81, 81], memory);
        assert!(replicas(&text).is_none(), "within the tolerance: {text}");
        let (text, _) = turn(&scaler, 4, &[1, 1, 1, 1], memory);
        assert!(replicas(&text).is_none() && text.contains("ScaleDownStabilized"), "{text}");
        let old = Memory::default().with_recommendation(now() - jiff::SignedDuration::from_secs(301), 4);
        let (text, _) = turn(&scaler, 4, &[1, 1, 1, 1], old);
        assert_eq!(replicas(&text), Some("2"), "{text}");
        assert!(text.contains("TooFewReplicas") && text.contains("All metrics below target"), "{text}");
    }

    #[test]
    fn not_more_than_doubled_and_never_beyond_the_maximum() {
        let scaler = scaler(json!(null));
        let (text, _) = turn(&scaler, 3, &[900, 900, 900], Memory::default());
        assert_eq!(replicas(&text), Some("6"), "{text}");
        assert!(text.contains("ScaleUpLimit"), "{text}");
        let (text, _) = turn(&scaler, 8, &[900; 8], Memory::default());
        assert_eq!(replicas(&text), Some("10"), "{text}");
        assert!(text.contains("TooManyReplicas"), "{text}");
    }

    #[test]
    fn behaviors_limit_the_rate() {
        let policy = |value: i32| json!([{"type": "Pods", "value": value, "periodSeconds": 60}]);
        let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": policy(1)});
        let down = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": policy(2)});
        let scaler = scaler(json!({"scaleUp": up, "scaleDown": down}));
        let (text, memory) = turn(&scaler, 3, &[900, 900, 900], Memory::default());
        assert_eq!(replicas(&text), Some("4"), "{text}");
        let (text, _) = turn(&scaler, 4, &[900; 4], memory);
        assert!(replicas(&text).is_none(), "one was added this minute: {text}");
        let (text, _) = turn(&scaler, 8, &[1; 8], Memory::default());
        assert_eq!(replicas(&text), Some("6"), "{text}");
        assert!(text.contains("ScaleDownLimit"), "{text}");
    }

    #[test]
    fn missing_pods_make_it_careful() {
        let scaler = scaler(json!(null));
        let (text, _) = turn(&scaler, 4, &[120, 120], Memory::default());
        assert!(replicas(&text).is_none(), "the others count as idle: {text}");
        let (text, _) = turn(&scaler, 4, &[400, 400], Memory::default());
        assert_eq!(replicas(&text), Some("8"), "more than these four would be 20: {text}");
    }
}
