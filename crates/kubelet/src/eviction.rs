//! Looks whether the node runs short, and makes room: images first, then one pod at a time.
//!
//! What is decided, `plan-pods` decides. Usage of pods is only measured when it matters: when something is short, and for
//! pods with limits of local storage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_host::{fs as host_fs, info};
use coracle_plan_pods::Ended;
use coracle_plan_pods::eviction::{
    Candidate, ContainerUsage, Observation, Observations, PodUsage, Pressure, Shortage, Signal, Threshold, choose,
    has_storage_limits, over_limit, shortages,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use crate::context::{Context, Ctx};
use crate::source::Snapshot;
use crate::{Config, gc};

/// Source: kubelet `evictionMonitoringPeriod`.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Process ids that must stay free, in percent of all.
const PIDS_FREE_PERCENT_MIN: u64 = 5;
const INODES_FREE_PERCENT_MIN: u64 = 5;
/// How long the next one is spared after a pod was told to leave. Source: kubelet `podCleanupTimeout`.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn run(ctx: Ctx) {
    let mut pressure = Pressure::default();
    // Pods that have to leave and have not yet.
    let mut told: BTreeSet<String> = BTreeSet::new();
    let thresholds = thresholds(&ctx.config);
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = shortages(&thresholds, &observe(&ctx).await);
        let transition = ctx.config.eviction_pressure_transition;
        ctx.admission.set_pressure(pressure.conditions(&found, transition, Timestamp::now()));
        told.retain(|uid| ctx.admission.holds(uid));
        if enforce_limits(&ctx, &mut told).await {
            continue;
        }
        if let Some(shortage) = found.first() {
            relieve(&ctx, shortage, &thresholds).await;
        }
    }
}

fn thresholds(config: &Config) -> Vec<Threshold> {
    let disk = |signal| Threshold {
        signal,
        percent: config.eviction_disk_available_percent,
        max: config.eviction_disk_available,
    };
    let share = |signal, percent| Threshold { signal, percent, max: u64::MAX };
    vec![
        Threshold { signal: Signal::MemoryAvailable, percent: 100, max: config.eviction_memory_available },
        disk(Signal::NodeFsAvailable),
        disk(Signal::ImageFsAvailable),
        share(Signal::NodeFsInodesFree, INODES_FREE_PERCENT_MIN),
        share(Signal::ImageFsInodesFree, INODES_FREE_PERCENT_MIN),
        share(Signal::PidAvailable, PIDS_FREE_PERCENT_MIN),
    ]
}

async fn observe(ctx: &Context) -> Observations {
    let memory = Observation { available: info::memory_available(), capacity: ctx.machine.memory };
    let mut found = Observations::from([(Signal::MemoryAvailable, memory)]);
    let node = info::statfs(&ctx.config.root_dir).unwrap_or_default();
    add_disk(&mut found, node, [Signal::NodeFsAvailable, Signal::NodeFsInodesFree]);
    if let Some(path) = ctx.images.folder().await
        && !host_fs::same_file_system(Path::new(&path), &ctx.config.root_dir)
        && let Ok(stat) = info::statfs(Path::new(&path))
    {
        add_disk(&mut found, stat, [Signal::ImageFsAvailable, Signal::ImageFsInodesFree]);
    }
    if let Some((used, max)) = info::process_ids() {
        let available = max.saturating_sub(used);
        found.insert(Signal::PidAvailable, Observation { available, capacity: max });
    }
    found
}

/// File systems that do not count inodes say that they have none.
fn add_disk(found: &mut Observations, stat: info::FsStat, [bytes, inodes]: [Signal; 2]) {
    if stat.capacity > 0 {
        found.insert(bytes, Observation { available: stat.available, capacity: stat.capacity });
    }
    if stat.inodes > 0 {
        found.insert(inodes, Observation { available: stat.inodes_free, capacity: stat.inodes });
    }
}

/// Pods that run, by uid.
fn active(ctx: &Context) -> BTreeMap<String, Snapshot> {
    let mut all = ctx.workers.snapshots();
    all.retain(|uid, snapshot| snapshot.pod.is_some() && ctx.admission.holds(uid));
    all
}

