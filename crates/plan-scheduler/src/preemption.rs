//! DefaultPreemption: making room by ending less important pods.
//! Source: `pkg/scheduler/framework/plugins/defaultpreemption`.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::api::policy::v1::PodDisruptionBudget;
use coracle_plan_core::pod::condition;
use coracle_plan_core::select;

use crate::cluster::Cluster;
use crate::explain::histogram;
use crate::framework::{Diagnosis, is_resolvable};
use crate::info::{NodeInfo, PodInfo};
use crate::plugins::{self, State};
use crate::status::{Code, Rejection};

const PLUGIN: &str = "DefaultPreemption";
/// Candidate nodes looked at: a share of all, but at least this many.
const CANDIDATES_MIN: usize = 100;
const CANDIDATES_PERCENTAGE: usize = 10;

/// What becomes of the node that waits for the pod.
#[derive(Debug, Clone, Default)]
pub enum Nomination {
    /// As before.
    #[default]
    Keep,
    Clear,
    Free(Preemption),
}

/// The node to free and the pods to end, most important first.
#[derive(Debug, Clone)]
pub struct Preemption {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
}

struct Candidate<'a> {
    node: &'a str,
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

fn with_claims_note(note: &str) -> String {
    format!("no new claims to deallocate, preemption: {note}")
}

fn no_help(nodes: usize, rejections: &BTreeMap<String, Rejection>) -> String {
    let absent = nodes.saturating_sub(rejections.len());
    let filler = Rejection::unresolvable(PLUGIN, "Preemption is not helpful for scheduling");
    let all = rejections.values().chain(std::iter::repeat_n(&filler, absent));
    with_claims_note(&format!("0/{nodes} nodes are available:{}", histogram(all)))
}

fn may_preempt(cluster: &Cluster, pod: &PodInfo) -> Result<(), String> {
    if pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let nominated = pod.pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let node = nominated.filter(|name| !name.is_empty()).and_then(|name| cluster.node(name));
    let ending = |victim: &Arc<PodInfo>| {
        victim.priority() < pod.priority()
            && victim.pod.is_deleting()
            && condition(&victim.pod, "DisruptionTarget").is_some_and(|target| {
                target.status == "True" && target.reason.as_deref() == Some("PreemptionByScheduler")
            })
    };
    if node.is_some_and(|node| node.pods.iter().any(ending)) {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    Ok(())
}

/// What is said when the pod was refused before any node was looked at.
#[must_use]
pub fn not_helpful(cluster: &Cluster, pod: &PodInfo) -> (Nomination, String) {
    match may_preempt(cluster, pod) {
        Ok(()) => (Nomination::Clear, no_help(cluster.nodes().len(), &BTreeMap::new())),
        Err(why) => (Nomination::Keep, with_claims_note(&why)),
    }
}

/// The preemption to carry out, or a note on why none helps.
#[must_use]
pub fn try_preempt(
    cluster: &Cluster,
    state: &State<'_>,
    pod: &Arc<PodInfo>,
    diagnosis: &Diagnosis,
) -> (Nomination, String) {
    if let Err(why) = may_preempt(cluster, pod) {
        return (Nomination::Keep, with_claims_note(&why));
    }
    let potential: Vec<&NodeInfo> = diagnosis
        .by_node
        .iter()
        .filter(|(_, rejection)| is_resolvable(rejection))
        .filter_map(|(name, _)| cluster.node(name))
        .collect();
    let wanted = (potential.len() * CANDIDATES_PERCENTAGE / 100).max(CANDIDATES_MIN);
    let mut candidates = Vec::new();
    let mut rejections = BTreeMap::new();
    for node in potential {
        match select_victims(cluster, state, pod, node) {
            Ok(candidate) => candidates.push(candidate),
            Err(rejection) => drop(rejections.insert(node.name().to_owned(), rejection)),
        }
        if candidates.len() == wanted {
            break;
        }
    }
    match pick(candidates) {
        Some(best) => {
            (Nomination::Free(Preemption { node: best.node.to_owned(), victims: best.victims }), String::new())
        }
        None => (Nomination::Clear, no_help(cluster.nodes().len(), &rejections)),
    }
}

/// More important pods come first: higher priority, then earlier start.
fn importance(pod: &PodInfo) -> (std::cmp::Reverse<i32>, i64) {
    let start = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    (std::cmp::Reverse(pod.priority()), start.map_or(i64::MAX, |time| time.0.as_second()))
}

fn select_victims<'a>(
    cluster: &Cluster,
    state: &State<'_>,
    pod: &Arc<PodInfo>,
    node: &'a NodeInfo,
) -> Result<Candidate<'a>, Rejection> {
    let mut potential: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|other| other.priority() < pod.priority()).cloned().collect();
    if potential.is_empty() {
        let reason = "No preemption victims found for incoming pod";
        return Err(Rejection::new(Code::UnschedulableAndUnresolvable, PLUGIN, reason));
    }
    let mut trial = Trial { state: state.clone(), node: node.clone() };
    potential.iter().for_each(|victim| trial.remove(victim));
    plugins::filter(&trial.state, pod, &trial.node)?;
    potential.sort_by_key(|victim| importance(victim));
    let (violating, harmless) = split_by_budget(cluster, potential);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (guarded, victim) in
        violating.into_iter().map(|victim| (true, victim)).chain(harmless.into_iter().map(|victim| (false, victim)))
    {
        trial.add(&victim);
        if plugins::filter(&trial.state, pod, &trial.node).is_err() {
            trial.remove(&victim);
            violations += usize::from(guarded);
            victims.push(victim);
        }
    }
    victims.sort_by_key(|victim| importance(victim));
    Ok(Candidate { node: node.name(), victims, violations })
}

