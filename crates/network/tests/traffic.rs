//! Real traffic between real network namespaces.

use std::net::Ipv4Addr;
use std::sync::Arc;

use coracle_cri::{PodNetwork, PodNetworkRequest, PortMapping, Protocol};
use coracle_host_net::lab::Namespace;
use coracle_host_net::{HostNet, Kernel};
use coracle_network::{Config, Network, reset};
use tempfile::TempDir;

/// A host with an uplink to an outside world, in two namespaces.
struct World {
    host: Arc<Namespace>,
    outside: Namespace,
    dir: TempDir,
}

const HOST: &str = "192.0.2.1";
const OUTSIDE: &str = "192.0.2.2";

impl World {
    fn new() -> World {
        let (host, outside) = (Arc::new(Namespace::new()), Namespace::new());
        let path = outside.path().to_owned();
        // A new namespace begins with what the machine has.
        host.run(|| {
            for (key, value) in [("ip_forward", "0"), ("conf/all/send_redirects", "1")] {
                std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).expect("a sysctl");
            }
        });
        host.block_on(async move || uplink(&path).await);
        World { host, outside, dir: TempDir::new().expect("a folder") }
    }

    fn config(&self) -> Config {
        Config {
            pod_cidrs: vec!["10.244.0.0/24".parse().expect("a CIDR")],
            service_cidrs: vec!["10.96.0.0/12".parse().expect("a CIDR")],
            state_dir: Some(self.dir.path().to_owned()),
            ..Config::default()
        }
    }

    /// Starts a network as a new process would, and asks it something.
    fn network<T: Send + 'static>(&self, job: impl AsyncFnOnce(Arc<Network>) -> T + Send + 'static) -> T {
        let config = self.config();
        self.host.block_on(async move || {
            let host = Arc::new(Kernel::new().expect("netlink"));
            job(Network::start(config, host).await.expect("a network")).await
        })
    }
}

/// A bridge stands for the host's Ethernet interface.
async fn uplink(outside: &std::path::Path) {
    use nlink::netlink::{Connection, Route};
    let host = Connection::<Route>::new().expect("netlink");
    let veth = nlink::netlink::link::VethLink::new("uplink", "uplink").mtu(1400);
    let there = std::fs::File::open(outside).expect("a namespace");
    host.add_link(veth.peer_netns_fd(&there)).await.expect("a veth");
    let far = Connection::<Route>::new_in(outside).expect("netlink");
    for (side, address) in [(&host, HOST), (&far, OUTSIDE)] {
        let address: Ipv4Addr = address.parse().expect("an address");
        side.set_link_up("lo").await.expect("lo up");
        side.add_address(nlink::Ipv4Address::new("uplink", address, 24)).await.expect("an address");
        side.set_link_up("uplink").await.expect("uplink up");
    }
    let default = nlink::Ipv4Route::new(Ipv4Addr::UNSPECIFIED, 0).gateway(OUTSIDE.parse().expect("an address"));
    host.add_route(default).await.expect("a default route");
}

fn request(name: &str, netns: &Namespace, port_mappings: Vec<PortMapping>) -> PodNetworkRequest {
    PodNetworkRequest {
        sandbox_id: format!("{name}-sandbox"),
        pod_name: name.to_owned(),
        pod_namespace: "default".to_owned(),
        pod_uid: format!("{name}-uid"),
        netns_path: netns.path().display().to_string(),
        port_mappings,
        ips: Vec::new(),
    }
}

fn mapping(protocol: Protocol, host_ip: &str, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { protocol, container_port, host_port, host_ip: host_ip.to_owned() }
}

