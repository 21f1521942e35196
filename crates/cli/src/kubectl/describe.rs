//! `describe`: the kinds that are looked at most in kubectl's words, any other kind field by field; then the events.

mod core;
mod generic;
mod other;
mod pod;
mod tabs;
mod text;
mod workloads;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use coracle_api_meta::{Gvr, LabelSelector, Value, object::ObjectExt as _};
use coracle_client::{DynamicApi, ListParams};
use jiff::Timestamp;

use super::connection::{Connection, worded};
use super::discovery::{Discovery, Resource};
use super::selection::select;
use text::Text;

#[derive(Debug, Args)]
pub struct Options {
    /// `pod NAME`, `deploy/web`.
    what: Vec<String>,
    /// Label selector.
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
    /// All namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
}

pub async fn run(connection: &Connection, options: &Options) -> Result<ExitCode> {
    let discovery = Discovery::load(&connection.client).await?;
    let mut first = true;
    for one in select(&discovery, &options.what)? {
        let namespace = if options.all_namespaces { "" } else { connection.namespace.as_str() };
        let api = one.resource.api(&connection.client, namespace);
        let objects = if one.names.is_empty() {
            api.list(&ListParams::default().labels(&options.selector)).await.map_err(worded)?
        } else {
            let mut objects = Vec::new();
            for name in &one.names {
                objects.push(serde_json::from_slice(&api.get(name).await.map_err(worded)?)?);
            }
            objects
        };
        for object in objects {
            if !std::mem::take(&mut first) {
                println!("\n");
            }
            print!("{}", describe(connection, one.resource, &object).await?);
        }
    }
    if first {
        eprintln!("No resources found in {} namespace.", connection.namespace);
    }
    Ok(ExitCode::SUCCESS)
}

/// What belongs to an object and is shown with it.
#[derive(Debug, Default)]
struct Related {
    pods: Vec<Value>,
    /// Of a deployment.
    sets: Vec<Value>,
    /// Of a service, or of all that an ingress may name.
    slices: Vec<Value>,
    services: Vec<Value>,
    quotas: Vec<Value>,
    limits: Vec<Value>,
    /// Of a service account.
    tokens: Vec<Value>,
    lease: Option<Value>,
}

async fn objects(connection: &Connection, gvr: (&str, &str, &str), namespace: &str, params: ListParams) -> Vec<Value> {
    let api = DynamicApi::namespaced(&connection.client, &Gvr::new(gvr.0, gvr.1, gvr.2), namespace);
    // What the user may not see is left out.
    api.list(&params).await.unwrap_or_default()
}

const PODS: (&str, &str, &str) = ("", "v1", "pods");

impl Related {
    async fn of(connection: &Connection, resource: &Resource, object: &Value) -> Self {
        let namespace = object.namespace();
        let mut related = Self::default();
        let selector = LabelSelector::from_value(object.at(&["spec", "selector"]).unwrap_or(&Value::Null));
        let selector = selector.map(|selector| selector.to_string()).unwrap_or_default();
        let selected = ListParams::default().labels(&selector);
        match resource.kind.as_str() {
            "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
                related.pods = objects(connection, PODS, namespace, selected).await;
                related.pods.retain(|pod| is_controlled(pod, object));
            }
            "ReplicationController" => {
                related.pods = objects(connection, PODS, namespace, ListParams::default()).await;
                related.pods.retain(|pod| is_controlled(pod, object));
            }
            "Deployment" => {
                related.sets = objects(connection, ("apps", "v1", "replicasets"), namespace, selected).await;
                related.sets.retain(|set| is_controlled(set, object));
            }
            "Service" => {
                let of = ListParams::default().labels(&format!("kubernetes.io/service-name={}", object.name()));
                let slices = ("discovery.k8s.io", "v1", "endpointslices");
                related.slices = objects(connection, slices, namespace, of).await;
            }
            "Ingress" => {
                let slices = ("discovery.k8s.io", "v1", "endpointslices");
                related.slices = objects(connection, slices, namespace, ListParams::default()).await;
                related.services = objects(connection, ("", "v1", "services"), namespace, ListParams::default()).await;
            }
            "Namespace" => {
                let all = ListParams::default;
                related.quotas = objects(connection, ("", "v1", "resourcequotas"), object.name(), all()).await;
                related.limits = objects(connection, ("", "v1", "limitranges"), object.name(), all()).await;
            }
            "PersistentVolumeClaim" => {
                related.pods = objects(connection, PODS, namespace, ListParams::default()).await;
            }
            "ServiceAccount" => {
                let of = ListParams::default().fields("type=kubernetes.io/service-account-token");
                related.tokens = objects(connection, ("", "v1", "secrets"), namespace, of).await;
                let account = ["metadata", "annotations", "kubernetes.io/service-account.name"];
                related.tokens.retain(|secret| secret.str_at(&account) == object.name());
            }
            "Node" => {
                let of = ListParams::default().fields(&format!("spec.nodeName={}", object.name()));
                related.pods = objects(connection, PODS, "", of).await;
                let of = ListParams::default().fields(&format!("metadata.name={}", object.name()));
                let leases = ("coordination.k8s.io", "v1", "leases");
                related.lease = objects(connection, leases, "kube-node-lease", of).await.into_iter().next();
            }
            _ => {}
        }
        related
    }
}

fn is_controlled(object: &Value, owner: &Value) -> bool {
    let owners = object.at(&["metadata", "ownerReferences"]).and_then(Value::as_array);
    let controls =
        |own: &Value| own.get("controller") == Some(&Value::Bool(true)) && own.str_at(&["uid"]) == owner.uid();
    owners.into_iter().flatten().any(controls)
}

