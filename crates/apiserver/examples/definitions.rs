//! What custom resource definitions cost in memory: `definitions 500` makes so many, each with a schema of some 20 KB, and
//! prints resident memory before and after, and after the discovery and OpenAPI documents were read.

#[path = "../tests/common/mod.rs"]
mod common;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::time::Duration;

use coracle_client::Client;
use http::Method;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Makes a schema of about 20 KB.
const FIELDS: usize = 60;
const SETTLE: Duration = Duration::from_secs(3);

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn schema(number: usize) -> Value {
    let field = |index: usize| {
        let text = format!(
            "Field {index} of kind {number} says how the controller should treat the part of the resource that it is named after."
        );
        let inner = json!({"type": "object", "description": text, "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 63, "description": "Name of the part."},
            "weight": {"type": "integer", "minimum": 0, "maximum": 100, "default": 1},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}}}});
        (format!("part{index}"), inner)
    };
    let properties: serde_json::Map<String, Value> = (0..FIELDS).map(field).collect();
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

async fn make(client: &Client, number: usize) -> usize {
    let plural = format!("things{number}");
    let schema = schema(number);
    let size = schema.to_string().len();
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": plural, "kind": format!("Thing{number}")}, "versions": [{"name": "v1", "served": true, "storage": true,
        "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}]}});
    client
        .call(Method::POST, CRDS, "application/json", definition.to_string().into_bytes())
        .await
        .expect("a definition");
    size
}

async fn read(client: &Client, paths: &[&str]) {
    for path in paths {
        let request = http::Request::get(*path).header("accept-encoding", "gzip").body(bytes::Bytes::new());
        client.send(request.expect("request")).await.expect("a document");
    }
}

#[tokio::main]
async fn main() {
    let count: usize = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(500);
    let cluster = common::Cluster::start().await;
    let admin = cluster.admin();
    // What the documents of built-in kinds take is not the definitions' doing.
    read(&admin, &["/openapi/v3", "/openapi/v2"]).await;
    tokio::time::sleep(SETTLE).await;
    let before = resident_kib();
    let started = std::time::Instant::now();
    let mut bytes = 0;
    for number in 0..count {
        bytes += make(&admin, number).await;
    }
    let took = started.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = resident_kib();
    println!("{count} definitions of {} bytes of schema in {took:.1?}", bytes / count.max(1));
    println!(
        "resident: {before} KiB before, {after} KiB after: {:.1} KiB each",
        after.saturating_sub(before) as f64 / count as f64
    );
    read(&admin, &["/apis/example.com/v1", "/openapi/v3", "/openapi/v3/apis/example.com/v1", "/openapi/v2"]).await;
    tokio::time::sleep(SETTLE).await;
    println!(
        "after the documents were read: {:.1} KiB each",
        resident_kib().saturating_sub(before) as f64 / count as f64
    );
    cluster.server.stop();
    cluster.store.close().await;
}