#[test]
fn pods_reach_each_other_the_host_and_the_outside() {
    let world = World::new();
    let (a, b) = (Namespace::new(), Namespace::new());
    let requests = [request("a", &a, Vec::new()), request("b", &b, Vec::new())];
    let ips = world.network(async move |network| {
        let mut ips = Vec::new();
        for request in &requests {
            ips.push(network.setup(request).await.expect("set up").ips);
            let again = network.setup(request).await.expect("set up again");
            assert_eq!(Some(&again.ips), ips.last());
        }
        ips
    });
    assert_eq!(ips, [["10.244.0.2"], ["10.244.0.3"]]);
    b.serve_tcp(80, "b");
    world.host.serve_tcp(81, "host");
    world.outside.serve_tcp(82, "outside");
    assert_eq!(a.call_tcp("10.244.0.3:80"), "b 10.244.0.2");
    assert_eq!(a.call_tcp("127.0.0.1:80"), "ConnectionRefused");
    assert_eq!(world.host.call_tcp("10.244.0.3:80"), "b 10.244.0.1");
    assert_eq!(a.call_tcp("10.244.0.1:81"), "host 10.244.0.2");
    assert_eq!(a.call_tcp(&format!("{HOST}:81")), "host 10.244.0.2");
    assert_eq!(a.call_tcp(&format!("{OUTSIDE}:82")), format!("outside {HOST}"));
}

#[test]
fn host_ports_lead_to_the_pod_from_everywhere() {
    let world = World::new();
    let (a, b) = (Namespace::new(), Namespace::new());
    let ports = vec![
        mapping(Protocol::Tcp, "", 8080, 80),
        mapping(Protocol::Udp, "0.0.0.0", 8080, 80),
        mapping(Protocol::Tcp, HOST, 8081, 80),
        mapping(Protocol::Tcp, "127.0.0.1", 8082, 80),
    ];
    let with_ports = request("a", &a, ports);
    let (setup, plain) = (with_ports.clone(), request("b", &b, Vec::new()));
    world.network(async move |network| {
        network.reconcile(&[]).await.expect("reconcile");
        network.setup(&setup).await.expect("set up");
        network.setup(&plain).await.expect("set up");
    });
    a.serve_tcp(80, "a");
    a.serve_udp(80, "a");
    let host = |port: u16| format!("{HOST}:{port}");
    assert_eq!(world.outside.call_tcp(&host(8080)), format!("a {OUTSIDE}"));
    assert_eq!(world.outside.call_udp(&host(8080), 0), format!("a {OUTSIDE}"));
    assert_eq!(world.host.call_tcp("127.0.0.1:8080"), "a 10.244.0.1");
    assert_eq!(world.host.call_tcp(&host(8080)), format!("a {HOST}"));
    assert_eq!(b.call_tcp(&host(8080)), "a 10.244.0.3");
    assert_eq!(a.call_tcp(&host(8080)), "a 10.244.0.1", "a pod calls its own host port");
    assert_eq!(world.outside.call_tcp(&host(8081)), format!("a {OUTSIDE}"));
    assert_eq!(world.host.call_tcp("127.0.0.1:8081"), "ConnectionRefused");
    assert_eq!(world.host.call_tcp("127.0.0.1:8082"), "a 10.244.0.1");
    assert_eq!(world.outside.call_tcp(&host(8082)), "ConnectionRefused");

    // A new process finds the pod alive, and takes it down.
    let live = PodNetworkRequest { ips: vec!["10.244.0.2".to_owned()], ..with_ports };
    let adopted = live.clone();
    world.network(async move |network| network.reconcile(&[adopted]).await.expect("reconcile"));
    assert_eq!(world.outside.call_tcp(&host(8080)), format!("a {OUTSIDE}"));
    assert_ne!(b.call_tcp("10.244.0.2:80"), "a 10.244.0.3", "a sandbox nobody knows is cut off");
    world.network(async move |network| {
        network.reconcile(std::slice::from_ref(&live)).await.expect("reconcile");
        network.teardown(&live).await.expect("tear down");
        network.teardown(&live).await.expect("tear down again");
    });
    assert_eq!(world.outside.call_tcp(&host(8080)), "ConnectionRefused");
}

