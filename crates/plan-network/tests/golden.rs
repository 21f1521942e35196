//! Services and slices in, tables out.

use coracle_nft::{Change, Family, Parts, Table};
use coracle_plan_network::{Node, Planner, ServiceName, Settings};
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

fn planner() -> Planner {
    Planner::new(Settings {
        family: Family::Ip,
        node: Node {
            name: "node-1".to_owned(),
            zone: Some("zone-a".to_owned()),
            pod_cidrs: vec!["10.244.0.0/24".parse().expect("a CIDR")],
        },
        service_cidrs: vec!["10.96.0.0/12".parse().expect("a CIDR")],
    })
}

fn service(spec: Value) -> Service {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    serde_json::from_value(object).expect("a Service")
}

/// One endpoint: address, node, whether it is ready.
fn slice(endpoints: &[(&str, &str, bool)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node, ready)| {
            json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready, "serving": ready}})
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "default"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .expect("an EndpointSlice")
}

fn name() -> ServiceName {
    ServiceName::new("default", "web")
}

/// The table without what is always there.
fn shares(planner: &Planner) -> String {
    let base = Planner::new(planner.settings().clone()).whole();
    let mut parts = planner.whole();
    parts.chains.retain(|name, _| !base.chains.contains_key(name));
    parts.sets.retain(|name, _| !base.sets.contains_key(name) || parts.elements.keys().any(|(set, _)| set == name));
    Table { family: Family::Ip, name: "t".to_owned(), parts }.to_string()
}

fn check(spec: Value, slices: &[EndpointSlice], expect: Expect) {
    let mut planner = planner();
    let slices: Vec<&EndpointSlice> = slices.iter().collect();
    let changes = planner.set(&name(), Some(&service(spec.clone())), &slices);
    expect.assert_eq(&shares(&planner));
    assert!(!changes.is_empty() || planner.services().count() == 0);
    assert_eq!(planner.set(&name(), Some(&service(spec)), &slices), [], "nothing new changes nothing");
    planner.set(&name(), None, &[]);
    assert_eq!(planner.whole(), planner_base(), "a Service that is gone leaves nothing");
}

fn planner_base() -> Parts {
    planner().whole()
}

fn ports() -> Value {
    json!([{"name": "http", "port": 80, "protocol": "TCP"}])
}

fn two() -> Vec<EndpointSlice> {
    vec![slice(&[("10.244.0.5", "node-1", true), ("10.244.1.5", "node-2", true)])]
}

