//! Two clusters on one host, which only writes down what it was asked.

use std::sync::Arc;

use coracle_host_net::{HostNet, Recorder, RouteTo};
use coracle_network::{Config, Network, reset};
use expect_test::expect;
use tempfile::TempDir;

fn config(dir: &TempDir, name: &str, pod_cidr: &str) -> Config {
    Config {
        bridge: name.to_owned(),
        table: format!("coracle-{name}-network"),
        pod_cidrs: vec![pod_cidr.parse().expect("a CIDR")],
        service_cidrs: vec!["10.96.0.0/12".parse().expect("a CIDR")],
        state_dir: Some(dir.path().to_owned()),
        ..Config::default()
    }
}

#[tokio::test]
async fn the_last_cluster_restores_what_the_first_one_found() {
    let (host, dir) = (Arc::new(Recorder::new()), TempDir::new().expect("a folder"));
    let (a, b) = (config(&dir, "a", "10.1.0.0/24"), config(&dir, "b", "10.2.0.0/24"));
    let _a = Network::start(a.clone(), host.clone()).await.expect("a network");
    expect![[r#"
        bridge a mtu 1500 10.1.0.1/24
        sysctl net/ipv4/ip_forward = 1
        sysctl net/ipv4/conf/a/send_redirects = 0
        sysctl net/ipv4/conf/a/route_localnet = 1
        admit a
        route 10.96.0.0/12 dev a src 10.1.0.1
        21 changes to table ip coracle-a-network"#]]
    .assert_eq(&host.take().join("\n"));
    let _b = Network::start(b.clone(), host.clone()).await.expect("a network");
    assert_eq!(reset(&a, &*host).await, []);
    assert_eq!(host.sysctl("net/ipv4/ip_forward").await.expect("a sysctl").as_deref(), Some("1"));
    assert_eq!(reset(&b, &*host).await, []);
    assert_eq!(host.sysctl("net/ipv4/ip_forward").await.expect("a sysctl").as_deref(), Some("0"));
    assert!(std::fs::read_dir(dir.path()).expect("the folder").next().is_none());
}

#[tokio::test]
async fn networks_that_are_taken_are_refused() {
    let (host, dir) = (Arc::new(Recorder::new()), TempDir::new().expect("a folder"));
    let start = async |net: &str| {
        let net = net.parse().expect("a CIDR");
        host.set_routes(vec![RouteTo { net, device: "docker0".to_owned() }]);
        let started = Network::start(config(&dir, "a", "10.1.0.0/24"), host.clone()).await;
        started.map_or_else(|error| error.to_string(), |_| "started".to_owned())
    };
    let taken = |what, net| format!("the {what} cannot be used: {net} is routed to docker0 on this host");
    assert_eq!(start("10.1.0.0/24").await, taken("pod CIDR 10.1.0.0/24", "10.1.0.0/24"));
    assert_eq!(start("10.1.0.7/32").await, taken("pod CIDR 10.1.0.0/24", "10.1.0.7/32"));
    assert_eq!(start("10.100.0.0/16").await, taken("service CIDR 10.96.0.0/12", "10.100.0.0/16"));
    assert_eq!(start("10.0.0.0/8").await, "started", "the way of a wider network is another");
}