#[test]
fn a_udp_host_port_moves_with_its_pod() {
    let world = World::new();
    let (a, b) = (Namespace::new(), Namespace::new());
    let ports = || vec![mapping(Protocol::Udp, "", 8080, 80)];
    let (first, second) = (request("a", &a, ports()), request("b", &b, ports()));
    let to = format!("{HOST}:8080");
    let gone = first.clone();
    world.network(async move |network| {
        network.reconcile(&[]).await.expect("reconcile");
        network.setup(&first).await.expect("set up");
    });
    a.serve_udp(80, "a");
    b.serve_udp(80, "b");
    assert_eq!(world.outside.call_udp(&to, 5353), format!("a {OUTSIDE}"));
    let live = PodNetworkRequest { ips: vec!["10.244.0.2".to_owned()], ..gone };
    world.network(async move |network| {
        network.reconcile(std::slice::from_ref(&live)).await.expect("reconcile");
        network.teardown(&live).await.expect("tear down");
        network.setup(&second).await.expect("set up");
    });
    assert_eq!(world.outside.call_udp(&to, 5353), format!("b {OUTSIDE}"), "from the same port");
}

#[test]
fn pods_do_not_reach_the_loopback_of_the_host() {
    let world = World::new();
    let a = Namespace::new();
    let request = request("a", &a, Vec::new());
    world.network(async move |network| {
        network.setup(&request).await.expect("set up");
    });
    world.host.run(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:99").expect("the port is free");
        std::thread::spawn(move || listener.incoming().for_each(drop));
    });
    let path = a.path().to_owned();
    a.block_on(async move || {
        // As a pod that may administer its network would: without an address of its own for 127.0.0.0/8.
        use nlink::netlink::{Connection, Route};
        let route = Connection::<Route>::new_in(path.as_path()).expect("netlink");
        route.del_address_v4("lo", Ipv4Addr::LOCALHOST, 8).await.expect("no address on lo");
        let through_host = nlink::Ipv4Route::new(Ipv4Addr::new(127, 0, 0, 1), 32).gateway(Ipv4Addr::new(10, 244, 0, 1));
        route.replace_route(through_host).await.expect("a route");
    });
    a.run(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").expect("a sysctl"));
    assert_eq!(a.call_tcp("127.0.0.1:99"), "TimedOut");
}

#[test]
fn pods_have_both_families_when_the_node_has() {
    let world = World::new();
    let (a, b) = (Namespace::new(), Namespace::new());
    let ports = vec![mapping(Protocol::Tcp, "", 8080, 80)];
    let requests = [request("a", &a, ports), request("b", &b, Vec::new())];
    let mut config = world.config();
    config.pod_cidrs.push("fd00:10:244::/64".parse().expect("a CIDR"));
    config.service_cidrs.push("fd00:10:96::/112".parse().expect("a CIDR"));
    let ips = world.host.block_on(async move || {
        let network = Network::start(config, Arc::new(Kernel::new().expect("netlink"))).await.expect("a network");
        let mut ips = Vec::new();
        for request in &requests {
            ips.push(network.setup(request).await.expect("set up").ips);
            assert_eq!(Some(&network.setup(request).await.expect("set up again").ips), ips.last());
        }
        ips
    });
    assert_eq!(ips, [["10.244.0.2", "fd00:10:244::2"], ["10.244.0.3", "fd00:10:244::3"]]);
    a.serve_tcp(80, "a");
    assert_eq!(b.call_tcp("10.244.0.2:80"), "a 10.244.0.3");
    assert_eq!(b.call_tcp("[fd00:10:244::2]:80"), "a fd00:10:244::3");
    assert_eq!(b.call_tcp("[fd00:10:244::1]:8080"), "a fd00:10:244::3", "a host port");
    assert_eq!(a.call_tcp("[fd00:10:244::1]:8080"), "a fd00:10:244::1", "its own");
    assert_eq!(world.host.call_tcp("[fd00:10:244::2]:80"), "a fd00:10:244::1");
}

/// As Docker and ufw leave a host.
const FIREWALL: &str = "
    table ip filter {
        chain INPUT { type filter hook input priority 0; policy drop; ct state established accept; }
        chain FORWARD { type filter hook forward priority 0; policy drop; ct state established accept; }
    }";

