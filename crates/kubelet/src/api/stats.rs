//! Usage of the node and its pods: the summary API and metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use coracle_client::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::text;
use crate::context::Ctx;
use crate::sandbox::LABEL_POD_UID;

fn time(nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Source: kubelet `stats/v1alpha1` Summary.
pub(super) async fn summary(ctx: &Ctx) -> Response<Body> {
    let containers = ctx.runtime.list_container_stats().await.unwrap_or_default();
    let sandboxes = ctx.runtime.list_pod_sandbox_stats().await.unwrap_or_default();
    let uid_of_sandbox: BTreeMap<&str, &str> =
        sandboxes.iter().map(|one| (one.id.as_str(), one.metadata.uid.as_str())).collect();
    let mut of_pod: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for stats in &containers {
        let uid = uid_of_sandbox.get(stats.sandbox_id.as_str()).copied().unwrap_or_default();
        of_pod.entry(uid.to_owned()).or_default().push(json!({
            "name": stats.name,
            "startTime": time(stats.timestamp),
            "cpu": {"time": time(stats.timestamp), "usageCoreNanoSeconds": stats.cpu_usage_core_nanos},
            "memory": {
                "time": time(stats.timestamp),
                "usageBytes": stats.memory_usage,
                "workingSetBytes": stats.memory_working_set,
                "rssBytes": stats.memory_rss,
            },
            "rootfs": {
                "time": time(stats.timestamp),
                "usedBytes": stats.writable_layer.used_bytes,
                "inodesUsed": stats.writable_layer.inodes_used,
            },
        }));
    }
    let pods: Vec<Value> = sandboxes
        .iter()
        .map(|stats| {
            let at = time(stats.timestamp);
            json!({
                "podRef": {"name": stats.metadata.name, "namespace": stats.metadata.namespace, "uid": stats.metadata.uid},
                "containers": of_pod.remove(&stats.metadata.uid).unwrap_or_default(),
                "cpu": {"time": at, "usageCoreNanoSeconds": stats.cpu_usage_core_nanos},
                "memory": {"time": at, "workingSetBytes": stats.memory_working_set},
                "network": {"time": at, "name": "eth0", "rxBytes": stats.network_rx_bytes, "txBytes": stats.network_tx_bytes},
                "process_stats": {"process_count": stats.pids},
            })
        })
        .collect();
    super::json(&json!({"node": node(ctx), "pods": pods}))
}

fn node(ctx: &Ctx) -> Value {
    let now = time(coracle_host::info::now_nanos());
    let disk = coracle_host::info::statfs(&ctx.config.root_dir).unwrap_or_default();
    let available = coracle_host::info::memory_available();
    json!({
        "nodeName": ctx.config.node_name,
        "memory": {
            "time": now,
            "availableBytes": available,
            "workingSetBytes": ctx.machine.memory.saturating_sub(available),
        },
        "fs": {
            "time": now,
            "availableBytes": disk.available,
            "capacityBytes": disk.capacity,
            "usedBytes": disk.used,
            "inodes": disk.inodes,
            "inodesFree": disk.inodes_free,
        },
    })
}

/// Prometheus text; `rest` names one of the kubelet's endpoints below `/metrics`.
pub(super) async fn metrics(ctx: &Ctx, rest: &[&str]) -> Response<Body> {
    let mut out = String::new();
    match rest {
        [] => own(ctx, &mut out),
        ["resource"] => resource(ctx, &mut out).await,
        ["cadvisor" | "probes"] => {}
        _ => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
    text(StatusCode::OK, out)
}

fn own(ctx: &Ctx, out: &mut String) {
    let snapshots = ctx.workers.snapshots();
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for container in snapshots.values().flat_map(|snapshot| &snapshot.runtime.containers) {
        *states.entry(format!("{:?}", container.state).to_lowercase()).or_default() += 1;
    }
    let _ = writeln!(out, "# TYPE kubelet_running_pods gauge");
    let running = snapshots.values().filter(|snapshot| snapshot.runtime.ready_sandbox().is_some()).count();
    let _ = writeln!(out, "kubelet_running_pods {running}");
    let _ = writeln!(out, "# TYPE kubelet_running_containers gauge");
    for (state, count) in states {
        let _ = writeln!(out, "kubelet_running_containers{{container_state=\"{state}\"}} {count}");
    }
    let _ = writeln!(out, "# TYPE kubelet_node_name gauge\nkubelet_node_name{{node={:?}}} 1", ctx.config.node_name);
}

async fn resource(ctx: &Ctx, out: &mut String) {
    let stats = ctx.runtime.list_container_stats().await.unwrap_or_default();
    let snapshots = ctx.workers.snapshots();
    let names: BTreeMap<&str, (&str, &str)> = snapshots
        .values()
        .flat_map(|snapshot| &snapshot.runtime.containers)
        .filter(|container| container.labels.contains_key(LABEL_POD_UID))
        .map(|container| {
            let label = |name: &str| container.labels.get(name).map(String::as_str).unwrap_or_default();
            (container.id.as_str(), (label(crate::sandbox::LABEL_POD_NAMESPACE), label(crate::sandbox::LABEL_POD_NAME)))
        })
        .collect();
    let _ = writeln!(out, "# TYPE container_cpu_usage_seconds_total counter");
    #[allow(clippy::cast_precision_loss)]
    for one in &stats {
        let (namespace, pod) = names.get(one.id.as_str()).copied().unwrap_or_default();
        let labels = format!("{{container={:?},namespace={namespace:?},pod={pod:?}}}", one.name);
        let _ = writeln!(out, "container_cpu_usage_seconds_total{labels} {}", one.cpu_usage_core_nanos as f64 / 1e9);
        let _ = writeln!(out, "container_memory_working_set_bytes{labels} {}", one.memory_working_set);
    }
}
