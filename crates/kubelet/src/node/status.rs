//! What the node says about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_client::{Api, Patch, PatchParams};
use coracle_host::info::Machine;
use coracle_plan_pods::resources::ResourceList as QuantityMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo, ObjectReference,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use tokio::sync::watch;

use crate::Config;
use crate::context::Context;

/// How often the machine is looked at. Source: kubelet `nodeStatusUpdateFrequency`.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// While not ready.
const LOOK_INTERVAL_UNREADY: Duration = Duration::from_millis(100);
/// Seconds after which an unchanged status is sent again. Source: kubelet `nodeStatusReportFrequency`.
const REPORT_SECONDS: i64 = 300;
/// Source: kubelet `nodeStatusMaxImages`.
const IMAGES_MAX: usize = 50;

/// The whole status; conditions keep the time of their last change from `old`.
pub(super) async fn current(ctx: &Context, port: u16, old: Option<&NodeStatus>) -> NodeStatus {
    NodeStatus {
        addresses: Some(addresses(ctx)),
        capacity: Some(capacity(&ctx.config, &ctx.machine, false)),
        allocatable: Some(capacity(&ctx.config, &ctx.machine, true)),
        conditions: Some(conditions(ctx, old).await),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
        }),
        images: Some(images(ctx).await),
        node_info: Some(node_info(ctx)),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        runtime_handlers: Some(vec![handler()]),
        ..NodeStatus::default()
    }
}

/// What the runtime can do for pods of any runtime class.
fn handler() -> NodeRuntimeHandler {
    let features = NodeRuntimeHandlerFeatures { recursive_read_only_mounts: Some(true), user_namespaces: Some(true) };
    NodeRuntimeHandler { name: None, features: Some(features) }
}

/// Sends the status when something changed, and now and then when nothing did.
pub(super) async fn report(ctx: &Context, node: Node, port: u16, ready: watch::Sender<bool>) {
    let reference = reference(ctx);
    ctx.events.normal(&reference, "Starting", "Starting kubelet.");
    let mut known = node.status.unwrap_or_default();
    let mut sent = Timestamp::UNIX_EPOCH;
    loop {
        let fresh = current(ctx, port, Some(&known)).await;
        let due = Timestamp::now().as_second() - sent.as_second() >= REPORT_SECONDS;
        if due || without_heartbeats(&fresh) != without_heartbeats(&known) {
            match send(ctx, &known, &fresh).await {
                Ok(()) => {
                    tell_changes(ctx, &reference, &known, &fresh);
                    sent = Timestamp::now();
                    known = fresh;
                }
                Err(error) => {
                    tracing::debug!(%error, "report the node's status");
                    tokio::time::sleep(LOOK_INTERVAL_UNREADY).await;
                    continue;
                }
            }
        }
        let is_ready = condition(&known, "Ready").is_some_and(|condition| condition.status == "True");
        ready.send_if_modified(|ready| std::mem::replace(ready, is_ready) != is_ready);
        tokio::select! {
            () = tokio::time::sleep(if is_ready { LOOK_INTERVAL } else { LOOK_INTERVAL_UNREADY }) => {}
            () = ctx.admission.pressure_changed() => {}
        }
    }
}

async fn send(ctx: &Context, known: &NodeStatus, fresh: &NodeStatus) -> coracle_client::Result<()> {
    let value = |status: &NodeStatus| serde_json::to_value(status).unwrap_or_default();
    let (old, new) = (value(known), value(fresh));
    let mut patch = serde_json::Map::new();
    for (field, value) in new.as_object().into_iter().flatten() {
        if old.get(field) == Some(value) {
            continue;
        }
        let value = match (field.as_str(), value) {
            // Addresses merge by type, but stale ones have to go.
            ("addresses", Value::Array(list)) => {
                let mut list = list.clone();
                list.insert(0, serde_json::json!({"$patch": "replace"}));
                Value::Array(list)
            }
            (_, other) => other.clone(),
        };
        patch.insert(field.clone(), value);
    }
    let body = Patch::Strategic(serde_json::json!({"status": patch}));
    let api = Api::<Node>::all(&ctx.client);
    api.patch_status(&ctx.config.node_name, &body, &PatchParams::default()).await.map(drop)
}

fn without_heartbeats(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
    // Others add resources of their own.
    status.capacity = status.capacity.map(own_resources);
    status.allocatable = status.allocatable.map(own_resources);
    NodeStatus {
        addresses: status.addresses,
        capacity: status.capacity,
        allocatable: status.allocatable,
        conditions: status.conditions,
        daemon_endpoints: status.daemon_endpoints,
        images: status.images,
        node_info: status.node_info,
        features: status.features,
        runtime_handlers: status.runtime_handlers,
        ..NodeStatus::default()
    }
}

fn own_resources(mut map: QuantityMap) -> QuantityMap {
    map.retain(|name, _| !name.contains('/'));
    map
}