/// A node on which pods are taken away and put back.
struct Trial<'a> {
    state: State<'a>,
    node: NodeInfo,
}

impl Trial<'_> {
    fn remove(&mut self, pod: &Arc<PodInfo>) {
        self.node.remove_pod(pod.pod.uid());
        self.state.count_pod(pod, &self.node, -1);
    }

    fn add(&mut self, pod: &Arc<PodInfo>) {
        self.node.add_pod(pod.clone());
        self.state.count_pod(pod, &self.node, 1);
    }
}

/// Pods whose end would break a budget, and the others. Keeps the order.
fn split_by_budget(cluster: &Cluster, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: BTreeMap<&str, i32> = BTreeMap::new();
    let guards = |budget: &PodDisruptionBudget, pod: &PodInfo| {
        let Some(spec) = &budget.spec else { return false };
        let selector = select::compile_opt(spec.selector.as_ref());
        let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
        budget.namespace() == pod.pod.namespace()
            && !selector.is_everything()
            && select::matches(&selector, pod.pod.metadata.labels.as_ref())
            && disrupted.is_none_or(|disrupted| !disrupted.contains_key(pod.pod.name()))
    };
    let mut violating = Vec::new();
    let mut harmless = Vec::new();
    for pod in pods {
        let mut violates = false;
        for budget in cluster.budgets.values().filter(|budget| guards(budget, &pod)) {
            let start = budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or_default();
            let left = allowed.entry(budget.uid()).or_insert(start);
            *left -= 1;
            violates |= *left < 0;
        }
        if violates { violating.push(pod) } else { harmless.push(pod) }
    }
    (violating, harmless)
}

/// Source: `pickOneNodeForPreemption`.
fn pick(candidates: Vec<Candidate<'_>>) -> Option<Candidate<'_>> {
    let rank = |candidate: &Candidate<'_>| {
        let highest = candidate.victims.first().map_or(i32::MIN, |victim| victim.priority());
        let sum: i64 =
            candidate.victims.iter().map(|victim| i64::from(victim.priority()) + i64::from(i32::MAX) + 1).sum();
        let start = candidate
            .victims
            .iter()
            .filter(|victim| victim.priority() == highest)
            .map(|victim| importance(victim).1)
            .min()
            .unwrap_or(i64::MAX);
        (candidate.violations, highest, sum, candidate.victims.len(), std::cmp::Reverse(start))
    };
    candidates.into_iter().min_by_key(rank)
}
