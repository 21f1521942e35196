//! The Service `kubernetes` and its endpoints: how pods reach this server.
//! Source: `pkg/controlplane/controller/kubernetesservice`, `pkg/controlplane/reconcilers`.

use std::net::IpAddr;

use coracle_api_meta::{Status, Value};
use ipnet::IpNet;
use serde_json::json;

use super::{ensure as ensure_object, options, target_of};
use crate::http::Ctx;
use crate::registry::update;

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
const PORT: u16 = 443;

/// The first address of the range: the cluster address of this server.
pub(crate) fn first_address(range: &IpNet) -> IpAddr {
    match range.network() {
        IpAddr::V4(network) => IpAddr::from((u32::from(network) + 1).to_be_bytes()),
        IpAddr::V6(network) => IpAddr::from((u128::from(network) + 1).to_be_bytes()),
    }
}

pub(super) async fn ensure(ctx: &Ctx) -> Result<(), Status> {
    let config = &ctx.server.config;
    let address = first_address(&config.service_cidr).to_string();
    let family = if config.service_cidr.addr().is_ipv4() { "IPv4" } else { "IPv6" };
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    ensure_object(
        ctx,
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
            "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "sessionAffinity": "None",
                "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "port": PORT, "protocol": "TCP", "targetPort": config.advertise.port()}]},
        }),
    )
    .await?;
    if config.advertise.ip().is_loopback() || config.advertise.ip().is_unspecified() {
        // No pod could reach it; endpoints may not name it either.
        return follow_service(ctx).await;
    }
    let advertise = config.advertise.ip().to_string();
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": advertise}], "ports": [{"name": "https", "port": config.advertise.port(), "protocol": "TCP"}]}],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": if config.advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertise], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": config.advertise.port(), "protocol": "TCP"}],
    });
    for (object, fields) in [(endpoints, &["subsets"][..]), (slice, &["endpoints", "ports"][..])] {
        ensure_object(ctx, object.clone()).await?;
        follow(ctx, &object, fields).await?;
    }
    follow_service(ctx).await
}

/// Says that the range of Services is in use. Source: `pkg/controller/servicecidrs`.
pub(super) async fn ensure_range_ready(ctx: &Ctx) -> Result<(), Status> {
    let range = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": NAME}});
    let target = target_of(&ctx.server, &range)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        if next["status"]["conditions"].as_array().is_none_or(Vec::is_empty) {
            next["status"] = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "",
                "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": crate::time::now_text()}]});
        }
        Ok(next)
    };
    update::apply(ctx, &target, "status", &options("coracle"), &mut change).await.map(|_| ())
}

/// The address or port of the server may have changed since the last start.
async fn follow(ctx: &Ctx, wanted: &Value, fields: &[&str]) -> Result<(), Status> {
    let target = target_of(&ctx.server, wanted)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        for field in fields {
            next[*field] = wanted[*field].clone();
        }
        Ok(next)
    };
    update::apply(ctx, &target, "", &options("coracle"), &mut change).await.map(|_| ())
}

async fn follow_service(ctx: &Ctx) -> Result<(), Status> {
    let port = ctx.server.config.advertise.port();
    let named = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAMESPACE}});
    let target = target_of(&ctx.server, &named)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        next["spec"]["ports"][0]["targetPort"] = port.into();
        Ok(next)
    };
    update::apply(ctx, &target, "", &options("coracle"), &mut change).await.map(|_| ())
}
