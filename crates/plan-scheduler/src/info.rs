//! Pods and nodes as the plugins read them: parsed once when they change.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm, PodSpec, Toleration};
use coracle_plan_core::select::{LabelSelector, compile_opt};

use crate::resources::{Resources, pod_nonzero_requests, pod_requests};

/// A host port that a pod wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `0.0.0.0` for all addresses.
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.address) || any(&other.address) || self.address == other.address)
    }
}

/// One term of inter-pod affinity.
#[derive(Debug, Clone)]
pub struct AffinityTerm {
    pub selector: LabelSelector,
    pub namespaces: Vec<String>,
    /// `None`: only `namespaces` count.
    pub namespace_selector: Option<LabelSelector>,
    pub topology_key: String,
    /// 1 to 100; 0 for required terms.
    pub weight: i32,
}

/// Labels of the namespaces.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

impl AffinityTerm {
    fn of(term: &PodAffinityTerm, pod: &Pod, weight: i32) -> Self {
        let mut selector = compile_opt(term.label_selector.as_ref());
        let labels = pod.metadata.labels.as_ref();
        let own = |key: &String| labels.and_then(|labels| labels.get(key)).cloned();
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = own(key) {
                selector.requirements.push(coracle_api_meta::selector::Requirement::Equals(key.clone(), value));
            }
        }
        for key in term.mismatch_label_keys.iter().flatten() {
            if let Some(value) = own(key) {
                selector.requirements.push(coracle_api_meta::selector::Requirement::NotIn(key.clone(), [value].into()));
            }
        }
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        let namespace_selector = term.namespace_selector.as_ref().map(coracle_plan_core::select::compile);
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(pod.namespace().to_owned());
        }
        Self { selector, namespaces, namespace_selector, topology_key: term.topology_key.clone(), weight }
    }

    /// Whether `pod` is one that the term speaks of.
    #[must_use]
    pub fn matches(&self, pod: &Pod, namespaces: &NamespaceLabels) -> bool {
        let namespace = pod.namespace();
        let in_namespace = self.namespaces.iter().any(|own| own == namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|selector| coracle_plan_core::select::matches(selector, namespaces.get(namespace)));
        in_namespace && coracle_plan_core::select::matches(&self.selector, pod.metadata.labels.as_ref())
    }
}

/// A pod and what is worked out of it once.
#[derive(Debug, Clone)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Resources,
    pub nonzero: Resources,
    pub ports: Vec<HostPort>,
    pub affinity: Vec<AffinityTerm>,
    pub anti_affinity: Vec<AffinityTerm>,
    pub preferred_affinity: Vec<AffinityTerm>,
    pub preferred_anti_affinity: Vec<AffinityTerm>,
}

impl PodInfo {
    #[must_use]
    pub fn new(pod: Arc<Pod>) -> Self {
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let required = |terms: Option<&Vec<PodAffinityTerm>>| {
            terms.into_iter().flatten().map(|term| AffinityTerm::of(term, &pod, 0)).collect::<Vec<_>>()
        };
        let towards = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let preferred_affinity = towards
            .and_then(|towards| towards.preferred_during_scheduling_ignored_during_execution.as_ref())
            .into_iter()
            .flatten()
            .map(|term| AffinityTerm::of(&term.pod_affinity_term, &pod, term.weight))
            .collect();
        let preferred_anti_affinity = away
            .and_then(|away| away.preferred_during_scheduling_ignored_during_execution.as_ref())
            .into_iter()
            .flatten()
            .map(|term| AffinityTerm::of(&term.pod_affinity_term, &pod, term.weight))
            .collect();
        Self {
            requests: pod_requests(&pod),
            nonzero: pod_nonzero_requests(&pod),
            ports: pod.spec.as_ref().map(host_ports).unwrap_or_default(),
            affinity: required(
                towards.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            anti_affinity: required(
                away.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_affinity,
            preferred_anti_affinity,
            pod,
        }
    }

    #[must_use]
    pub fn priority(&self) -> i32 {
        self.spec().and_then(|spec| spec.priority).unwrap_or_default()
    }

    #[must_use]
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    #[must_use]
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                address: port.host_ip.clone().filter(|address| !address.is_empty()).unwrap_or("0.0.0.0".to_owned()),
                protocol: port.protocol.clone().unwrap_or("TCP".to_owned()),
                port: port.host_port.filter(|&port| port > 0)?,
            })
        })
        .collect()
}

/// A node with the pods on it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub allocatable: Resources,
    pub requested: Resources,
    pub nonzero: Resources,
    /// In the order in which they came.
    pub pods: Vec<Arc<PodInfo>>,
}

impl NodeInfo {
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let allocatable = Resources::of(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        Self { node, allocatable, requested: Resources::default(), nonzero: Resources::default(), pods: Vec::new() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.node.name()
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        self.allocatable = Resources::of(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        self.node = node;
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.nonzero.add(&pod.nonzero);
        self.pods.push(pod);
    }

    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(position) = self.pods.iter().position(|pod| pod.pod.uid() == uid) else { return false };
        let pod = self.pods.remove(position);
        self.requested.subtract(&pod.requests);
        self.nonzero.subtract(&pod.nonzero);
        true
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.label(key)
    }
}
