//! Which pod has to leave when the node runs short of something.
//!
//! Source: kubelet `eviction/eviction_manager.go`, `eviction/helpers.go`; reasons and messages are upstream's.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api_meta::Quantity;
use coracle_api_meta::quantity::Format;
use coracle_api_types::Object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::admission::is_critical;
use crate::resources::{ResourceList, pod_requests, quantity};
use crate::{Ended, is_sidecar};

const EVICTED: &str = "Evicted";
const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// What a pod gets to stop when it has to leave at once. Source: kubelet `immediateEvictionGracePeriodSeconds`.
const GRACE_SECONDS: i64 = 1;

/// What is looked at, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    NodeFsAvailable,
    NodeFsInodesFree,
    ImageFsAvailable,
    ImageFsInodesFree,
    PidAvailable,
}

impl Signal {
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodeFsAvailable | Self::ImageFsAvailable => EPHEMERAL_STORAGE,
            Self::NodeFsInodesFree | Self::ImageFsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "MemoryPressure",
            Self::PidAvailable => "PIDPressure",
            _ => "DiskPressure",
        }
    }

    /// Whether removing images can help.
    #[must_use]
    pub fn is_of_disk(self) -> bool {
        self.condition() == "DiskPressure"
    }

    fn text(self, amount: u64) -> String {
        let format = match self.resource() {
            "memory" | EPHEMERAL_STORAGE => Format::BinarySi,
            _ => Format::DecimalSi,
        };
        Quantity::from_units(i64::try_from(amount).unwrap_or(i64::MAX), format).to_string()
    }
}

/// How much must stay available: a share of all there is, but no more than `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    pub signal: Signal,
    pub percent: u64,
    pub max: u64,
}

/// Bytes, inodes or process ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    pub available: u64,
    pub capacity: u64,
}

pub type Observations = BTreeMap<Signal, Observation>;

/// A threshold that is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    pub signal: Signal,
    pub threshold: u64,
    pub available: u64,
}

/// What one pod uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodUsage {
    pub memory: u64,
    /// Bytes and inodes of writable layers, logs and volumes on the node's disk.
    pub disk: u64,
    pub inodes: u64,
    pub processes: u64,
    pub containers: Vec<ContainerUsage>,
    /// Bytes by volume.
    pub volumes: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub name: String,
    pub memory: u64,
    /// Writable layer and logs.
    pub disk: u64,
}

/// A pod that runs, and what it uses.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub pod: &'a Pod,
    pub usage: &'a PodUsage,
}

/// Remembers pressure for a while, so that a node does not swing between two states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pressure {
    seen: BTreeMap<&'static str, Timestamp>,
}

impl Pressure {
    /// The node's conditions that are true, by name: those met now, and within `transition` before.
    pub fn conditions(&mut self, shortages: &[Shortage], transition: Duration, now: Timestamp) -> Vec<&'static str> {
        self.seen.extend(shortages.iter().map(|shortage| (shortage.signal.condition(), now)));
        self.seen.retain(|_, seen| seen.checked_add(transition).is_ok_and(|end| now < end));
        self.seen.keys().copied().collect()
    }
}

/// The thresholds that are met, the most urgent first.
#[must_use]
pub fn shortages(thresholds: &[Threshold], observations: &Observations) -> Vec<Shortage> {
    let met = thresholds.iter().filter_map(|threshold| {
        let Observation { available, capacity } = *observations.get(&threshold.signal)?;
        let least = (capacity / 100 * threshold.percent).min(threshold.max);
        (available < least).then_some(Shortage { signal: threshold.signal, threshold: least, available })
    });
    let mut met: Vec<Shortage> = met.collect();
    met.sort_by_key(|shortage| shortage.signal);
    met
}

