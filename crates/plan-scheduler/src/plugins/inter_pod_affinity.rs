//! InterPodAffinity: near some pods, away from others.
//! Source: `pkg/scheduler/framework/plugins/interpodaffinity`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{INTER_POD_AFFINITY, SCORE_MAX, State};
use crate::cluster::Cluster;
use crate::info::{AffinityTerm, NamespaceLabels, NodeInfo, PodInfo};
use crate::status::{Rejection, Verdict};

/// Topology key and value.
type Place = (String, String);

/// Which of the counts.
type Map = fn(&mut Counts) -> &mut BTreeMap<Place, i64>;

/// How many pods matter in each place.
#[derive(Debug, Clone)]
pub struct Counts {
    pod: Arc<PodInfo>,
    namespaces: Arc<NamespaceLabels>,
    /// Existing pods whose anti-affinity speaks of the pod.
    against_pod: BTreeMap<Place, i64>,
    /// Existing pods that all affinity terms of the pod speak of.
    wanted: BTreeMap<Place, i64>,
    /// Existing pods that an anti-affinity term of the pod speaks of.
    unwanted: BTreeMap<Place, i64>,
}

fn place(term: &AffinityTerm, node: &NodeInfo) -> Option<Place> {
    Some((term.topology_key.clone(), node.label(&term.topology_key)?.to_owned()))
}

impl Counts {
    #[must_use]
    pub fn new(cluster: &Cluster, pod: &Arc<PodInfo>) -> Self {
        let mut counts = Self {
            pod: pod.clone(),
            namespaces: Arc::new(if needs_namespaces(cluster, pod) {
                cluster.namespaces.clone()
            } else {
                BTreeMap::new()
            }),
            against_pod: BTreeMap::new(),
            wanted: BTreeMap::new(),
            unwanted: BTreeMap::new(),
        };
        let cares = !pod.affinity.is_empty() || !pod.anti_affinity.is_empty();
        for node in cluster.nodes() {
            for other in &node.pods {
                if cares || !other.anti_affinity.is_empty() {
                    counts.count(other, node, 1);
                }
            }
        }
        counts
    }

    pub fn count(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        let namespaces = self.namespaces.clone();
        let pod = self.pod.clone();
        let mut bumps: Vec<(Map, &AffinityTerm)> = Vec::new();
        for term in other.anti_affinity.iter().filter(|term| term.matches(&pod.pod, &namespaces)) {
            bumps.push((|counts| &mut counts.against_pod, term));
        }
        if !pod.affinity.is_empty() && pod.affinity.iter().all(|term| term.matches(&other.pod, &namespaces)) {
            pod.affinity.iter().for_each(|term| bumps.push((|counts| &mut counts.wanted, term)));
        }
        for term in pod.anti_affinity.iter().filter(|term| term.matches(&other.pod, &namespaces)) {
            bumps.push((|counts| &mut counts.unwanted, term));
        }
        for (map, term) in bumps {
            if let Some(place) = place(term, node) {
                *map(self).entry(place).or_default() += by;
            }
        }
    }
}

fn needs_namespaces(cluster: &Cluster, pod: &PodInfo) -> bool {
    let by_label = |terms: &[AffinityTerm]| terms.iter().any(|term| term.namespace_selector.is_some());
    by_label(&pod.affinity)
        || by_label(&pod.anti_affinity)
        || cluster.nodes().any(|node| node.pods.iter().any(|other| by_label(&other.anti_affinity)))
}

fn some_in(map: &BTreeMap<Place, i64>, place: &Place) -> bool {
    map.get(place).is_some_and(|count| *count > 0)
}

pub fn filter(state: &State<'_>, pod: &PodInfo, node: &NodeInfo) -> Verdict {
    let counts = &state.affinity;
    if !satisfies_affinity(counts, pod, node) {
        return Err(Rejection::unresolvable(INTER_POD_AFFINITY, "node(s) didn't match pod affinity rules"));
    }
    let unwanted = |term: &AffinityTerm| place(term, node).is_some_and(|place| some_in(&counts.unwanted, &place));
    if pod.anti_affinity.iter().any(unwanted) {
        return Err(Rejection::unschedulable(INTER_POD_AFFINITY, "node(s) didn't match pod anti-affinity rules"));
    }
    let against =
        counts.against_pod.iter().any(|((key, value), count)| *count > 0 && node.label(key) == Some(value.as_str()));
    if against {
        let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
        return Err(Rejection::unschedulable(INTER_POD_AFFINITY, reason));
    }
    Ok(())
}

fn satisfies_affinity(counts: &Counts, pod: &PodInfo, node: &NodeInfo) -> bool {
    let mut near = true;
    for term in &pod.affinity {
        let Some(place) = place(term, node) else { return false };
        near &= some_in(&counts.wanted, &place);
    }
    // The first pod of a group that wants to be near itself may go anywhere.
    let first = || {
        counts.wanted.values().all(|count| *count <= 0)
            && pod.affinity.iter().all(|term| term.matches(&pod.pod, &counts.namespaces))
    };
    near || first()
}

/// Preferred terms of the pod and of the pods that are there, 0 to 100.
#[must_use]
pub fn scores(state: &State<'_>, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut by_place: BTreeMap<Place, i64> = BTreeMap::new();
    let namespaces = &state.cluster.namespaces;
    let cares = !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty();
    for node in state.cluster.nodes() {
        for other in &node.pods {
            let mut weigh = |terms: &[AffinityTerm], about: &PodInfo, sign: i64| {
                for term in terms.iter().filter(|term| term.matches(&about.pod, namespaces)) {
                    if let Some(place) = place(term, node) {
                        *by_place.entry(place).or_default() += sign * i64::from(term.weight.max(1));
                    }
                }
            };
            if cares {
                weigh(&pod.preferred_affinity, other, 1);
                weigh(&pod.preferred_anti_affinity, other, -1);
            }
            weigh(&other.affinity, pod, 1);
            weigh(&other.preferred_affinity, pod, 1);
            weigh(&other.preferred_anti_affinity, pod, -1);
        }
    }
    let of = |node: &&NodeInfo| {
        by_place.iter().filter(|((key, value), _)| node.label(key) == Some(value.as_str())).map(|(_, sum)| *sum).sum()
    };
    let raw: Vec<i64> = nodes.iter().map(of).collect();
    let (low, high) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    raw.into_iter().map(|score| if high == low { 0 } else { SCORE_MAX * (score - low) / (high - low) }).collect()
}
