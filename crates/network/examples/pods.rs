//! How long it takes to give a pod its network, and to take it back.
//!
//! `cargo run --release -p coracle-network --example pods -- 100` (as root; in a network namespace of its own)

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_cri::{PodNetwork, PodNetworkRequest, PortMapping, Protocol};
use coracle_host_net::Kernel;
use coracle_host_net::lab::Namespace;
use coracle_network::{Config, Network};

fn main() {
    let count: u16 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100);
    let pods: Vec<Namespace> = (0..count).map(|_| Namespace::new()).collect();
    let requests: Vec<PodNetworkRequest> = pods.iter().enumerate().map(|(i, pod)| request(i, pod)).collect();
    let host = Namespace::new();
    host.block_on(async move || {
        let kernel = Arc::new(Kernel::new().expect("netlink"));
        let config = Config { pod_cidrs: vec!["10.244.0.0/16".parse().expect("a CIDR")], ..Config::default() };
        let begun = Instant::now();
        let network = Network::start(config, kernel).await.expect("a network");
        println!("start: {:?}", begun.elapsed());
        let (mut setups, mut teardowns) = (Vec::new(), Vec::new());
        for request in &requests {
            let begun = Instant::now();
            network.setup(request).await.expect("set up");
            setups.push(begun.elapsed());
        }
        for request in &requests {
            let begun = Instant::now();
            network.teardown(request).await.expect("tear down");
            teardowns.push(begun.elapsed());
        }
        report("setup", setups);
        report("teardown", teardowns);
    });
}

/// Every tenth pod has a host port.
fn request(i: usize, pod: &Namespace) -> PodNetworkRequest {
    let host_port = 20_000 + u16::try_from(i).unwrap_or(0);
    let mapping = PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port, host_ip: String::new() };
    PodNetworkRequest {
        sandbox_id: format!("sandbox-{i}"),
        pod_name: format!("pod-{i}"),
        pod_namespace: "default".to_owned(),
        pod_uid: format!("uid-{i}"),
        netns_path: pod.path().display().to_string(),
        port_mappings: if i.is_multiple_of(10) { vec![mapping] } else { Vec::new() },
        ips: Vec::new(),
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    println!("{what}: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), times.last().copied().unwrap_or_default());
}