fn condition<'a>(status: &'a NodeStatus, kind: &str) -> Option<&'a NodeCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn reference(ctx: &Context) -> ObjectReference {
    let name = Some(ctx.config.node_name.clone());
    ObjectReference { kind: Some("Node".to_owned()), name: name.clone(), uid: name, ..ObjectReference::default() }
}

/// Events for conditions that turned.
fn tell_changes(ctx: &Context, reference: &ObjectReference, old: &NodeStatus, new: &NodeStatus) {
    for condition in new.conditions.iter().flatten() {
        let before = self::condition(old, &condition.type_).map(|before| before.status.as_str());
        let now = condition.status.as_str();
        if before == Some(now) {
            continue;
        }
        let reason = match (condition.type_.as_str(), now) {
            ("Ready", "True") => "NodeReady",
            ("Ready", _) => "NodeNotReady",
            ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
            ("MemoryPressure", _) => "NodeHasSufficientMemory",
            ("DiskPressure", "True") => "NodeHasDiskPressure",
            ("DiskPressure", _) => "NodeHasNoDiskPressure",
            ("PIDPressure", "True") => "NodeHasInsufficientPID",
            ("PIDPressure", _) => "NodeHasSufficientPID",
            _ => continue,
        };
        let message = format!("Node {} status is now: {reason}", ctx.config.node_name);
        ctx.events.normal(reference, reason, &message);
    }
}

fn addresses(ctx: &Context) -> Vec<NodeAddress> {
    let internal = ctx.config.node_ips.iter().map(|ip| ("InternalIP", ip.to_string()));
    let all = internal.chain([("Hostname", ctx.config.node_name.clone())]);
    all.map(|(kind, address)| NodeAddress { type_: kind.to_owned(), address }).collect()
}

pub(super) fn capacity(config: &Config, machine: &Machine, allocatable: bool) -> BTreeMap<String, Quantity> {
    let disk = coracle_host::info::statfs(&config.root_dir).map_or(0, |stat| stat.capacity);
    let (memory, disk) = if allocatable {
        let memory = machine.memory.saturating_sub(config.eviction_memory_available);
        (memory, format!("{}", disk / 10 * 9))
    } else {
        (machine.memory, format!("{}Ki", disk >> 10))
    };
    let list = [
        ("cpu", machine.cpus.to_string()),
        ("memory", format!("{}Ki", memory >> 10)),
        ("ephemeral-storage", disk),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
        ("pods", config.pods_max.to_string()),
    ];
    list.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount))).collect()
}

fn node_info(ctx: &Context) -> NodeSystemInfo {
    let machine = &ctx.machine;
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("{}://{}", ctx.facts.runtime_name, ctx.runtime_version),
        kernel_version: machine.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: ctx.config.version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

/// The largest first, as the scheduler cares for these most.
async fn images(ctx: &Context) -> Vec<ContainerImage> {
    let mut images = ctx.images.service().list_images().await.unwrap_or_default();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let named = images.into_iter().map(|image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect::<Vec<_>>()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    named.filter(|image| image.names.as_ref().is_some_and(|names| !names.is_empty())).take(IMAGES_MAX).collect()
}

async fn conditions(ctx: &Context, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let pressure = ctx.admission.pressure();
    let short = |name: &str| pressure.contains(&name);
    let text = |yes: bool, when: [&'static str; 2], otherwise: [&'static str; 2]| {
        let [reason, message] = if yes { when } else { otherwise };
        (yes, reason, message.to_owned())
    };
    let memory = text(
        short("MemoryPressure"),
        ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
        ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
    );
    let disk = text(
        short("DiskPressure"),
        ["KubeletHasDiskPressure", "kubelet has disk pressure"],
        ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
    );
    let pids = text(
        short("PIDPressure"),
        ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
        ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
    );
    let ready = match why_unready(ctx).await {
        None => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(message) => (false, "KubeletNotReady", message),
    };
    let all = [("MemoryPressure", memory), ("DiskPressure", disk), ("PIDPressure", pids), ("Ready", ready)];
    let now = Time(Timestamp::now());
    let each = all.into_iter().map(|(kind, (status, reason, message))| {
        let status = if status { "True" } else { "False" };
        let before = old.and_then(|old| condition(old, kind)).filter(|before| before.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before.and_then(|before| before.last_transition_time.clone()).or(Some(now.clone())),
        }
    });
    each.collect()
}

async fn why_unready(ctx: &Context) -> Option<String> {
    let status = match ctx.runtime.status().await {
        Ok(status) => status,
        Err(error) => return Some(format!("container runtime is down: {error}")),
    };
    let mut problems = Vec::new();
    if let Err(error) = status.runtime_ready {
        problems
            .push(format!("container runtime not ready: RuntimeReady=false reason:RuntimeNotReady message:{error}"));
    }
    if let Err(error) = status.network_ready {
        problems.push(format!(
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: {error}"
        ));
    }
    match problems.len() {
        0 => None,
        1 => problems.pop(),
        _ => Some(format!("[{}]", problems.join(", "))),
    }
}
