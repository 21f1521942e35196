//! What many Services cost: the first table, and one endpoint more.
//!
//! `cargo run --release -p coracle-proxy --example services -- 5000 2` (as root; in a network namespace of its own)

use std::sync::Arc;
use std::time::Instant;

use coracle_api_types::k8s_openapi::api::core::v1::Service;
use coracle_api_types::k8s_openapi::api::discovery::v1::EndpointSlice;
use coracle_host_net::Kernel;
use coracle_host_net::lab::Namespace;
use coracle_proxy::{Config, Rules};
use serde_json::json;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|number| number.parse::<usize>().ok());
    let (services, endpoints) = (numbers.next().unwrap_or(5000), numbers.next().unwrap_or(2));
    Namespace::new().block_on(async move || measure(services, endpoints).await);
}

async fn measure(services: usize, endpoints: usize) {
    let config = Config {
        node_name: "node-1".to_owned(),
        pod_cidrs: vec!["10.244.0.0/16".parse().expect("a CIDR")],
        service_cidrs: vec!["10.96.0.0/12".parse().expect("a CIDR")],
        ..Config::default()
    };
    let mut rules = Rules::new(&config, Arc::new(Kernel::new().expect("netlink")));
    let mut slices = Vec::new();
    for i in 0..services {
        let slice = Arc::new(slice(i, endpoints));
        rules.set_service("default", &format!("service-{i}"), Some(Arc::new(service(i))));
        rules.set_slice(None, Some(&slice));
        slices.push(slice);
    }
    let begun = Instant::now();
    rules.sync().await.expect("sync");
    println!("first table of {services} Services with {endpoints} endpoints each: {:?}", begun.elapsed());
    let mut times = Vec::new();
    for (i, old) in slices.iter().enumerate().take(200) {
        let new = Arc::new(slice(i, endpoints + 1));
        rules.set_slice(Some(old), Some(&new));
        let begun = Instant::now();
        rules.sync().await.expect("sync");
        times.push(begun.elapsed());
    }
    times.sort();
    println!("one endpoint more: p50 {:?}, max {:?}", times[times.len() / 2], times[times.len() - 1]);
    let begun = Instant::now();
    for i in 0..services {
        rules.set_service("default", &format!("service-{i}"), None);
    }
    rules.sync().await.expect("sync");
    println!("all Services gone: {:?}", begun.elapsed());
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", memory.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
}

fn service(i: usize) -> Service {
    let ip = format!("10.{}.{}.{}", 96 + i / 65_536, i / 256 % 256, i % 256);
    serde_json::from_value(json!({
        "metadata": {"name": format!("service-{i}"), "namespace": "default"},
        "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}]},
    }))
    .expect("a Service")
}

fn slice(i: usize, endpoints: usize) -> EndpointSlice {
    let address =
        |j: usize| json!({"addresses": [format!("10.244.{}.{}", (i * 7 + j) / 256 % 256, (i * 7 + j) % 256)]});
    let endpoints: Vec<serde_json::Value> = (0..endpoints).map(address).collect();
    serde_json::from_value(json!({
        "metadata": {"name": format!("service-{i}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("service-{i}")}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    }))
    .expect("a slice")
}