/// Ends pods that use more local storage than they may. Returns whether there was one.
async fn enforce_limits(ctx: &Ctx, told: &mut BTreeSet<String>) -> bool {
    let mut any = false;
    for (uid, snapshot) in active(ctx) {
        let Some(pod) = snapshot.pod.clone().filter(|pod| has_storage_limits(pod)) else { continue };
        let usage = measure(ctx, &pod, &snapshot).await;
        if let Some(ended) = over_limit(&Candidate { pod: &pod, usage: &usage }) {
            if told.insert(uid.clone()) {
                evict(ctx, &uid, &pod, ended);
            }
            any = true;
        }
    }
    any
}

async fn relieve(ctx: &Ctx, shortage: &Shortage, thresholds: &[Threshold]) {
    let name = Some(ctx.config.node_name.clone());
    let node =
        ObjectReference { kind: Some("Node".to_owned()), name: name.clone(), uid: name, ..ObjectReference::default() };
    let message = format!("Attempting to reclaim {}", shortage.signal.resource());
    ctx.events.warning(&node, "EvictionThresholdMet", &message);
    if shortage.signal.is_of_disk() {
        gc::remove_unused_images(ctx).await;
        let again = shortages(thresholds, &observe(ctx).await);
        if !again.iter().any(|other| other.signal == shortage.signal) {
            return;
        }
    }
    let mut measured = Vec::new();
    for (uid, snapshot) in active(ctx) {
        let Some(pod) = snapshot.pod.clone() else { continue };
        let usage = measure(ctx, &pod, &snapshot).await;
        measured.push((uid, pod, usage));
    }
    let candidates: Vec<Candidate<'_>> = measured.iter().map(|(_, pod, usage)| Candidate { pod, usage }).collect();
    let Some((uid, ended)) = choose(shortage, &candidates) else {
        tracing::warn!(resource = shortage.signal.resource(), "the node is short, and no pod may leave");
        return;
    };
    if let Some((_, pod, _)) = measured.iter().find(|(other, ..)| *other == uid) {
        evict(ctx, &uid, pod, ended);
        let left = ctx.admission.wait_released(&uid);
        if tokio::time::timeout(LEAVE_WAIT_MAX, left).await.is_err() {
            tracing::warn!(pod = pod.name(), "an evicted pod takes long to leave");
        }
    }
}

fn evict(ctx: &Ctx, uid: &str, pod: &Pod, ended: Ended) {
    let Some(inbox) = ctx.workers.get(uid) else { return };
    tracing::info!(pod = pod.name(), namespace = pod.namespace(), message = ended.message, "evict a pod");
    inbox.post(|news| news.evict = Some(ended));
}

/// What a pod uses of memory, processes and disk.
async fn measure(ctx: &Ctx, pod: &Pod, snapshot: &Snapshot) -> PodUsage {
    let mut usage = PodUsage::default();
    let logs = ctx.pod_log_dir(pod);
    for status in &snapshot.runtime.containers {
        let Ok(stats) = ctx.runtime.container_stats(&status.id).await else { continue };
        usage.memory += stats.memory_working_set;
        usage.processes += stats.pids;
        usage.disk += stats.writable_layer.used_bytes;
        usage.inodes += stats.writable_layer.inodes_used;
        let log = disk_usage(&logs.join(&stats.name)).await;
        match usage.containers.iter_mut().find(|known| known.name == stats.name) {
            // An earlier run of the same container: only its layer is new.
            Some(known) => known.disk += stats.writable_layer.used_bytes,
            None => {
                usage.disk += log.0;
                usage.inodes += log.1;
                let disk = stats.writable_layer.used_bytes + log.0;
                let memory = stats.memory_working_set;
                usage.containers.push(ContainerUsage { name: stats.name, memory, disk });
            }
        }
    }
    let volumes = ctx.pod_dir(pod.uid()).join("volumes").join("kubernetes.io~empty-dir");
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        if volume.empty_dir.as_ref().is_none_or(|own| own.medium.as_deref() == Some("Memory")) {
            continue;
        }
        let (bytes, inodes) = disk_usage(&volumes.join(&volume.name)).await;
        usage.disk += bytes;
        usage.inodes += inodes;
        usage.volumes.insert(volume.name.clone(), bytes);
    }
    usage
}

async fn disk_usage(path: &Path) -> (u64, u64) {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || host_fs::disk_usage(&path)).await.unwrap_or_default()
}
