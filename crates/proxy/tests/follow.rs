//! The proxy follows the API: what it does to the host, and what it answers on health check ports.

mod fake;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use coracle_host_net::{Recorder, UdpFlow};
use coracle_nft::{Change, Family};
use coracle_proxy::{Config, run_on};
use fake::FakeApi;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const LIMIT: Duration = Duration::from_secs(10);

fn config() -> Config {
    Config {
        node_name: "node-1".to_owned(),
        service_cidrs: vec!["10.96.0.0/12".parse().expect("a CIDR")],
        ..Config::default()
    }
}

fn service(spec: Value) -> Value {
    let mut whole = json!({"clusterIP": "10.96.0.1", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]});
    for (key, value) in spec.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "default"}, "spec": whole})
}

fn slice(addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({"addresses": [address], "nodeName": "node-1"})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "dns-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "dns"}},
        "addressType": "IPv4", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}], "endpoints": endpoints})
}

/// Waits for a transaction that `wanted` knows.
async fn transaction(host: &Recorder, wanted: impl Fn(&[Change]) -> bool) -> Vec<Change> {
    let look = async {
        loop {
            for (_, changes) in host.take_changes() {
                if wanted(&changes) {
                    return changes;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("the transaction")
}

fn adds_rule_to(changes: &[Change], address: &str) -> bool {
    changes.iter().any(|change| matches!(change, Change::AddRule { chain, .. } if chain.contains(address)))
}

#[tokio::test]
async fn changes_become_transactions() {
    let (api, host, stop) = (FakeApi::default(), Arc::new(Recorder::new()), CancellationToken::new());
    api.put(SERVICES, service(json!({})));
    api.put(SLICES, slice(&["10.244.0.5"]));
    let flow = |to: &str| UdpFlow {
        source: "10.244.0.9:5353".parse().expect("a socket"),
        destination: "10.96.0.1:53".parse().expect("a socket"),
        translated: to.parse().expect("a socket"),
    };
    host.set_udp_flows(vec![flow("10.244.0.5:53"), flow("10.244.0.4:53")]);
    let running = tokio::spawn(run_on(config(), api.client(), host.clone(), stop.clone()));
    let first = transaction(&host, |_| true).await;
    assert_eq!(first.first(), Some(&Change::ReplaceTable));
    assert!(adds_rule_to(&first, "10.244.0.5"), "the first table is whole: {first:#?}");

    host.meddle(Family::Ip, &config().table);
    let again = transaction(&host, |_| true).await;
    assert_eq!(again.first(), Some(&Change::ReplaceTable), "somebody removed rules");

    api.put(SLICES, slice(&["10.244.0.5", "10.244.0.6"]));
    let more = transaction(&host, |changes| !changes.is_empty()).await;
    assert!(more.len() < 10 && adds_rule_to(&more, "10.244.0.6") && !adds_rule_to(&more, "10.244.0.5__"));

    api.delete(SLICES, "default", "dns-1");
    let gone = transaction(&host, |changes| !changes.is_empty()).await;
    assert!(gone.iter().any(|change| matches!(change, Change::DeleteChain(name) if name.contains("10.244.0.5"))));
    api.delete(SERVICES, "default", "dns");
    transaction(&host, |changes| changes.iter().any(|c| matches!(c, Change::DeleteElements { .. }))).await;
    let lines = host.take();
    assert!(lines.contains(&"forgot 1 UDP flows".to_owned()), "{lines:?}");
    stop.cancel();
    running.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn load_balancers_are_told_about_local_endpoints() {
    let (api, host, stop) = (FakeApi::default(), Arc::new(Recorder::new()), CancellationToken::new());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port});
    api.put(SERVICES, service(spec));
    api.put(SLICES, slice(&["10.244.0.5", "10.244.0.6"]));
    let running = tokio::spawn(run_on(config(), api.client(), host.clone(), stop.clone()));
    let healthy = answer(port, "200 OK").await;
    assert!(healthy.contains("X-Load-Balancing-Endpoint-Weight: 2\r\n"), "{healthy}");
    assert!(healthy.contains("\"localEndpoints\": 2"), "{healthy}");
    api.put(SLICES, slice(&[]));
    answer(port, "503 Service Unavailable").await;
    stop.cancel();
    running.await.expect("no panic").expect("no error");
}

/// Asks until the answer has the status.
async fn answer(port: u16, status: &str) -> String {
    let ask = move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let look = async {
        loop {
            let text = tokio::task::spawn_blocking(ask).await.expect("no panic").unwrap_or_default();
            if text.starts_with(&format!("HTTP/1.1 {status}\r\n")) {
                return text;
            }
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("the answer")
}
