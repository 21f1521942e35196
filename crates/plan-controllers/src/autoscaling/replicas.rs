//! From usage to a number of replicas. Source: `pkg/controller/podautoscaler/replica_calculator.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_api_meta::Quantity;
use coracle_api_meta::quantity::Format;
use coracle_api_types::Object;
use coracle_plan_core::{pod, time};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
    ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as TypedQuantity;

use super::View;

/// CPU samples of a pod that is younger than this count only while it is ready. Source: `--horizontal-pod-autoscaler-cpu-initialization-period`.
const CPU_INITIALIZATION: Duration = Duration::from_secs(300);
/// Source: `--horizontal-pod-autoscaler-initial-readiness-delay`.
const INITIAL_READINESS: Duration = Duration::from_secs(30);
/// Source: `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;

/// What a metric proposes.
#[derive(Debug, Clone)]
pub(super) struct Computed {
    pub replicas: i32,
    pub metric: String,
    pub status: MetricStatus,
}

/// The source of usage: a resource of whole pods or of one container.
struct Source<'a> {
    resource: &'a str,
    container: &'a str,
}

pub(super) fn compute(view: &View<'_>, spec: &MetricSpec, current: i32, now: Timestamp) -> Result<Computed, String> {
    match (spec.type_.as_str(), &spec.resource, &spec.container_resource) {
        ("Resource", Some(own), _) => {
            let source = Source { resource: &own.name, container: "" };
            let (replicas, value, metric) = by_resource(view, &source, &own.target, current, now)?;
            let resource = ResourceMetricStatus { name: own.name.clone(), current: value };
            let status =
                MetricStatus { type_: spec.type_.clone(), resource: Some(resource), ..MetricStatus::default() };
            Ok(Computed { replicas, metric, status })
        }
        ("ContainerResource", _, Some(own)) => {
            let source = Source { resource: &own.name, container: &own.container };
            let (replicas, value, metric) = by_resource(view, &source, &own.target, current, now)?;
            let container = ContainerResourceMetricStatus {
                name: own.name.clone(),
                container: own.container.clone(),
                current: value,
            };
            let status = MetricStatus {
                type_: spec.type_.clone(),
                container_resource: Some(container),
                ..MetricStatus::default()
            };
            Ok(Computed { replicas, metric, status })
        }
        ("External", ..) => {
            let metric = spec.external.as_ref().map(|own| own.metric.name.as_str()).unwrap_or_default();
            let namespace = view.scaler.namespace();
            Err(format!(
                "unable to get external metric {namespace}/{metric}/nil: unable to fetch metrics from external metrics API: the server could not find the requested resource (get {metric}.external.metrics.k8s.io)"
            ))
        }
        _ => {
            let object = spec.object.as_ref().map(|own| own.metric.name.as_str());
            let metric = object.or(spec.pods.as_ref().map(|own| own.metric.name.as_str())).unwrap_or_default();
            Err(format!(
                "unable to get metric {metric}: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
            ))
        }
    }
}

fn by_resource(
    view: &View<'_>,
    source: &Source<'_>,
    target: &MetricTarget,
    current: i32,
    now: Timestamp,
) -> Result<(i32, MetricValueStatus, String), String> {
    let name = source.resource;
    let quantity = |millis: i64| Some(TypedQuantity(amount(name, millis).to_string()));
    if let Some(wanted) = &target.average_value {
        let wanted = Quantity::parse(&wanted.0).map_err(|error| error.to_string())?.milli_value();
        let goal = Goal::Value(wanted);
        let found =
            calculate(view, source, &goal, current, now).map_err(|why| format!("failed to get {name} usage: {why}"))?;
        let value = MetricValueStatus { average_value: quantity(found.average), ..MetricValueStatus::default() };
        return Ok((found.replicas, value, format!("{name} resource")));
    }
    let Some(percent) = target.average_utilization else {
        return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_owned());
    };
    let found = calculate(view, source, &Goal::Percent(percent), current, now)
        .map_err(|why| format!("failed to get {name} utilization: {why}"))?;
    let value = MetricValueStatus {
        average_utilization: Some(found.percent),
        average_value: quantity(found.average),
        ..MetricValueStatus::default()
    };
    let container = if source.container.is_empty() { "" } else { "container " };
    Ok((found.replicas, value, format!("{name} {container}resource utilization (percentage of request)")))
}