/// The pod that has to leave, and how it ends. Pods that the node needs never leave.
#[must_use]
pub fn choose(shortage: &Shortage, candidates: &[Candidate<'_>]) -> Option<(String, Ended)> {
    let may_leave = candidates.iter().filter(|candidate| !is_critical(candidate.pod));
    let chosen = may_leave.min_by_key(|candidate| rank(shortage.signal, candidate))?;
    let ended = Ended {
        reason: EVICTED.to_owned(),
        message: message(shortage, chosen),
        grace_seconds: Some(GRACE_SECONDS),
        disrupted: true,
    };
    Some((chosen.pod.uid().to_owned(), ended))
}

/// The lower leaves first: those above their requests, those of low priority, those furthest above.
fn rank(signal: Signal, candidate: &Candidate<'_>) -> (bool, i32, Reverse<i128>, String) {
    let Candidate { pod, usage } = *candidate;
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    let requests = pod_requests(pod);
    let request = |name: &str| i128::from(quantity(Some(&requests), name).map_or(0, |quantity| quantity.value()));
    let (used, asked) = match signal.resource() {
        "memory" => (usage.memory, request("memory")),
        "pids" => (usage.processes, 0),
        "inodes" => (usage.inodes, 0),
        _ => (usage.disk, request(EPHEMERAL_STORAGE)),
    };
    let above = i128::from(used) - asked;
    let within = signal != Signal::PidAvailable && above <= 0;
    (within, priority, Reverse(above), pod.uid().to_owned())
}

fn message(shortage: &Shortage, candidate: &Candidate<'_>) -> String {
    let (signal, resource) = (shortage.signal, shortage.signal.resource());
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        signal.text(shortage.threshold),
        signal.text(shortage.available)
    );
    if !matches!(resource, "memory" | EPHEMERAL_STORAGE) {
        return text;
    }
    for usage in &candidate.usage.containers {
        let Some(container) = containers(candidate.pod).find(|container| container.name == usage.name) else {
            continue;
        };
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let request = quantity(requests, resource).map_or(0, |quantity| u64::try_from(quantity.value()).unwrap_or(0));
        let used = if resource == "memory" { usage.memory } else { usage.disk };
        if used > request {
            let asked = requests.and_then(|list| list.get(resource)).map_or("0", |quantity| quantity.0.as_str());
            text.push_str(&format!(
                "Container {} was using {}, request is {asked}, has larger consumption of {resource}. ",
                usage.name,
                signal.text(used)
            ));
        }
    }
    text
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
}

fn storage_limit(container: &Container) -> Option<&ResourceList> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.contains_key(EPHEMERAL_STORAGE).then_some(limits)
}

/// Whether a pod has limits of local storage, so that its usage has to be measured.
#[must_use]
pub fn has_storage_limits(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut sized = volumes.filter_map(|volume| volume.empty_dir.as_ref()).filter_map(|own| own.size_limit.as_ref());
    sized.next().is_some() || containers(pod).any(|container| storage_limit(container).is_some())
}

/// How a pod ends that uses more local storage than its own limits allow.
#[must_use]
pub fn over_limit(candidate: &Candidate<'_>) -> Option<Ended> {
    if is_critical(candidate.pod) {
        return None;
    }
    let why = empty_dir_over(candidate).or_else(|| pod_over(candidate)).or_else(|| container_over(candidate))?;
    Some(Ended { reason: EVICTED.to_owned(), message: why, grace_seconds: Some(GRACE_SECONDS), disrupted: false })
}

fn bytes(list: &ResourceList) -> u64 {
    quantity(Some(list), EPHEMERAL_STORAGE).map_or(0, |quantity| u64::try_from(quantity.value()).unwrap_or(0))
}

fn empty_dir_over(candidate: &Candidate<'_>) -> Option<String> {
    let volumes = candidate.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().find_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let most = u64::try_from(Quantity::parse(&limit.0).ok()?.value()).ok().filter(|most| *most > 0)?;
        let used = *candidate.usage.volumes.get(&volume.name)?;
        let text = || format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0);
        (used > most).then(text)
    })
}

fn pod_over(candidate: &Candidate<'_>) -> Option<String> {
    let spec = candidate.pod.spec.as_ref()?;
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let sidecars = init.iter().filter(|container| is_sidecar(container));
    let running: u64 = spec.containers.iter().chain(sidecars).filter_map(storage_limit).map(bytes).sum();
    let first = init.iter().filter(|container| !is_sidecar(container)).filter_map(storage_limit).map(bytes).max();
    let most = running.max(first.unwrap_or(0));
    (most > 0 && candidate.usage.disk > most).then(|| {
        let limit = Signal::NodeFsAvailable.text(most);
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")
    })
}

