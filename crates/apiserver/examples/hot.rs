//! The hot paths of the server without sockets, for profilers: `hot OPERATION [COUNT]` with `create`, `configmap`, `get`,
//! `patch`, `apply`, `list` or `delete`. Prints the CPU time of one operation, the caller's share included.
//! `hot serve` runs the server alone until it is killed, and prints what `coracle bench api` needs to know.

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use common::Cluster;
use coracle_client::{Client, Error};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

/// What the program itself uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 16;
const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn pod(index: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("bench-{index}"), "labels": {"app": "bench", "shard": (index % 10).to_string()}},
        "spec": {"schedulerName": "none", "automountServiceAccountToken": false, "containers": [{
            "name": "web", "image": "registry.example/web:1.0", "args": ["--port=8080"],
            "env": [{"name": "MODE", "value": "bench"}], "ports": [{"containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
        }]},
    })
}

async fn one(client: &Client, operation: &str, index: usize) -> Result<(), Error> {
    let item = format!("{PODS}/bench-{index}");
    let (method, path, kind, body) = match operation {
        "create" => (Method::POST, PODS.to_owned(), "application/json", pod(index)),
        "configmap" => {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("bench-{index}")},
                "data": {"key": "value"}});
            (Method::POST, MAPS.to_owned(), "application/json", map)
        }
        "patch" => {
            let patch = json!({"metadata": {"annotations": {"bench": index.to_string()}}});
            (Method::PATCH, item, "application/merge-patch+json", patch)
        }
        "apply" => {
            let applied = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("bench-{index}"), "annotations": {"applied": index.to_string()}}});
            (Method::PATCH, format!("{item}?fieldManager=bench"), "application/apply-patch+yaml", applied)
        }
        "delete" => (Method::DELETE, format!("{item}?gracePeriodSeconds=0"), "", Value::Null),
        "list" => (Method::GET, PODS.to_owned(), "", Value::Null),
        _ => (Method::GET, item, "", Value::Null),
    };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.call(method, &path, kind, body).await.map(drop)
}

async fn many(client: &Client, operation: &str, count: usize) {
    let calls = futures::stream::iter(0..count).map(|index| one(client, operation, index));
    let failed = calls.buffer_unordered(CLIENTS).filter_map(async |result| result.err()).collect::<Vec<_>>().await;
    if let Some(error) = failed.first() {
        panic!("{} of {count} {operation}: {error}", failed.len());
    }
}

/// User and system seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("name").1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("number")).sum();
    ticks / 100.0
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let operation = arguments.first().map_or("create", String::as_str);
    let count: usize = arguments.get(1).map_or(5000, |count| count.parse().expect("a number"));
    let cluster = Cluster::start().await;
    let client = Arc::new(cluster.admin());
    if operation == "serve" {
        let kubeconfig = cluster.kubeconfig.display();
        println!("coracle bench api --kubeconfig {kubeconfig} --server-pid {}", std::process::id());
        return std::future::pending().await;
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}).to_string();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    client.call(Method::POST, accounts, "application/json", account.into_bytes()).await.expect("account");
    if !matches!(operation, "create" | "configmap") {
        many(&client, "create", count.min(5000)).await;
    }
    let before = cpu();
    many(&client, operation, count).await;
    let spent = cpu() - before;
    #[allow(clippy::cast_precision_loss)]
    let each = spent * 1e3 / count as f64;
    println!("{operation}: {each:.4} ms CPU each");
}
