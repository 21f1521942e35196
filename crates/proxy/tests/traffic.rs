//! Real traffic through Services, between real network namespaces.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use coracle_api_types::k8s_openapi::api::core::v1::Service;
use coracle_api_types::k8s_openapi::api::discovery::v1::EndpointSlice;
use coracle_cri::{PodNetwork, PodNetworkRequest};
use coracle_host_net::Kernel;
use coracle_host_net::lab::Namespace;
use coracle_network::Network;
use coracle_proxy::{Config, Rules};
use serde_json::{Value, json};

const HOST: &str = "192.0.2.1";
const OUTSIDE: &str = "192.0.2.2";

/// A host with three pods, and somebody outside.
struct World {
    host: Namespace,
    outside: Namespace,
    pods: Vec<Namespace>,
}

impl World {
    fn new() -> World {
        let (host, outside) = (Namespace::new(), Namespace::new());
        let pods: Vec<Namespace> = (0..3).map(|_| Namespace::new()).collect();
        let requests: Vec<PodNetworkRequest> = pods.iter().enumerate().map(|(i, pod)| request(i, pod)).collect();
        let path = outside.path().to_owned();
        host.block_on(async move || {
            uplink(&path).await;
            let config = coracle_network::Config {
                pod_cidrs: cidrs(&["10.244.0.0/24", "fd00:10:244::/64"]),
                service_cidrs: cidrs(&["10.96.0.0/12", "fd00:10:96::/112"]),
                ..Default::default()
            };
            let kernel = Arc::new(Kernel::new().expect("netlink"));
            let network = Network::start(config, kernel).await.expect("a network");
            for request in &requests {
                network.setup(request).await.expect("set up");
            }
        });
        for (i, pod) in pods.iter().enumerate() {
            pod.serve_tcp(80, &format!("pod{i}"));
            pod.serve_udp(53, &format!("pod{i}"));
        }
        World { host, outside, pods }
    }

    /// What the proxy does when it starts with these objects.
    fn proxy(&self, objects: Vec<(Value, Vec<Value>)>) {
        self.proxy_then(objects, Vec::new());
    }

    /// And when some of them change.
    fn proxy_then(&self, objects: Vec<(Value, Vec<Value>)>, later: Vec<(Value, Vec<Value>)>) {
        self.host.block_on(async move || {
            let mut rules = Rules::new(&config(), Arc::new(Kernel::new().expect("netlink")));
            let first = set(&mut rules, objects, &[]);
            rules.sync().await.expect("sync");
            if !later.is_empty() {
                set(&mut rules, later, &first);
                rules.sync().await.expect("sync");
            }
        });
    }

    fn answers(&self, from: &Namespace, to: &str, calls: usize) -> BTreeSet<String> {
        (0..calls).map(|_| from.call_tcp(to)).collect()
    }
}

fn config() -> Config {
    Config {
        node_name: "node-1".to_owned(),
        pod_cidrs: cidrs(&["10.244.0.0/24", "fd00:10:244::/64"]),
        service_cidrs: cidrs(&["10.96.0.0/12", "fd00:10:96::/112"]),
        ..Config::default()
    }
}

fn cidrs(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().expect("a CIDR")).collect()
}

fn set(rules: &mut Rules, objects: Vec<(Value, Vec<Value>)>, old: &[EndpointSlice]) -> Vec<EndpointSlice> {
    for slice in old {
        rules.set_slice(Some(slice), None);
    }
    let mut slices = Vec::new();
    for (service, of_service) in objects {
        let service: Service = serde_json::from_value(service).expect("a Service");
        let name = service.metadata.name.clone().expect("a name");
        rules.set_service("default", &name, Some(Arc::new(service)));
        for slice in of_service {
            let slice: EndpointSlice = serde_json::from_value(slice).expect("a slice");
            rules.set_slice(None, Some(&Arc::new(slice.clone())));
            slices.push(slice);
        }
    }
    slices
}

fn service(name: &str, cluster_ip: &str, spec: Value) -> Value {
    let mut whole = json!({"clusterIP": cluster_ip, "ports": [{"name": "http", "port": 8000, "nodePort": 30080}]});
    for (key, value) in spec.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": whole})
}

