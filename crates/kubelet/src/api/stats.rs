//! Usage of the node and its pods: the summary API and metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use coracle_client::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::text;
use crate::context::Ctx;

/// To the nanosecond, as rates are made from it.
fn time(nanos: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default().to_string()
}

/// When each container was started, by id.
async fn start_times(ctx: &Ctx) -> BTreeMap<String, i64> {
    let containers = ctx.runtime.list_containers().await.unwrap_or_default();
    containers.into_iter().map(|container| (container.id, container.started_at)).collect()
}

/// Source: kubelet `stats/v1alpha1` Summary.
pub(super) async fn summary(ctx: &Ctx) -> Response<Body> {
    let containers = ctx.runtime.list_container_stats().await.unwrap_or_default();
    let sandboxes = ctx.runtime.list_pod_sandbox_stats().await.unwrap_or_default();
    let started = start_times(ctx).await;
    let uid_of_sandbox: BTreeMap<&str, &str> =
        sandboxes.iter().map(|one| (one.id.as_str(), one.metadata.uid.as_str())).collect();
    let mut of_pod: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for stats in &containers {
        let uid = uid_of_sandbox.get(stats.sandbox_id.as_str()).copied().unwrap_or_default();
        of_pod.entry(uid.to_owned()).or_default().push(json!({
            "name": stats.name,
            "startTime": time(started.get(&stats.id).copied().unwrap_or_default()),
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
        "cpu": {"time": now, "usageCoreNanoSeconds": coracle_host::info::cpu_usage_nanos()},
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
        ["cadvisor"] => cadvisor(ctx, &mut out).await,
        ["probes"] => {}
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

/// What metrics-server reads. Source: `pkg/kubelet/metrics/collectors/resource_metrics.go`.
#[allow(clippy::cast_precision_loss)]
async fn resource(ctx: &Ctx, out: &mut String) {
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let now = coracle_host::info::now_nanos() / 1_000_000;
    let memory = ctx.machine.memory.saturating_sub(coracle_host::info::memory_available());
    let cpu = seconds(coracle_host::info::cpu_usage_nanos());
    let mut families = Families::new();
    let mut put = |name: &'static str, kind: &'static str, line: String| {
        families.entry(name).or_insert_with(|| (kind, Vec::new())).1.push(format!("{name}{line}"));
    };
    put("node_cpu_usage_seconds_total", "counter", format!(" {cpu} {now}"));
    put("node_memory_working_set_bytes", "gauge", format!(" {memory} {now}"));
    put("resource_scrape_error", "gauge", " 0".to_owned());
    let sandboxes = ctx.runtime.list_pod_sandbox_stats().await.unwrap_or_default();
    let mut pods: BTreeMap<&str, String> = BTreeMap::new();
    for stats in &sandboxes {
        let labels = format!("namespace={:?},pod={:?}", stats.metadata.namespace, stats.metadata.name);
        let at = stats.timestamp / 1_000_000;
        let cpu = seconds(stats.cpu_usage_core_nanos);
        put("pod_cpu_usage_seconds_total", "counter", format!("{{{labels}}} {cpu} {at}"));
        put("pod_memory_working_set_bytes", "gauge", format!("{{{labels}}} {} {at}", stats.memory_working_set));
        pods.insert(&stats.id, labels);
    }
    let started = start_times(ctx).await;
    for stats in &ctx.runtime.list_container_stats().await.unwrap_or_default() {
        let Some(pod) = pods.get(stats.sandbox_id.as_str()) else { continue };
        let labels = format!("{{container={:?},{pod}}}", stats.name);
        let at = stats.timestamp / 1_000_000;
        let cpu = seconds(stats.cpu_usage_core_nanos);
        put("container_cpu_usage_seconds_total", "counter", format!("{labels} {cpu} {at}"));
        put("container_memory_working_set_bytes", "gauge", format!("{labels} {} {at}", stats.memory_working_set));
        if let Some(started) = started.get(&stats.id).and_then(|nanos| u64::try_from(*nanos).ok()) {
            put("container_start_time_seconds", "gauge", format!("{labels} {}", seconds(started)));
        }
    }
    write_families(families, out);
}

/// Kind and lines of metrics by name.
type Families = BTreeMap<&'static str, (&'static str, Vec<String>)>;

fn write_families(families: Families, out: &mut String) {
    for (name, (kind, lines)) in families {
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
    }
}

/// The part of cAdvisor's metrics that dashboards build on. Source: cAdvisor `docs/storage/prometheus.md`.
#[allow(clippy::cast_precision_loss)]
async fn cadvisor(ctx: &Ctx, out: &mut String) {
    let mut families = Families::new();
    let mut put = |name: &'static str, kind: &'static str, labels: &str, value: String| {
        let line = if labels.is_empty() { format!("{name} {value}") } else { format!("{name}{{{labels}}} {value}") };
        families.entry(name).or_insert_with(|| (kind, Vec::new())).1.push(line);
    };
    put("machine_cpu_cores", "gauge", "", ctx.machine.cpus.to_string());
    put("machine_memory_bytes", "gauge", "", ctx.machine.memory.to_string());
    let mut pods: BTreeMap<String, String> = BTreeMap::new();
    for stats in ctx.runtime.list_pod_sandbox_stats().await.unwrap_or_default() {
        let pod = format!("namespace={:?},pod={:?}", stats.metadata.namespace, stats.metadata.name);
        let labels = format!("interface=\"eth0\",{pod}");
        put("container_network_receive_bytes_total", "counter", &labels, stats.network_rx_bytes.to_string());
        put("container_network_transmit_bytes_total", "counter", &labels, stats.network_tx_bytes.to_string());
        pods.insert(stats.id, pod);
    }
    let images: BTreeMap<String, String> = ctx
        .workers
        .snapshots()
        .into_values()
        .flat_map(|snapshot| snapshot.runtime.containers.clone())
        .map(|status| (status.id, status.image))
        .collect();
    for stats in ctx.runtime.list_container_stats().await.unwrap_or_default() {
        let Some(pod) = pods.get(&stats.sandbox_id) else { continue };
        let image = images.get(&stats.id).map(String::as_str).unwrap_or_default();
        let labels = format!("container={:?},id={:?},image={image:?},{pod}", stats.name, stats.id);
        let cpu = stats.cpu_usage_core_nanos as f64 / 1e9;
        put("container_cpu_usage_seconds_total", "counter", &format!("{labels},cpu=\"total\""), cpu.to_string());
        for (name, value) in [
            ("container_memory_working_set_bytes", stats.memory_working_set),
            ("container_memory_usage_bytes", stats.memory_usage),
            ("container_memory_rss", stats.memory_rss),
            ("container_fs_usage_bytes", stats.writable_layer.used_bytes),
            ("container_processes", stats.pids),
        ] {
            put(name, "gauge", &labels, value.to_string());
        }
    }
    write_families(families, out);
}