fn nft(host: &Namespace, arguments: &'static [&'static str]) -> String {
    host.run(move || {
        let output = std::process::Command::new("nft").args(arguments).output().expect("nft");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

#[test]
fn a_firewall_that_drops_by_default_lets_pods_pass() {
    let world = World::new();
    nft(&world.host, &[FIREWALL]);
    let before = nft(&world.host, &["list", "table", "ip", "filter"]);
    let (a, b) = (Namespace::new(), Namespace::new());
    let ports = vec![mapping(Protocol::Tcp, "", 8080, 80)];
    let requests = [request("a", &a, ports), request("b", &b, Vec::new())];
    world.network(async move |network| {
        for request in &requests {
            network.setup(request).await.expect("set up");
        }
    });
    a.serve_tcp(80, "a");
    world.host.serve_tcp(81, "host");
    world.outside.serve_tcp(82, "outside");
    assert_eq!(b.call_tcp("10.244.0.2:80"), "a 10.244.0.3");
    assert_eq!(b.call_tcp("10.244.0.1:81"), "host 10.244.0.3");
    assert_eq!(b.call_tcp(&format!("{OUTSIDE}:82")), format!("outside {HOST}"));
    assert_eq!(world.outside.call_tcp(&format!("{HOST}:8080")), format!("a {OUTSIDE}"));
    let config = world.config();
    world.host.block_on(async move || {
        let host = Kernel::new().expect("netlink");
        assert_eq!(host.admit(&config.bridge).await.expect("rules"), 0, "none is missing");
        assert_eq!(reset(&config, &host).await, []);
    });
    assert_eq!(nft(&world.host, &["list", "table", "ip", "filter"]), before);
}

#[test]
fn rules_that_others_remove_come_back() {
    let world = World::new();
    let a = Namespace::new();
    let request = request("a", &a, vec![mapping(Protocol::Tcp, "", 8080, 80)]);
    world.network(async move |network| {
        network.setup(&request).await.expect("set up");
        let list = async || {
            let list = tokio::process::Command::new("nft").args(["list", "ruleset"]).output().await.expect("nft");
            String::from_utf8_lossy(&list.stdout).into_owned()
        };
        for damage in [&["flush", "ruleset"][..], &["flush", "chain", "ip", "coracle-network", "host-ports"]] {
            assert!(list().await.contains("map @host-ports-any-ip"));
            let status = tokio::process::Command::new("nft").args(damage).status().await.expect("nft");
            assert!(status.success(), "{damage:?}");
            // Much sooner than by looking from time to time.
            let back = async {
                while !list().await.contains("map @host-ports-any-ip") {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(10), back).await.expect("the rules are back");
        }
    });
}

#[test]
fn reset_leaves_nothing() {
    let world = World::new();
    let a = Namespace::new();
    let request = request("a", &a, vec![mapping(Protocol::Tcp, "", 8080, 80)]);
    world.network(async move |network| {
        network.setup(&request).await.expect("set up");
    });
    let config = world.config();
    let journal = world.dir.path().join("network.json");
    assert!(journal.exists());
    let before_and_after = world.host.block_on(async move || {
        let host = Kernel::new().expect("netlink");
        let forwards = host.sysctl("net/ipv4/ip_forward").await.expect("a sysctl");
        assert_eq!(reset(&config, &host).await, []);
        assert_eq!(reset(&config, &host).await, [], "and again");
        assert!(!host.has_table(coracle_nft::Family::Ip, &config.table).await.expect("tables"));
        assert_eq!(host.bridge_ports(&config.bridge).await.expect("ports"), []);
        (forwards, host.sysctl("net/ipv4/ip_forward").await.expect("a sysctl"))
    });
    assert_eq!(before_and_after, (Some("1".to_owned()), Some("0".to_owned())));
    assert!(!journal.exists());
    let links = world.host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").expect("links"));
    assert!(!links.contains("cor"), "{links}");
}
