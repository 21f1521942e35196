//! The Service through which cluster DNS is found.

use std::net::IpAddr;

use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::api::core::v1::Service;
use coracle_api_types::k8s_openapi::api::discovery::v1::EndpointSlice;
use coracle_client::{Api, Client};
use serde_json::{Value, json};

use crate::Error;

const NAMESPACE: &str = "kube-system";
/// Source: the name that every installer gives it and that tools look for.
const NAME: &str = "kube-dns";

/// Where cluster DNS is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsService {
    /// What pods have in their resolv.conf: usually the tenth of the Service CIDR.
    pub cluster_ip: IpAddr,
    /// Where the server listens. All of the family of `cluster_ip`.
    pub endpoints: Vec<IpAddr>,
    pub endpoint_port: u16,
    /// The node whose server that is.
    pub node_name: String,
}

/// Makes the Service and its slice, or brings them to what is wanted.
pub async fn ensure_service(client: &Client, wanted: &DnsService) -> Result<(), Error> {
    let failed = |source| Error::Service { name: format!("{NAMESPACE}/{NAME}"), source };
    ensure(&Api::<Service>::namespaced(client, NAMESPACE), &service(wanted), keep_assigned).await.map_err(failed)?;
    let slices = Api::<EndpointSlice>::namespaced(client, NAMESPACE);
    ensure(&slices, &slice(wanted), |_, _| {}).await.map_err(failed)
}

fn service(wanted: &DnsService) -> Value {
    let ip = wanted.cluster_ip.to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": wanted.endpoint_port},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": wanted.endpoint_port},
            ],
        },
    })
}

fn slice(wanted: &DnsService) -> Value {
    let endpoints: Vec<Value> = wanted
        .endpoints
        .iter()
        .map(|address| {
            json!({
                "addresses": [address.to_string()],
                "nodeName": wanted.node_name,
                "conditions": {"ready": true, "serving": true, "terminating": false},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{NAME}-{}", wanted.node_name),
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": NAME,
                "endpointslice.kubernetes.io/managed-by": "dns.coracle",
            },
        },
        "addressType": if wanted.cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": endpoints,
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": wanted.endpoint_port},
            {"name": "dns-tcp", "protocol": "TCP", "port": wanted.endpoint_port},
        ],
    })
}

/// What the server has put in stays, unless it is ours to say.
fn keep_assigned(current: &Value, wanted: &mut Value) {
    let Some(spec) = current.get("spec").and_then(Value::as_object) else { return };
    for (field, value) in spec {
        if wanted["spec"].get(field).is_none() {
            wanted["spec"][field] = value.clone();
        }
    }
}

async fn ensure<K: Object>(
    api: &Api<K>,
    wanted: &Value,
    merge: impl Fn(&Value, &mut Value),
) -> coracle_client::Result<()> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let current = match api.dynamic().get(name).await {
        Ok(bytes) => serde_json::from_slice::<Value>(&bytes).unwrap_or_default(),
        Err(error) if error.is_not_found() => {
            let body = wanted.to_string().into_bytes();
            let created = api.dynamic().create(body, &coracle_client::WriteParams::default()).await;
            return match created {
                Err(error) if !error.is_already_exists() => Err(error),
                _ => Ok(()),
            };
        }
        Err(error) => return Err(error),
    };
    let mut next = wanted.clone();
    merge(&current, &mut next);
    if contains(&current, &next) {
        return Ok(());
    }
    next["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    let body = next.to_string().into_bytes();
    api.dynamic().update(name, "", body, &coracle_client::WriteParams::default()).await.map(|_| ())
}

/// Whether all that is wanted is there; what else is there does not matter.
fn contains(current: &Value, wanted: &Value) -> bool {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| current.get(key).is_some_and(|there| contains(there, value)))
        }
        (Value::Array(current), Value::Array(wanted)) => {
            current.len() == wanted.len() && current.iter().zip(wanted).all(|(a, b)| contains(a, b))
        }
        (current, wanted) => current == wanted,
    }
}