fn amount(resource: &str, millis: i64) -> Quantity {
    if resource == "memory" {
        return Quantity::from_units(millis.div_euclid(1000), Format::BinarySi);
    }
    Quantity::from_millis(millis)
}

enum Goal {
    /// Thousandths per pod.
    Value(i64),
    /// Of the requests.
    Percent(i32),
}

struct Found {
    replicas: i32,
    average: i64,
    percent: i32,
}

#[derive(Clone)]
struct Ratio {
    ratio: f64,
    average: i64,
    percent: i32,
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn calculate(view: &View<'_>, source: &Source<'_>, goal: &Goal, current: i32, now: Timestamp) -> Result<Found, String> {
    let usage = view.usage.as_ref();
    let usage = usage.map_err(|why| format!("unable to get metrics for resource {}: {why}", source.resource))?;
    if view.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let mut used = used(usage, source);
    let groups = group(view, source.resource, &used, usage, now);
    used.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    if used.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let requests = match goal {
        Goal::Percent(_) => requests(view, source)?,
        Goal::Value(_) => BTreeMap::new(),
    };
    let first = ratio(&used, &requests, goal)?;
    let tolerance = Tolerance::of(view.scaler);
    let found = |replicas: i32| Found { replicas, average: first.average, percent: first.percent };
    let unready_count = !groups.unready.is_empty() && first.ratio > 1.0;
    if !unready_count && groups.missing.is_empty() {
        if tolerance.holds(first.ratio) {
            return Ok(found(current));
        }
        return Ok(found((first.ratio * groups.ready as f64).ceil() as i32));
    }
    for name in &groups.missing {
        if first.ratio < 1.0 {
            // On the way down, pods that say nothing count as busy.
            let busy = match goal {
                Goal::Value(value) => *value,
                Goal::Percent(percent) => {
                    requests.get(name).copied().unwrap_or_default() * i64::from(*percent.max(&100)) / 100
                }
            };
            used.insert(name.clone(), busy);
        } else if first.ratio > 1.0 {
            used.insert(name.clone(), 0);
        }
    }
    if unready_count {
        used.extend(groups.unready.iter().map(|name| (name.clone(), 0)));
    }
    let again = ratio(&used, &requests, goal)?.ratio;
    let turns = (first.ratio < 1.0 && again > 1.0) || (first.ratio > 1.0 && again < 1.0);
    if tolerance.holds(again) || turns {
        return Ok(found(current));
    }
    let replicas = (again * used.len() as f64).ceil() as i32;
    if (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current) {
        return Ok(found(current));
    }
    Ok(found(replicas))
}

/// How far from 1 a ratio may be before anything is done.
struct Tolerance {
    down: f64,
    up: f64,
}

impl Tolerance {
    #[allow(clippy::cast_precision_loss)]
    fn of(scaler: &HorizontalPodAutoscaler) -> Self {
        let behavior = scaler.spec.behavior.as_ref();
        let read = |text: Option<&TypedQuantity>| {
            let quantity = text.and_then(|text| Quantity::parse(&text.0).ok());
            quantity.map_or(TOLERANCE, |quantity| quantity.milli_value() as f64 / 1000.0)
        };
        Self {
            down: read(behavior.and_then(|own| own.scale_down.as_ref()?.tolerance.as_ref())),
            up: read(behavior.and_then(|own| own.scale_up.as_ref()?.tolerance.as_ref())),
        }
    }