fn container_over(candidate: &Candidate<'_>) -> Option<String> {
    let spec = candidate.pod.spec.as_ref()?;
    candidate.usage.containers.iter().find_map(|usage| {
        let container = spec.containers.iter().find(|container| container.name == usage.name)?;
        let limits = storage_limit(container)?;
        let shown = limits.get(EPHEMERAL_STORAGE)?;
        let text = || format!("Container {} exceeded its local ephemeral storage limit {:?}. ", usage.name, shown.0);
        (usage.disk > bytes(limits)).then(text)
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn pod(name: &str, priority: i32, request: &str, more: &Value) -> Pod {
        let mut value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": name},
            "spec": {"priority": priority, "containers": [{"name": "c",
                "resources": {"requests": {"memory": request, "ephemeral-storage": request}}}]}});
        for (field, part) in more.as_object().into_iter().flatten() {
            value["spec"][field] = part.clone();
        }
        Pod::from_value(&value).expect("pod")
    }

    fn usage(memory: u64, disk: u64, processes: u64) -> PodUsage {
        let containers = vec![ContainerUsage { name: "c".into(), memory, disk }];
        PodUsage { memory, disk, inodes: disk / 10, processes, containers, volumes: BTreeMap::new() }
    }

    fn check(observation: (Signal, u64, u64), want: Expect) {
        let thresholds = [
            Threshold { signal: Signal::PidAvailable, percent: 5, max: u64::MAX },
            Threshold { signal: Signal::MemoryAvailable, percent: 100, max: 100 * MIB },
            Threshold { signal: Signal::NodeFsAvailable, percent: 10, max: 1000 * MIB },
            Threshold { signal: Signal::NodeFsInodesFree, percent: 5, max: u64::MAX },
        ];
        let (signal, available, capacity) = observation;
        let found = shortages(&thresholds, &[(signal, Observation { available, capacity })].into());
        let pods = [
            (pod("within", 0, "500Mi", &json!({})), usage(400 * MIB, 400 * MIB, 90)),
            (pod("much", 0, "1Mi", &json!({})), usage(90 * MIB, 300 * MIB, 5)),
            (pod("little", 0, "1Mi", &json!({})), usage(9 * MIB, 20 * MIB, 50)),
            (pod("important", 1000, "1Mi", &json!({})), usage(900 * MIB, 900 * MIB, 100)),
            (pod("critical", 2_000_000_000, "1Mi", &json!({})), usage(900 * MIB, 900 * MIB, 900)),
        ];
        let candidates: Vec<Candidate<'_>> = pods.iter().map(|(pod, usage)| Candidate { pod, usage }).collect();
        let text = match found.first().map(|shortage| choose(shortage, &candidates)) {
            None => "enough".to_owned(),
            Some(None) => "nobody".to_owned(),
            Some(Some((uid, ended))) => format!("{uid}: {}", ended.message),
        };
        want.assert_eq(&text);
    }

    #[test]
    fn the_greediest_of_the_least_important_leaves() {
        check((Signal::MemoryAvailable, 100 * MIB, 8192 * MIB), expect!["enough"]);
        check(
            (Signal::MemoryAvailable, 50 * MIB, 8192 * MIB),
            expect![
                "much: The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 90Mi, request is 1Mi, has larger consumption of memory. "
            ],
        );
        check(
            (Signal::NodeFsAvailable, 10 * MIB, 4000 * MIB),
            expect![
                "much: The node was low on resource: ephemeral-storage. Threshold quantity: 400Mi, available: 10Mi. Container c was using 300Mi, request is 1Mi, has larger consumption of ephemeral-storage. "
            ],
        );
        check((Signal::NodeFsAvailable, 1001 * MIB, 400_000 * MIB), expect!["enough"]);
        check(
            (Signal::NodeFsInodesFree, 10, 1000),
            expect!["within: The node was low on resource: inodes. Threshold quantity: 50, available: 10. "],
        );
        check(
            (Signal::PidAvailable, 10, 32700),
            expect!["within: The node was low on resource: pids. Threshold quantity: 1635, available: 10. "],
        );
    }

    #[test]
    fn pressure_lasts_a_while() {
        let at = |second| Timestamp::from_second(second).expect("time");
        let transition = Duration::from_secs(300);
        let shortage = Shortage { signal: Signal::ImageFsAvailable, threshold: 2, available: 1 };
        let mut pressure = Pressure::default();
        assert_eq!(pressure.conditions(&[], transition, at(0)), Vec::<&str>::new());
        assert_eq!(pressure.conditions(&[shortage], transition, at(10)), ["DiskPressure"]);
        assert_eq!(pressure.conditions(&[], transition, at(309)), ["DiskPressure"]);
        assert_eq!(pressure.conditions(&[], transition, at(310)), Vec::<&str>::new());
    }

    #[test]
    fn own_limits_hold() {
        let check = |more: &Value, usage: &PodUsage, want: Expect| {
            let pod = pod("p", 0, "1Mi", more);
            assert!(has_storage_limits(&pod));
            let ended = over_limit(&Candidate { pod: &pod, usage });
            want.assert_eq(&ended.map_or_else(|| "fine".to_owned(), |ended| ended.message));
        };
        let sized = json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]});
        let with = |used| PodUsage { volumes: [("v".to_owned(), used)].into(), ..usage(0, 0, 0) };
        check(&sized, &with(MIB), expect!["fine"]);
        check(&sized, &with(MIB + 1), expect![[r#"Usage of EmptyDir volume "v" exceeds the limit "1Mi". "#]]);
        let limited = json!({"containers": [{"name": "c", "resources": {"limits": {"ephemeral-storage": "2Mi"}}},
            {"name": "d", "resources": {"limits": {"ephemeral-storage": "1Mi"}}}]});
        check(
            &limited,
            &usage(0, 4 * MIB, 0),
            expect!["Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "],
        );
        check(
            &limited,
            &usage(0, 2 * MIB + 1, 0),
            expect![[r#"Container c exceeded its local ephemeral storage limit "2Mi". "#]],
        );
        check(&limited, &usage(0, 2 * MIB, 0), expect!["fine"]);
    }
}
