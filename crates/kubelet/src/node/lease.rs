//! The lease that tells that the node is alive. Source: KEP-589.

use std::time::Duration;

use coracle_client::Api;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};

use crate::context::Ctx;

const NAMESPACE: &str = "kube-node-lease";
const RETRY: Duration = Duration::from_millis(200);

/// Renews at a quarter of the lease's duration.
pub(super) async fn keep(ctx: Ctx) {
    let mut known = None;
    loop {
        let wait = match renew(&ctx, known.take()).await {
            Ok(lease) => {
                known = Some(lease);
                ctx.config.lease_duration / 4
            }
            Err(error) => {
                tracing::debug!(%error, "renew the node's lease");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn renew(ctx: &Ctx, known: Option<Lease>) -> coracle_client::Result<Lease> {
    let api = Api::<Lease>::namespaced(&ctx.client, NAMESPACE);
    let name = &ctx.config.node_name;
    let known = match known {
        Some(known) => Some(known),
        None => api.get_opt(name).await?,
    };
    let Some(mut lease) = known else { return api.create(&fresh(ctx).await?).await };
    lease.spec = Some(spec(ctx));
    api.update(&lease).await
}

fn spec(ctx: &Ctx) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(ctx.config.node_name.clone()),
        lease_duration_seconds: i32::try_from(ctx.config.lease_duration.as_secs()).ok(),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    }
}

async fn fresh(ctx: &Ctx) -> coracle_client::Result<Lease> {
    let name = ctx.config.node_name.clone();
    let node = Api::<Node>::all(&ctx.client).get(&name).await?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    };
    Ok(Lease {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(ctx)),
    })
}