async fn describe(connection: &Connection, resource: &Resource, object: &Value) -> Result<String> {
    let mut text = Text::new(Timestamp::now());
    let related = Related::of(connection, resource, object).await;
    let mut with_events = true;
    match (resource.gvr.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod::describe(&mut text, object),
        ("apps", "Deployment") => workloads::deployment(&mut text, object, &related),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => workloads::replicas(&mut text, object, &related),
        ("apps", "StatefulSet") => workloads::stateful_set(&mut text, object, &related),
        ("apps", "DaemonSet") => workloads::daemon_set(&mut text, object, &related),
        ("batch", "Job") => workloads::job(&mut text, object),
        ("batch", "CronJob") => workloads::cron_job(&mut text, object),
        ("autoscaling", "HorizontalPodAutoscaler") => workloads::autoscaler(&mut text, object),
        ("", "Service") => core::service(&mut text, object, &related),
        ("", "ConfigMap") => core::config_map(&mut text, object),
        ("", "ServiceAccount") => core::service_account(&mut text, object, &related),
        ("", "PersistentVolumeClaim") => core::claim(&mut text, object, &related),
        ("", "PersistentVolume") => core::volume(&mut text, object),
        ("", "Node") => core::node(&mut text, object, &related),
        ("", kind @ ("Namespace" | "Secret" | "ResourceQuota")) => {
            with_events = false;
            match kind {
                "Namespace" => core::namespace(&mut text, object, &related),
                "Secret" => core::secret(&mut text, object),
                _ => core::quota(&mut text, object),
            }
        }
        ("", "LimitRange") => {
            with_events = false;
            other::limit_range(&mut text, object);
        }
        ("", "Endpoints") => other::endpoints(&mut text, object),
        ("scheduling.k8s.io", "PriorityClass") => other::priority_class(&mut text, object),
        ("storage.k8s.io", "StorageClass") => other::storage_class(&mut text, object),
        ("policy", "PodDisruptionBudget") => other::disruption_budget(&mut text, object),
        ("networking.k8s.io", "Ingress") => other::ingress(&mut text, object, &related),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            with_events = false;
            other::role(&mut text, object);
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            with_events = false;
            other::role_binding(&mut text, object);
        }
        _ => generic::describe(&mut text, object),
    }
    let events = if with_events { events(connection, resource, object).await? } else { String::new() };
    if with_events && events.is_empty() {
        text.field(0, "Events", "<none>");
    }
    Ok(format!("{}{events}", text.finish()))
}

/// Empty when there are none.
async fn events(connection: &Connection, resource: &Resource, object: &Value) -> Result<String> {
    let namespace = if object.namespace().is_empty() { "default" } else { object.namespace() };
    let api = DynamicApi::namespaced(&connection.client, &Gvr::new("", "v1", "events"), namespace);
    let params = ListParams::default().fields(&format!(
        "involvedObject.name={},involvedObject.kind={}",
        object.name(),
        resource.kind
    ));
    let mut events = api.list(&params).await.map_err(worded)?;
    events.retain(
        |event| matches!(event.str_at(&["involvedObject", "uid"]), uid if uid.is_empty() || uid == object.uid() || resource.kind == "Node"),
    );
    let mut text = Text::new(Timestamp::now());
    if events.is_empty() {
        return Ok(String::new());
    }
    events.sort_by(|a, b| last_seen(a).cmp(last_seen(b)));
    text.raw(0, "Events:");
    text.raw(0, "  Type\tReason\tAge\tFrom\tMessage");
    text.raw(1, "----\t------\t----\t----\t-------");
    for event in &events {
        let from = match event.str_at(&["source", "component"]) {
            "" => event.str_at(&["reportingComponent"]),
            component => component,
        };
        let (kind, reason, message) = (event.str_at(&["type"]), event.str_at(&["reason"]), event.str_at(&["message"]));
        text.raw(1, &format!("{kind}\t{reason}\t{}\t{from}\t{}", event_age(event, text.now), message.trim()));
    }
    Ok(text.finish())
}

fn last_seen(event: &Value) -> &str {
    match event.str_at(&["lastTimestamp"]) {
        "" => event.str_at(&["eventTime"]),
        time => time,
    }
}

/// `4m13s`, or `13s (x4 over 4m13s)`. Source: `DescribeEvents` of kubectl.
fn event_age(event: &Value, now: Timestamp) -> String {
    let first = match event.str_at(&["eventTime"]) {
        "" => age(event.str_at(&["firstTimestamp"]), now),
        time => age(time, now),
    };
    if let Some(series) = event.get("series").filter(|series| series.is_object()) {
        let count = series.get("count").and_then(Value::as_i64).unwrap_or_default();
        return format!("{} (x{count} over {first})", age(series.str_at(&["lastObservedTime"]), now));
    }
    let count = event.get("count").and_then(Value::as_i64).unwrap_or(1);
    if count > 1 { format!("{} (x{count} over {first})", age(event.str_at(&["lastTimestamp"]), now)) } else { first }
}

/// How long ago, in kubectl's short form.
pub fn age(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = now.duration_since(time).as_secs();
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..28_800 if seconds % 3600 >= 60 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("time");
        for (time, wanted) in [
            ("2026-01-01T23:59:47Z", "13s"),
            ("2026-01-01T23:55:47Z", "4m13s"),
            ("2026-01-01T23:00:00Z", "60m"),
            ("2026-01-01T20:30:00Z", "3h30m"),
            ("2025-12-25T00:00:00Z", "8d"),
            ("", "<unknown>"),
        ] {
            assert_eq!(age(time, now), wanted, "{time}");
        }
    }
}
