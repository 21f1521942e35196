//! The nftables table of the pod network, as values.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use coracle_nft::{ChainHook, Data, Expr, Family, Field, Hook, Parts, Proto, Rule, Set, Type, Value};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Before the Service rules, which are at -100: who asked for a port of the host gets it.
const PRIORITY_HOST_PORTS: i32 = -105;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_FILTER: i32 = 0;

/// A port of the host that leads to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    /// `None` for every address of the host.
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) protocol: Proto,
    pub(crate) host_port: u16,
    pub(crate) pod_ip: IpAddr,
    pub(crate) pod_port: u16,
}

pub(crate) struct Inputs<'a> {
    pub(crate) bridge: &'a str,
    pub(crate) pod_cidr: IpNet,
    pub(crate) non_masquerade_cidrs: &'a [IpNet],
    /// By sandbox.
    pub(crate) host_ports: &'a BTreeMap<String, Vec<HostPort>>,
}

/// The table for the family of the pod CIDR.
pub(crate) fn table(inputs: &Inputs<'_>) -> Parts {
    let family = Family::of(inputs.pod_cidr.addr());
    let mut parts = Parts::default();
    host_ports(inputs, family, &mut parts);
    parts.base_chain("nat-prerouting", ChainHook::nat(Hook::Prerouting, PRIORITY_HOST_PORTS), to_host_ports());
    parts.base_chain("nat-output", ChainHook::nat(Hook::Output, PRIORITY_HOST_PORTS), to_host_ports());
    let postrouting = ChainHook::nat(Hook::Postrouting, PRIORITY_SOURCE_NAT);
    parts.base_chain("nat-postrouting", postrouting, masquerade(inputs, family));
    parts.base_chain("filter-input", ChainHook::filter(Hook::Input, PRIORITY_FILTER), guard_loopback(inputs, family));
    parts
}

fn to_host_ports() -> Vec<Rule> {
    vec![Rule::new(vec![Expr::DestinationLocal { not: false }, Expr::jump("host-ports")])]
}

fn host_ports(inputs: &Inputs<'_>, family: Family, parts: &mut Parts) {
    let target = vec![Type::Address, Type::Port];
    parts.set("host-ports-by-ip", Set::map(vec![Type::Address, Type::Proto, Type::Port], target.clone()));
    parts.set("host-ports-any-ip", Set::map(vec![Type::Proto, Type::Port], target));
    parts.set("host-port-hairpins", Set::plain(vec![Type::Address, Type::Address]));
    let by_ip = vec![Field::Destination, Field::L4Proto, Field::DestinationPort];
    let any_ip = vec![Field::L4Proto, Field::DestinationPort];
    let rules = vec![
        Rule::new(vec![Expr::DnatMap { fields: by_ip, map: "host-ports-by-ip".to_owned() }]),
        Rule::new(vec![Expr::DnatMap { fields: any_ip, map: "host-ports-any-ip".to_owned() }]),
    ];
    parts.chain("host-ports", rules);
    for port in inputs.host_ports.values().flatten().filter(|port| Family::of(port.pod_ip) == family) {
        host_port(port, parts);
    }
}

fn host_port(port: &HostPort, parts: &mut Parts) {
    let target = Some(Data::Values(vec![Value::Address(port.pod_ip), Value::Port(port.pod_port)]));
    let (proto, number) = (Value::Proto(port.protocol), Value::Port(port.host_port));
    // The scheduler keeps two pods from one host port; where it could not, the first keeps it.
    let (set, key) = match port.host_ip {
        Some(address) if Family::of(address) != Family::of(port.pod_ip) => return,
        Some(address) => ("host-ports-by-ip", vec![Value::Address(address), proto, number]),
        None => ("host-ports-any-ip", vec![proto, number]),
    };
    parts.elements.entry((set.to_owned(), key)).or_insert(target);
    parts.element("host-port-hairpins", vec![Value::Address(port.pod_ip), Value::Address(port.pod_ip)], None);
}

