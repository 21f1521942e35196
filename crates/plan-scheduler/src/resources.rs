//! What pods ask for and nodes have.

use std::collections::BTreeMap;

use coracle_api_meta::Quantity;
use coracle_api_types::k8s_openapi::api::core::v1::{Container, Pod};
use coracle_api_types::k8s_openapi::apimachinery::pkg::api::resource::Quantity as TypedQuantity;

/// What a container that names no request counts as in scores. Source: `pkg/scheduler/util/pod_resources.go`.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 << 20;

/// Amounts: CPU in thousandths, the rest in whole units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub pods: i64,
    /// Huge pages and extended resources.
    pub scalars: BTreeMap<String, i64>,
}

type Amounts = BTreeMap<String, TypedQuantity>;

impl Resources {
    #[must_use]
    pub fn of(amounts: Option<&Amounts>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in amounts.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&quantity.0) else { continue };
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => resources.pods = quantity.value(),
                _ => drop(resources.scalars.insert(name.clone(), quantity.value())),
            }
        }
        resources
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = with(self.pods, other.pods);
        for (name, &amount) in &other.scalars {
            let own = self.scalars.entry(name.clone()).or_default();
            *own = with(*own, amount);
        }
    }
}

fn requests(container: &Container) -> Resources {
    Resources::of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// Requests with defaults for what the container does not name.
fn nonzero_requests(container: &Container) -> Resources {
    let named = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let mut found = requests(container);
    if named.is_none_or(|named| !named.contains_key("cpu")) {
        found.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if named.is_none_or(|named| !named.contains_key("memory")) {
        found.memory = DEFAULT_MEMORY_BYTES;
    }
    found
}

fn aggregate(pod: &Pod, of: impl Fn(&Container) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut total = Resources::default();
    spec.containers.iter().for_each(|container| total.add(&of(container)));
    let mut sidecars = Resources::default();
    let mut start = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        start.raise_to(&needed);
    }
    total.add(&sidecars);
    total.raise_to(&start);
    total
}

/// Fields of `spec.resources` win over the sum of the containers.
fn with_pod_level(pod: &Pod, mut total: Resources) -> Resources {
    let Some(spec) = &pod.spec else { return total };
    if let Some(named) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let level = Resources::of(Some(named));
        if named.contains_key("cpu") {
            total.milli_cpu = level.milli_cpu;
        }
        if named.contains_key("memory") {
            total.memory = level.memory;
        }
        for (name, amount) in level.scalars {
            total.scalars.insert(name, amount);
        }
    }
    if spec.overhead.is_some() {
        total.add(&Resources::of(spec.overhead.as_ref()));
    }
    total
}

/// What the pod asks for. Source: KEP-753 (sidecars), KEP-2837 (pod level).
#[must_use]
pub fn pod_requests(pod: &Pod) -> Resources {
    with_pod_level(pod, aggregate(pod, requests))
}

/// What the pod counts as in scores.
#[must_use]
pub fn pod_nonzero_requests(pod: &Pod) -> Resources {
    with_pod_level(pod, aggregate(pod, nonzero_requests))
}