    fn holds(&self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// By pod; without those that lack the resource.
fn used(usage: &[super::PodUsage], source: &Source<'_>) -> BTreeMap<String, i64> {
    let of = |pod: &super::PodUsage| {
        if !source.container.is_empty() {
            return pod.containers.get(source.container)?.get(source.resource).copied();
        }
        let all: Option<Vec<i64>> = pod.containers.values().map(|one| one.get(source.resource).copied()).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
    };
    usage.iter().filter_map(|pod| Some((pod.name.clone(), of(pod)?))).collect()
}

#[derive(Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn group(
    view: &View<'_>,
    resource: &str,
    used: &BTreeMap<String, i64>,
    usage: &[super::PodUsage],
    now: Timestamp,
) -> Groups {
    let mut groups = Groups::default();
    for pod in view.pods {
        let name = pod.name().to_owned();
        let into = if pod.is_deleting() || pod::phase(pod) == "Failed" {
            &mut groups.ignored
        } else if pod::phase(pod) == "Pending" {
            &mut groups.unready
        } else if !used.contains_key(&name) {
            &mut groups.missing
        } else if resource == "cpu"
            && usage.iter().find(|own| own.name == name).is_some_and(|own| is_unready(pod, own, now))
        {
            &mut groups.unready
        } else {
            groups.ready += 1;
            continue;
        };
        into.insert(name);
    }
    groups
}

/// Whether the sample says nothing about how the pod works.
fn is_unready(pod: &Pod, usage: &super::PodUsage, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (pod::condition(pod, "Ready"), started) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let not_ready = ready.status == "False";
    if time::left(started.0, CPU_INITIALIZATION, now).is_some() {
        return not_ready || time::left(changed, usage.window, usage.timestamp).is_some();
    }
    not_ready && time::left(started.0, INITIAL_READINESS, changed).is_some()
}

fn ratio(used: &BTreeMap<String, i64>, requests: &BTreeMap<String, i64>, goal: &Goal) -> Result<Ratio, String> {
    #[allow(clippy::cast_precision_loss)]
    match goal {
        Goal::Value(value) => {
            let average = used.values().sum::<i64>() / i64::try_from(used.len()).unwrap_or(1).max(1);
            Ok(Ratio { ratio: average as f64 / (*value).max(1) as f64, average, percent: 0 })
        }
        Goal::Percent(percent) => {
            let known = || used.iter().filter_map(|(name, used)| Some((*used, *requests.get(name)?)));
            let (total, requested) = known().fold((0_i64, 0_i64), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let now = i32::try_from(total.saturating_mul(100) / requested).unwrap_or(i32::MAX);
            let average = total / i64::try_from(known().count()).unwrap_or(1).max(1);
            Ok(Ratio { ratio: f64::from(now) / f64::from((*percent).max(1)), average, percent: now })
        }
    }
}

fn requests(view: &View<'_>, source: &Source<'_>) -> Result<BTreeMap<String, i64>, String> {
    view.pods.iter().map(|pod| Ok((pod.name().to_owned(), request(pod, source)?))).collect()
}

fn milli(text: &TypedQuantity) -> i64 {
    Quantity::parse(&text.0).map(|quantity| quantity.milli_value()).unwrap_or_default()
}

fn request(pod: &Pod, source: &Source<'_>) -> Result<i64, String> {
    let (resource, name) = (source.resource, pod.name());
    let Some(spec) = &pod.spec else { return Ok(0) };
    let whole = spec.resources.as_ref().and_then(|own| own.requests.as_ref()).filter(|own| !own.is_empty());
    if let Some(whole) = whole.filter(|_| source.container.is_empty()) {
        let amount = whole.get(resource);
        return amount.map(milli).ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
    }
    let sidecar = |own: &&Container| own.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let mut sum = 0;
    for container in spec.containers.iter().chain(sidecars) {
        if !source.container.is_empty() && source.container != container.name {
            continue;
        }
        let requests = container.resources.as_ref().and_then(|own| own.requests.as_ref());
        let amount = requests.and_then(|own| own.get(resource));
        let own = &container.name;
        sum += amount
            .map(milli)
            .ok_or_else(|| format!("missing request for {resource} in container {own} of Pod {name}"))?;
        if source.container == container.name {
            return Ok(sum);
        }
    }
    if source.container.is_empty() {
        Ok(sum)
    } else {
        Err(format!("container {} not found in Pod {name}", source.container))
    }
}