#[test]
fn the_table_without_services() {
    let table = Table { family: Family::Ip, name: "coracle-proxy".to_owned(), parts: planner_base() };
    expect![[r#"
        table ip coracle-proxy {
        	set cluster-ips {
        		type ipv4_addr;
        	}
        	map firewall-ips {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        	}
        	map no-endpoint-nodeports {
        		type inet_proto . inet_service : verdict;
        	}
        	map no-endpoint-services {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        	}
        	map service-ips {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        	}
        	map service-nodeports {
        		type inet_proto . inet_service : verdict;
        	}
        	chain cluster-ips-check {
        		ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
        		ip daddr 10.96.0.0/12 drop comment "Drop traffic to unallocated ClusterIPs"
        	}
        	chain filter-forward {
        		type filter hook forward priority 0;
        		ct state new jump service-endpoints-check
        		ct state new jump cluster-ips-check
        	}
        	chain filter-input {
        		type filter hook input priority 0;
        		ct state new jump nodeport-endpoints-check
        		ct state new jump service-endpoints-check
        	}
        	chain filter-output {
        		type filter hook output priority 0;
        		ct state new jump service-endpoints-check
        		ct state new jump cluster-ips-check
        	}
        	chain filter-output-pre-dnat {
        		type filter hook output priority -110;
        		ct state new jump firewall-check
        	}
        	chain filter-prerouting-pre-dnat {
        		type filter hook prerouting priority -110;
        		ct state new jump firewall-check
        	}
        	chain firewall-check {
        		ip daddr . meta l4proto . th dport vmap @firewall-ips
        	}
        	chain mark-for-masquerade {
        		meta mark set meta mark or 0x4000
        	}
        	chain nat-output {
        		type nat hook output priority -100;
        		jump services
        	}
        	chain nat-postrouting {
        		type nat hook postrouting priority 100;
        		meta mark & 0x4000 == 0x0 return
        		meta mark set meta mark xor 0x4000
        		masquerade fully-random
        	}
        	chain nat-prerouting {
        		type nat hook prerouting priority -100;
        		jump services
        	}
        	chain nodeport-endpoints-check {
        		fib daddr type local meta l4proto . th dport vmap @no-endpoint-nodeports
        	}
        	chain reject-chain {
        		reject
        	}
        	chain service-endpoints-check {
        		ip daddr . meta l4proto . th dport vmap @no-endpoint-services
        	}
        	chain services {
        		ip daddr . meta l4proto . th dport vmap @service-ips
        		fib daddr type local meta l4proto . th dport vmap @service-nodeports
        	}
        }
    "#]]
    .assert_eq(&table.to_string());
}

#[test]
fn a_cluster_ip_with_two_endpoints() {
    check(
        json!({"clusterIP": "10.96.0.10", "ports": ports()}),
        &two(),
        expect![[r#"
        table ip t {
        	set cluster-ips {
        		type ipv4_addr;
        		elements = {
        			10.96.0.10
        		};
        	}
        	map service-ips {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        		elements = {
        			10.96.0.10 . tcp . 80 : goto service-M0HGKM0Q941TF-default/web/tcp/http
        		};
        	}
        	chain endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080 {
        		ip saddr 10.244.0.5/32 jump mark-for-masquerade
        		meta l4proto tcp dnat to 10.244.0.5:8080
        	}
        	chain endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 {
        		ip saddr 10.244.1.5/32 jump mark-for-masquerade
        		meta l4proto tcp dnat to 10.244.1.5:8080
        	}
        	chain service-M0HGKM0Q941TF-default/web/tcp/http {
        		ip daddr 10.96.0.10/32 ip saddr != 10.244.0.0/24 jump mark-for-masquerade
        		numgen random mod 2 vmap { 0 : goto endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080, 1 : goto endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 }
        	}
        }
    "#]],
    );
}

#[test]
fn session_affinity_remembers_clients() {
    let spec = json!({"clusterIP": "10.96.0.10", "ports": ports(), "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    check(
        spec,
        &two(),
        expect![[r#"
            table ip t {
            	set affinity-8997B1ZTZBZC9-default/web/tcp/http__10.244.1.5/8080/60s {
            		type ipv4_addr;
            		size 65535;
            		flags dynamic,timeout;
            		timeout 60s;
            	}
            	set affinity-994AB6E3TC0B9-default/web/tcp/http__10.244.0.5/8080/60s {
            		type ipv4_addr;
            		size 65535;
            		flags dynamic,timeout;
            		timeout 60s;
            	}
            	set cluster-ips {
            		type ipv4_addr;
            		elements = {
            			10.96.0.10
            		};
            	}
            	map service-ips {
            		type ipv4_addr . inet_proto . inet_service : verdict;
            		elements = {
            			10.96.0.10 . tcp . 80 : goto service-M0HGKM0Q941TF-default/web/tcp/http
            		};
            	}
            	chain endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080 {
            		ip saddr 10.244.0.5/32 jump mark-for-masquerade
            		update @affinity-994AB6E3TC0B9-default/web/tcp/http__10.244.0.5/8080/60s { ip saddr }
            		meta l4proto tcp dnat to 10.244.0.5:8080
            	}
            	chain endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 {
            		ip saddr 10.244.1.5/32 jump mark-for-masquerade
            		update @affinity-8997B1ZTZBZC9-default/web/tcp/http__10.244.1.5/8080/60s { ip saddr }
            		meta l4proto tcp dnat to 10.244.1.5:8080
            	}
            	chain service-M0HGKM0Q941TF-default/web/tcp/http {
            		ip daddr 10.96.0.10/32 ip saddr != 10.244.0.0/24 jump mark-for-masquerade
            		ip saddr @affinity-994AB6E3TC0B9-default/web/tcp/http__10.244.0.5/8080/60s goto endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080
            		ip saddr @affinity-8997B1ZTZBZC9-default/web/tcp/http__10.244.1.5/8080/60s goto endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080
            		numgen random mod 2 vmap { 0 : goto endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080, 1 : goto endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 }
            	}
            }
        "#]],
    );
}

#[test]
fn a_node_port_masquerades() {
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.10",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    check(
        spec,
        &[slice(&[("10.244.0.5", "node-1", true)])],
        expect![[r#"
        table ip t {
        	set cluster-ips {
        		type ipv4_addr;
        		elements = {
        			10.96.0.10
        		};
        	}
        	map service-ips {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        		elements = {
        			10.96.0.10 . tcp . 80 : goto service-M0HGKM0Q941TF-default/web/tcp/http
        		};
        	}
        	map service-nodeports {
        		type inet_proto . inet_service : verdict;
        		elements = {
        			tcp . 30080 : goto external-M0HGKM0Q941TF-default/web/tcp/http
        		};
        	}
        	chain endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080 {
        		ip saddr 10.244.0.5/32 jump mark-for-masquerade
        		meta l4proto tcp dnat to 10.244.0.5:8080
        	}
        	chain external-M0HGKM0Q941TF-default/web/tcp/http {
        		jump mark-for-masquerade
        		goto service-M0HGKM0Q941TF-default/web/tcp/http
        	}
        	chain service-M0HGKM0Q941TF-default/web/tcp/http {
        		ip daddr 10.96.0.10/32 ip saddr != 10.244.0.0/24 jump mark-for-masquerade
        		numgen random mod 1 vmap { 0 : goto endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080 }
        	}
        }
    "#]],
    );
}

#[test]
fn a_local_load_balancer_with_source_ranges() {
    let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.10", "externalTrafficPolicy": "Local",
        "externalIPs": ["192.0.2.7"], "loadBalancerSourceRanges": ["198.51.100.0/24"],
        "healthCheckNodePort": 31000, "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    let mut with_status = service(spec.clone());
    with_status.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [
        {"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}]}}))
    .expect("a status");
    let mut planner = planner();
    let slices = two();
    planner.set(&name(), Some(&with_status), &slices.iter().collect::<Vec<_>>());
    expect![[r#"
        table ip t {
        	set cluster-ips {
        		type ipv4_addr;
        		elements = {
        			10.96.0.10
        		};
        	}
        	map firewall-ips {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        		elements = {
        			203.0.113.1 . tcp . 80 : goto firewall-M0HGKM0Q941TF-default/web/tcp/http
        		};
        	}
        	map service-ips {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        		elements = {
        			10.96.0.10 . tcp . 80 : goto service-M0HGKM0Q941TF-default/web/tcp/http,
        			192.0.2.7 . tcp . 80 : goto external-M0HGKM0Q941TF-default/web/tcp/http,
        			203.0.113.1 . tcp . 80 : goto external-M0HGKM0Q941TF-default/web/tcp/http
        		};
        	}
        	map service-nodeports {
        		type inet_proto . inet_service : verdict;
        		elements = {
        			tcp . 30080 : goto external-M0HGKM0Q941TF-default/web/tcp/http
        		};
        	}
        	chain endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080 {
        		ip saddr 10.244.0.5/32 jump mark-for-masquerade
        		meta l4proto tcp dnat to 10.244.0.5:8080
        	}
        	chain endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 {
        		ip saddr 10.244.1.5/32 jump mark-for-masquerade
        		meta l4proto tcp dnat to 10.244.1.5:8080
        	}
        	chain external-M0HGKM0Q941TF-default/web/tcp/http {
        		ip saddr 10.244.0.0/24 goto service-M0HGKM0Q941TF-default/web/tcp/http comment "short-circuit pod traffic"
        		fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"
        		fib saddr type local goto service-M0HGKM0Q941TF-default/web/tcp/http comment "short-circuit local traffic"
        		goto local-M0HGKM0Q941TF-default/web/tcp/http
        	}
        	chain firewall-M0HGKM0Q941TF-default/web/tcp/http {
        		ip saddr 198.51.100.0/24 return
        		ip saddr 203.0.113.1/32 return
        		drop
        	}
        	chain local-M0HGKM0Q941TF-default/web/tcp/http {
        		ip daddr 10.96.0.10/32 ip saddr != 10.244.0.0/24 jump mark-for-masquerade
        		numgen random mod 1 vmap { 0 : goto endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080 }
        	}
        	chain service-M0HGKM0Q941TF-default/web/tcp/http {
        		ip daddr 10.96.0.10/32 ip saddr != 10.244.0.0/24 jump mark-for-masquerade
        		numgen random mod 2 vmap { 0 : goto endpoint-D5RFZPVMYMVV5-default/web/tcp/http__10.244.0.5/8080, 1 : goto endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 }
        	}
        }
    "#]].assert_eq(&shares(&planner));
    expect![[r#"
        {
            31000: HealthCheck {
                service: ServiceName {
                    namespace: "default",
                    name: "web",
                },
                local_endpoints: 1,
            },
        }
    "#]]
    .assert_debug_eq(&planner.health_checks());
}

#[test]
fn a_local_policy_without_local_endpoints_drops() {
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.10", "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    check(
        spec,
        &[slice(&[("10.244.1.5", "node-2", true)])],
        expect![[r#"
        table ip t {
        	set cluster-ips {
        		type ipv4_addr;
        		elements = {
        			10.96.0.10
        		};
        	}
        	map no-endpoint-nodeports {
        		type inet_proto . inet_service : verdict;
        		elements = {
        			tcp . 30080 : drop
        		};
        	}
        	map no-endpoint-services {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        		elements = {
        			10.96.0.10 . tcp . 80 : drop
        		};
        	}
        	map service-nodeports {
        		type inet_proto . inet_service : verdict;
        		elements = {
        			tcp . 30080 : goto external-M0HGKM0Q941TF-default/web/tcp/http
        		};
        	}
        	chain endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 {
        		ip saddr 10.244.1.5/32 jump mark-for-masquerade
        		meta l4proto tcp dnat to 10.244.1.5:8080
        	}
        	chain external-M0HGKM0Q941TF-default/web/tcp/http {
        		ip saddr 10.244.0.0/24 goto service-M0HGKM0Q941TF-default/web/tcp/http comment "short-circuit pod traffic"
        		fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"
        		fib saddr type local goto service-M0HGKM0Q941TF-default/web/tcp/http comment "short-circuit local traffic"
        	}
        	chain service-M0HGKM0Q941TF-default/web/tcp/http {
        		ip daddr 10.96.0.10/32 ip saddr != 10.244.0.0/24 jump mark-for-masquerade
        		numgen random mod 1 vmap { 0 : goto endpoint-RQWS6FZ6HCHA6-default/web/tcp/http__10.244.1.5/8080 }
        	}
        }
    "#]],
    );
}

#[test]
fn no_endpoints_reject() {
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{"port": 80, "nodePort": 30080}]});
    check(
        spec,
        &[],
        expect![[r#"
        table ip t {
        	set cluster-ips {
        		type ipv4_addr;
        		elements = {
        			10.96.0.10
        		};
        	}
        	map no-endpoint-nodeports {
        		type inet_proto . inet_service : verdict;
        		elements = {
        			tcp . 30080 : goto reject-chain
        		};
        	}
        	map no-endpoint-services {
        		type ipv4_addr . inet_proto . inet_service : verdict;
        		elements = {
        			10.96.0.10 . tcp . 80 : goto reject-chain
        		};
        	}
        }
    "#]],
    );
}

#[test]
fn services_that_others_serve_are_left_alone() {
    let mut planner = planner();
    let own = |spec| service(spec);
    let headless = own(json!({"clusterIP": "None", "ports": ports()}));
    let by_name = own(json!({"type": "ExternalName", "externalName": "example.com"}));
    let mut other = own(json!({"clusterIP": "10.96.0.10", "ports": ports()}));
    let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "mine".to_owned());
    other.metadata.labels = Some([label].into());
    let ipv6 = own(json!({"clusterIP": "fd00::10", "clusterIPs": ["fd00::10"], "ports": ports()}));
    for service in [headless, by_name, other, ipv6] {
        assert_eq!(planner.set(&name(), Some(&service), &[]), []);
    }
}

/// Which endpoints the chain of the Service leads to.
fn served(slices: &[EndpointSlice], spec: Value) -> Vec<String> {
    let mut planner = planner();
    planner.set(&name(), Some(&service(spec)), &slices.iter().collect::<Vec<_>>());
    let prefix = "dnat to ";
    let text = shares(&planner);
    text.lines().filter_map(|line| Some(line.split_once(prefix)?.1.to_owned())).collect()
}

fn slice_of(endpoints: Value) -> EndpointSlice {
    let mut slice = slice(&[]);
    slice.endpoints = serde_json::from_value(endpoints).expect("endpoints");
    slice
}

#[test]
fn which_endpoints_serve() {
    let spec = || json!({"clusterIP": "10.96.0.10", "ports": ports()});
    let terminating = json!({"addresses": ["10.244.0.7"],
        "conditions": {"ready": false, "serving": true, "terminating": true}});
    let unready = json!({"addresses": ["10.244.0.8"], "conditions": {"ready": false}});
    let unknown = json!({"addresses": ["10.244.0.9"]});
    let slices = [slice_of(json!([terminating, unready, unknown]))];
    assert_eq!(served(&slices, spec()), ["10.244.0.9:8080"], "ready ones, and those that do not say");
    let slices = [slice_of(json!([terminating, unready]))];
    assert_eq!(served(&slices, spec()), ["10.244.0.7:8080"], "serving ones that end, when nothing else is left");
    let hint = |address: &str, zone: &str| json!({"addresses": [address], "hints": {"forZones": [{"name": zone}]}});
    let slices = [slice_of(json!([hint("10.244.0.1", "zone-a"), hint("10.244.0.2", "zone-b")]))];
    assert_eq!(served(&slices, spec()), ["10.244.0.1:8080"], "those meant for the node's zone");
    let slices = [slice_of(json!([hint("10.244.0.2", "zone-b"), unknown]))];
    assert_eq!(served(&slices, spec()).len(), 2, "hints that not all have count for nothing");
    let bad = json!([{"addresses": ["not an address"]}, {"addresses": []}, {"addresses": ["fd00::1"]}]);
    assert_eq!(served(&[slice_of(bad)], spec()), [""; 0], "what is no address is not served");
    let twice = [slice_of(json!([unready, unknown])), slice_of(json!([unknown]))];
    assert_eq!(served(&twice, spec()), ["10.244.0.9:8080"], "an endpoint in two slices is one");
}

#[test]
fn the_first_service_has_an_address_that_two_want() {
    let mut planner = planner();
    let named = |name: &str, cluster_ip: &str| {
        let mut service = service(json!({"clusterIP": cluster_ip, "externalIPs": ["192.0.2.7"], "ports": ports()}));
        service.metadata.name = Some(name.to_owned());
        (ServiceName::new("default", name), service)
    };
    let slices = two();
    let slices: Vec<&EndpointSlice> = slices.iter().collect();
    let (b, a) = (named("b", "10.96.0.2"), named("a", "10.96.0.1"));
    planner.set(&b.0, Some(&b.1), &slices);
    let taken = planner.set(&a.0, Some(&a.1), &slices);
    assert!(taken.iter().any(
        |change| matches!(change, Change::DeleteElements { set, keys } if set == "service-ips" && keys.len() == 1)
    ));
    let given_back = planner.set(&a.0, None, &[]);
    let back = |change: &Change| match change {
        Change::AddElements { set, elements } => set == "service-ips" && elements.len() == 1,
        _ => false,
    };
    assert!(given_back.iter().any(back), "{given_back:?}");
}

#[test]
fn one_endpoint_more_is_a_small_transaction() {
    let mut planner = planner();
    let many: Vec<(String, bool)> = (1..=100).map(|i| (format!("10.244.0.{i}"), true)).collect();
    let slice_with = |count: usize| {
        let endpoints: Vec<(&str, &str, bool)> =
            many.iter().take(count).map(|(address, ready)| (address.as_str(), "node-1", *ready)).collect();
        slice(&endpoints)
    };
    let spec = json!({"clusterIP": "10.96.0.10", "ports": ports()});
    planner.set(&name(), Some(&service(spec.clone())), &[&slice_with(99)]);
    let changes = planner.set(&name(), Some(&service(spec)), &[&slice_with(100)]);
    let kinds: Vec<&str> = changes
        .iter()
        .map(|change| match change {
            Change::AddChain { .. } => "add chain",
            Change::AddRule { .. } => "add rule",
            Change::FlushChain(_) => "flush chain",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["add chain", "add rule", "add rule", "flush chain", "add rule", "add rule"]);
}

#[test]
fn udp_flows_that_lead_nowhere_are_stale() {
    let mut planner = planner();
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.10",
        "ports": [{"name": "http", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
    let mut endpoints = slice(&[("10.244.0.5", "node-1", true)]);
    for port in endpoints.ports.iter_mut().flatten() {
        port.protocol = Some("UDP".to_owned());
    }
    planner.set(&name(), Some(&service(spec)), &[&endpoints]);
    let stale = |destination: &str, translated: &str, local| {
        planner.is_stale_udp(destination.parse().expect("a socket"), translated.parse().expect("a socket"), local)
    };
    assert!(!stale("10.96.0.10:53", "10.244.0.5:8080", false));
    assert!(stale("10.96.0.10:53", "10.244.0.6:8080", false));
    assert!(stale("10.96.0.10:53", "10.96.0.10:53", false));
    assert!(stale("192.0.2.1:30053", "10.244.0.6:8080", true));
    assert!(!stale("192.0.2.9:30053", "192.0.2.9:30053", false));
    assert!(stale("10.96.0.99:53", "10.244.0.5:8080", false), "a Service that is gone");
    assert!(!stale("8.8.8.8:53", "8.8.8.8:53", false));
}