fn masquerade(inputs: &Inputs<'_>, family: Family) -> Vec<Rule> {
    let hairpin = Expr::InSet {
        fields: vec![Field::Source, Field::Destination],
        set: "host-port-hairpins".to_owned(),
        not: false,
    };
    let bridge = Expr::OutInterface { name: inputs.bridge.to_owned(), not: false };
    let mut rules = vec![
        Rule::new(vec![Expr::OutInterface { name: "lo".to_owned(), not: false }, Expr::r#return()]),
        Rule::new(vec![hairpin, Expr::Masquerade]).comment("a pod that calls its own host port"),
        Rule::new(vec![Expr::Source { net: loopback(family), not: false }, bridge, Expr::Masquerade])
            .comment("localhost to a host port or node port"),
        Rule::new(vec![Expr::Source { net: inputs.pod_cidr, not: true }, Expr::r#return()]),
    ];
    let kept = inputs.non_masquerade_cidrs.iter().filter(|net| Family::of(net.addr()) == family);
    for net in [inputs.pod_cidr, multicast(family)].iter().chain(kept) {
        rules.push(Rule::new(vec![Expr::Destination { net: *net, not: false }, Expr::r#return()]));
    }
    rules.push(Rule::new(vec![Expr::Masquerade]));
    rules
}

/// With `route_localnet` a pod could reach what listens on the host's loopback only: nothing but translated
/// connections may (CVE-2020-8558).
fn guard_loopback(inputs: &Inputs<'_>, family: Family) -> Vec<Rule> {
    let from_pods = Expr::InInterface { name: inputs.bridge.to_owned(), not: false };
    let to_loopback = Expr::Destination { net: loopback(family), not: false };
    vec![Rule::new(vec![from_pods, to_loopback, Expr::CtDnat { not: true }, Expr::drop()])]
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::Ip => Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Family::Ip6 => Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
    }
}

fn multicast(family: Family) -> IpNet {
    match family {
        Family::Ip => Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4).into(),
        Family::Ip6 => Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_nft::Table;
    use expect_test::expect;

    #[test]
    fn the_table_of_a_node_with_two_host_ports() {
        let pod_ip = IpAddr::from([10, 244, 0, 5]);
        let port = |host_ip, host_port| HostPort { host_ip, protocol: Proto::Tcp, host_port, pod_ip, pod_port: 80 };
        let ports = vec![port(None, 8080), port(Some([127, 0, 0, 1].into()), 8081)];
        let inputs = Inputs {
            bridge: "coracle0",
            pod_cidr: "10.244.0.0/24".parse().unwrap(),
            non_masquerade_cidrs: &["10.244.0.0/16".parse().unwrap()],
            host_ports: &BTreeMap::from([("sandbox".to_owned(), ports)]),
        };
        let table = Table { family: Family::Ip, name: "coracle-network".to_owned(), parts: table(&inputs) };
        expect![[r#"
            table ip coracle-network {
            	set host-port-hairpins {
            		type ipv4_addr . ipv4_addr;
            		elements = {
            			10.244.0.5 . 10.244.0.5
            		};
            	}
            	map host-ports-any-ip {
            		type inet_proto . inet_service : ipv4_addr . inet_service;
            		elements = {
            			tcp . 8080 : 10.244.0.5 . 80
            		};
            	}
            	map host-ports-by-ip {
            		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;
            		elements = {
            			127.0.0.1 . tcp . 8081 : 10.244.0.5 . 80
            		};
            	}
            	chain filter-input {
            		type filter hook input priority 0;
            		iifname "coracle0" ip daddr 127.0.0.0/8 ct status & dnat == 0 drop
            	}
            	chain host-ports {
            		dnat ip addr . port to ip daddr . meta l4proto . th dport map @host-ports-by-ip
            		dnat ip addr . port to meta l4proto . th dport map @host-ports-any-ip
            	}
            	chain nat-output {
            		type nat hook output priority -105;
            		fib daddr type local jump host-ports
            	}
            	chain nat-postrouting {
            		type nat hook postrouting priority 100;
            		oifname "lo" return
            		ip saddr . ip daddr @host-port-hairpins masquerade fully-random comment "a pod that calls its own host port"
            		ip saddr 127.0.0.0/8 oifname "coracle0" masquerade fully-random comment "localhost to a host port or node port"
            		ip saddr != 10.244.0.0/24 return
            		ip daddr 10.244.0.0/24 return
            		ip daddr 224.0.0.0/4 return
            		ip daddr 10.244.0.0/16 return
            		masquerade fully-random
            	}
            	chain nat-prerouting {
            		type nat hook prerouting priority -105;
            		fib daddr type local jump host-ports
            	}
            }
        "#]].assert_eq(&table.to_string());
    }
}