fn slice(service: &str, port: Value, pods: &[usize]) -> Value {
    let endpoints: Vec<Value> =
        pods.iter().map(|pod| json!({"addresses": [format!("10.244.0.{}", pod + 2)], "nodeName": "node-1"})).collect();
    json!({"metadata": {"name": format!("{service}-1"), "namespace": "default",
        "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [port], "endpoints": endpoints})
}

fn http() -> Value {
    json!({"name": "http", "port": 80})
}

fn request(i: usize, pod: &Namespace) -> PodNetworkRequest {
    PodNetworkRequest {
        sandbox_id: format!("sandbox-{i}"),
        pod_name: format!("pod{i}"),
        pod_namespace: "default".to_owned(),
        pod_uid: format!("uid-{i}"),
        netns_path: pod.path().display().to_string(),
        port_mappings: Vec::new(),
        ips: Vec::new(),
    }
}

async fn uplink(outside: &Path) {
    use nlink::netlink::{Connection, Route};
    let host = Connection::<Route>::new().expect("netlink");
    let there = std::fs::File::open(outside).expect("a namespace");
    let veth = nlink::netlink::link::VethLink::new("uplink", "uplink").peer_netns_fd(&there);
    host.add_link(veth).await.expect("a veth");
    let far = Connection::<Route>::new_in(outside).expect("netlink");
    for (side, address) in [(&host, HOST), (&far, OUTSIDE)] {
        let address: Ipv4Addr = address.parse().expect("an address");
        side.set_link_up("lo").await.expect("lo up");
        side.add_address(nlink::Ipv4Address::new("uplink", address, 24)).await.expect("an address");
        side.set_link_up("uplink").await.expect("uplink up");
    }
    let to_external_ip = nlink::Ipv4Route::new(Ipv4Addr::new(203, 0, 113, 0), 24);
    far.add_route(to_external_ip.gateway(HOST.parse().expect("an address"))).await.expect("a route");
}

fn strings(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn a_cluster_ip_spreads_over_its_endpoints_from_everywhere() {
    let world = World::new();
    world.proxy(vec![(service("web", "10.96.0.1", json!({})), vec![slice("web", http(), &[0, 1])])]);
    let to = "10.96.0.1:8000";
    assert_eq!(world.answers(&world.pods[2], to, 40), strings(&["pod0 10.244.0.4", "pod1 10.244.0.4"]));
    assert_eq!(world.answers(&world.host, to, 40), strings(&["pod0 10.244.0.1", "pod1 10.244.0.1"]));
    let hairpin = world.answers(&world.pods[0], to, 40);
    assert_eq!(hairpin, strings(&["pod0 10.244.0.1", "pod1 10.244.0.2"]), "a pod reaches itself too");
    assert_eq!(world.pods[2].call_tcp("10.96.0.1:8001"), "ConnectionRefused", "a port the Service has not");
    assert_eq!(world.host.call_tcp("10.96.0.1:8001"), "ConnectionRefused");
}

#[test]
fn node_ports_answer_on_every_address_of_the_host() {
    let world = World::new();
    let spec = json!({"type": "NodePort"});
    world.proxy(vec![(service("web", "10.96.0.1", spec), vec![slice("web", http(), &[0])])]);
    assert_eq!(world.outside.call_tcp(&format!("{HOST}:30080")), "pod0 10.244.0.1");
    assert_eq!(world.host.call_tcp(&format!("{HOST}:30080")), "pod0 10.244.0.1");
    assert_eq!(world.host.call_tcp("127.0.0.1:30080"), "pod0 10.244.0.1");
    assert_eq!(world.pods[1].call_tcp(&format!("{HOST}:30080")), "pod0 10.244.0.1");
    assert_eq!(world.pods[1].call_tcp("10.244.0.1:30080"), "pod0 10.244.0.1");
    assert_eq!(world.pods[0].call_tcp(&format!("{HOST}:30080")), "pod0 10.244.0.1");
}

#[test]
fn the_local_policy_keeps_the_client_address() {
    let world = World::new();
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "externalIPs": ["203.0.113.9"]});
    world.proxy(vec![(service("web", "10.96.0.1", spec), vec![slice("web", http(), &[0])])]);
    assert_eq!(world.outside.call_tcp(&format!("{HOST}:30080")), format!("pod0 {OUTSIDE}"));
    assert_eq!(world.outside.call_tcp("203.0.113.9:8000"), format!("pod0 {OUTSIDE}"));
    assert_eq!(world.pods[1].call_tcp("203.0.113.9:8000"), "pod0 10.244.0.3");
}

#[test]
fn load_balancer_addresses_are_for_their_source_ranges() {
    let world = World::new();
    let with_ranges = |ranges: Value| {
        let spec = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges});
        let mut service = service("web", "10.96.0.1", spec);
        service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
        vec![(service, vec![slice("web", http(), &[0])])]
    };
    world.proxy(with_ranges(json!(["198.51.100.0/24"])));
    assert_eq!(world.outside.call_tcp("203.0.113.9:8000"), "TimedOut");
    world.proxy(with_ranges(json!([format!("{OUTSIDE}/32")])));
    assert_eq!(world.outside.call_tcp("203.0.113.9:8000"), "pod0 10.244.0.1");
}

