//! Makes the Node object, or takes over the one that is there.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api_types::Object;
use coracle_client::{Api, Patch, PatchParams};
use coracle_host::info::Machine;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::status;
use crate::Config;
use crate::context::Context;

const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(7);

/// Tries until it succeeds.
pub(super) async fn register(ctx: &Context, port: u16) -> Node {
    let mut retry = RETRY_FIRST;
    loop {
        match try_register(ctx, port).await {
            Ok(node) => return node,
            Err(error) => tracing::debug!(%error, "register the node"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

async fn try_register(ctx: &Context, port: u16) -> coracle_client::Result<Node> {
    let api = Api::<Node>::all(&ctx.client);
    let wanted = initial(ctx, port).await;
    match api.create(&wanted).await {
        Err(error) if error.is_already_exists() => {}
        other => return other,
    }
    let found = api.get(&ctx.config.node_name).await?;
    let missing: BTreeMap<_, _> = labels(&ctx.config, &ctx.machine)
        .into_iter()
        .filter(|(key, value)| found.label(key) != Some(value.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(found);
    }
    let patch = Patch::Strategic(serde_json::json!({"metadata": {"labels": missing}}));
    api.patch(&ctx.config.node_name, &patch, &PatchParams::default()).await
}

/// What is known of the node without the API: enough to judge pods by.
pub(super) fn stand_in(config: &Config, machine: &Machine) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config, machine)),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(NodeStatus {
            allocatable: Some(status::capacity(config, machine, true)),
            ..NodeStatus::default()
        }),
    }
}

async fn initial(ctx: &Context, port: u16) -> Node {
    let annotations = [("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())];
    Node {
        metadata: ObjectMeta {
            name: Some(ctx.config.node_name.clone()),
            labels: Some(labels(&ctx.config, &ctx.machine)),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: Some(ctx.config.taints.clone()).filter(|taints| !taints.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status::current(ctx, port, None).await),
    }
}

fn labels(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    let arch = machine.architecture.as_str();
    let own = [
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
    ];
    let mut labels: BTreeMap<_, _> = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    labels.extend(config.labels.clone());
    labels
}
