//! Horizontal pod autoscalers: reads the scale and the metrics that a decision is made from.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coracle_api_meta::{GroupVersion, Gvr, LabelSelector, ObjectKey, Quantity, Value};
use coracle_api_types::Object;
use coracle_client::{Client, DynamicApi, Error, ListParams};
use coracle_driver::{Failure, Hands, Queue, Reconcile, Request, feed_with};
use coracle_plan_controllers::autoscaling::{self, Memory, PodUsage, Scale, View};
use coracle_plan_core::{Target, select};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use k8s_openapi::api::core::v1::Pod;

use crate::informers::Informers;
use crate::{Context, discovery};

const NAME: &str = "horizontal-pod-autoscaler";
const WORKERS: usize = 5;

pub fn start(context: &Context) {
    let queue = Queue::new();
    // What its own status becomes is no reason to look again: it is looked at from time to time.
    feed_with(&context.tasks, &context.stop, &context.informers.autoscalers, &queue, |change| {
        let spec = |object: &Option<Arc<HorizontalPodAutoscaler>>| object.as_ref().map(|own| own.spec.clone());
        if change.new.is_some() && spec(&change.old) == spec(&change.new) {
            Vec::new()
        } else {
            vec![change.key.clone()]
        }
    });
    let scaler = Scaler {
        hands: context.hands(NAME),
        client: context.hands(NAME).client().clone(),
        informers: context.informers.clone(),
        memories: Mutex::default(),
    };
    context.spawn(scaler, &queue, WORKERS);
}

struct Scaler {
    hands: Hands,
    client: Client,
    informers: Informers,
    memories: Mutex<HashMap<ObjectKey, Memory>>,
}

#[async_trait]
impl Reconcile for Scaler {
    type Key = ObjectKey;

    fn name(&self) -> &str {
        NAME
    }

    async fn reconcile(&self, request: Request<ObjectKey>) -> Result<Option<Duration>, Failure> {
        let Some(scaler) = self.informers.autoscalers.get_key(&request.key) else {
            self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.key);
            return Ok(None);
        };
        let memory = self.memories.lock().unwrap_or_else(PoisonError::into_inner).get(&request.key).cloned();
        let namespace = scaler.namespace();
        let scale = self.scale(namespace, &scaler.spec.scale_target_ref).await;
        let selector = scale.as_ref().map(|scale| scale.selector.clone()).unwrap_or_default();
        let pods = self.pods(namespace, &selector);
        let usage = if selector.is_empty() { Ok(Vec::new()) } else { self.usage(namespace, &selector).await };
        let view = View {
            scaler: &scaler,
            scale,
            pods: &pods,
            usage,
            rivals: self.rivals(&scaler),
            memory: memory.unwrap_or_default(),
        };
        let (plan, memory) = autoscaling::plan(&view, request.now);
        self.hands.carry_out(&plan).await?;
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).insert(request.key, memory);
        Ok(plan.requeue_after)
    }
}

impl Scaler {
    async fn scale(&self, namespace: &str, target: &CrossVersionObjectReference) -> Result<Scale, String> {
        let gvr = self.resource(target).await?;
        let api = DynamicApi::namespaced(&self.client, &gvr, namespace);
        let bytes = api.get_subresource(&target.name, "scale").await.map_err(|error| words(&error))?;
        let scale: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let number = |path: &str| scale.pointer(path).and_then(Value::as_i64).and_then(|own| i32::try_from(own).ok());
        Ok(Scale {
            target: Target::new(gvr, ObjectKey::new(namespace, &target.name)),
            wanted: number("/spec/replicas").unwrap_or_default(),
            actual: number("/status/replicas").unwrap_or_default(),
            selector: scale.pointer("/status/selector").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
    }

    /// The resource of a kind; the kinds that everybody scales are known without asking.
    async fn resource(&self, target: &CrossVersionObjectReference) -> Result<Gvr, String> {
        let version = target.api_version.as_deref().unwrap_or_default();
        let group =
            GroupVersion::parse(version).ok_or_else(|| format!("unexpected GroupVersion string: {version}"))?.group;
        let known = [("Deployment", "deployments"), ("ReplicaSet", "replicasets"), ("StatefulSet", "statefulsets")];
        if group == "apps"
            && let Some((_, plural)) = known.iter().find(|(kind, _)| *kind == target.kind)
        {
            return Ok(Gvr::new("apps", "v1", *plural));
        }
        let (all, _) = discovery::preferred(&self.client).await.map_err(|error| words(&error))?;
        let found = all.into_iter().find(|own| own.gvr.group == group && own.kind == target.kind);
        let kind = if group.is_empty() { target.kind.clone() } else { format!("{}.{group}", target.kind) };
        found.map(|own| own.gvr).ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", kind))
    }

    fn pods(&self, namespace: &str, selector: &str) -> Vec<Arc<Pod>> {
        let Some(selector) = LabelSelector::parse(selector).ok().filter(|_| !selector.is_empty()) else {
            return Vec::new();
        };
        let mut pods = self.informers.pods.list_namespace(namespace);
        pods.retain(|pod| select::matches(&selector, pod.metadata.labels.as_ref()));
        pods
    }

    fn rivals(&self, scaler: &HorizontalPodAutoscaler) -> Vec<String> {
        let all = self.informers.autoscalers.list_namespace(scaler.namespace());
        let target = |own: &HorizontalPodAutoscaler| {
            (own.spec.scale_target_ref.kind.clone(), own.spec.scale_target_ref.name.clone())
        };
        let mut rivals: Vec<String> = all
            .iter()
            .filter(|other| target(other) == target(scaler))
            .map(|other| ObjectKey::new(other.namespace(), other.name()).to_string())
            .collect();
        rivals.sort();
        rivals
    }

    async fn usage(&self, namespace: &str, selector: &str) -> Result<Vec<PodUsage>, String> {
        let api = DynamicApi::namespaced(&self.client, &Gvr::new("metrics.k8s.io", "v1beta1", "pods"), namespace);
        let items = api.list(&ListParams::default().labels(selector)).await;
        let items =
            items.map_err(|error| format!("unable to fetch metrics from resource metrics API: {}", words(&error)))?;
        if items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        Ok(items.iter().filter_map(read_usage).collect())
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn read_usage(item: &Value) -> Option<PodUsage> {
    let text = |path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let mut containers = BTreeMap::new();
    for container in item.get("containers").and_then(Value::as_array).into_iter().flatten() {
        let usage = container.get("usage").and_then(Value::as_object).into_iter().flatten();
        let amounts = usage
            .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount.as_str()?).ok()?.milli_value())));
        containers.insert(container.get("name")?.as_str()?.to_owned(), amounts.collect());
    }
    Some(PodUsage {
        name: text("/metadata/name").to_owned(),
        timestamp: text("/timestamp").parse::<Timestamp>().ok()?,
        window: duration(text("/window")),
        containers,
    })
}

/// As Go writes durations: `1m15.5s`. What cannot be read counts as none.
fn duration(text: &str) -> Duration {
    let span = text.parse::<jiff::SignedDuration>().unwrap_or_default();
    span.try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_go() {
        let millis = |text: &str| duration(text).as_millis();
        assert_eq!([millis("15s"), millis("1m15.5s"), millis("0s"), millis("?")], [15_000, 75_500, 0, 0]);
    }
}