#[test]
fn session_affinity_keeps_a_client_at_one_endpoint() {
    let world = World::new();
    let spec = json!({"sessionAffinity": "ClientIP"});
    let slices = vec![slice("web", http(), &[0, 1, 2])];
    world.proxy_then(
        vec![(service("web", "10.96.0.1", json!({})), slices.clone())],
        vec![(service("web", "10.96.0.1", spec), slices.clone())],
    );
    let sticky = world.answers(&world.host, "10.96.0.1:8000", 20);
    assert_eq!(sticky.len(), 1, "{sticky:?}");
    world.proxy(vec![(service("web", "10.96.0.1", json!({})), slices)]);
    assert_eq!(world.answers(&world.host, "10.96.0.1:8000", 60).len(), 3);
}

#[test]
fn without_endpoints_connections_are_refused() {
    let world = World::new();
    let spec = json!({"type": "NodePort"});
    world.proxy_then(
        vec![(service("web", "10.96.0.1", spec.clone()), vec![slice("web", http(), &[0])])],
        vec![(service("web", "10.96.0.1", spec), Vec::new())],
    );
    assert_eq!(world.pods[1].call_tcp("10.96.0.1:8000"), "ConnectionRefused");
    assert_eq!(world.host.call_tcp("10.96.0.1:8000"), "ConnectionRefused");
    assert_eq!(world.outside.call_tcp(&format!("{HOST}:30080")), "ConnectionRefused");
    assert_eq!(world.pods[1].call_udp("10.96.0.1:8000", 0), "ConnectionRefused");
}

#[test]
fn udp_moves_when_its_endpoint_is_gone() {
    let world = World::new();
    let udp = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
    let dns = || service("dns", "10.96.0.10", json!({"ports": udp}));
    let port = json!({"name": "dns", "port": 53, "protocol": "UDP"});
    world.proxy(vec![(dns(), vec![slice("dns", port.clone(), &[0])])]);
    assert_eq!(world.pods[2].call_udp("10.96.0.10:53", 5353), "pod0 10.244.0.4");
    world.proxy_then(
        vec![(dns(), vec![slice("dns", port.clone(), &[0])])],
        vec![(dns(), vec![slice("dns", port, &[1])])],
    );
    assert_eq!(world.pods[2].call_udp("10.96.0.10:53", 5353), "pod1 10.244.0.4", "from the same port");
}

#[test]
fn services_of_both_families() {
    let world = World::new();
    let spec = json!({"type": "NodePort", "clusterIPs": ["10.96.0.1", "fd00:10:96::1"]});
    let mut v6 = slice("web", http(), &[]);
    v6["metadata"]["name"] = json!("web-v6");
    v6["addressType"] = json!("IPv6");
    v6["endpoints"] = json!([{"addresses": ["fd00:10:244::2"]}]);
    world.proxy(vec![(service("web", "10.96.0.1", spec), vec![slice("web", http(), &[0]), v6])]);
    assert_eq!(world.pods[1].call_tcp("10.96.0.1:8000"), "pod0 10.244.0.3");
    assert_eq!(world.pods[1].call_tcp("[fd00:10:96::1]:8000"), "pod0 fd00:10:244::3");
    assert_eq!(world.host.call_tcp("[fd00:10:96::1]:8000"), "pod0 fd00:10:244::1");
    assert_eq!(world.pods[0].call_tcp("[fd00:10:96::1]:8000"), "pod0 fd00:10:244::1", "itself");
    assert_eq!(world.pods[1].call_tcp("[fd00:10:244::1]:30080"), "pod0 fd00:10:244::1", "the node port");
    assert_eq!(world.pods[1].call_tcp("[fd00:10:96::1]:8001"), "ConnectionRefused");
}
