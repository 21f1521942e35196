//! The part of the table that is there without any Service.

use coracle_nft::{ChainHook, Expr, Family, Field, Hook, Parts, Rule, Set, Type};

use crate::Settings;

/// The bit of the packet mark that asks for masquerading. Source: upstream's default of `--iptables-masquerade-bit`.
pub(crate) const MARK_MASQUERADE: u32 = 0x4000;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_BEFORE_DESTINATION_NAT: i32 = -110;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_FILTER: i32 = 0;

/// Verdicts by address, protocol and port.
pub(crate) const SERVICE_IPS: &str = "service-ips";
/// Verdicts by protocol and port, where the destination is the host.
pub(crate) const SERVICE_NODEPORTS: &str = "service-nodeports";
pub(crate) const FIREWALL_IPS: &str = "firewall-ips";
pub(crate) const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub(crate) const NO_ENDPOINT_NODEPORTS: &str = "no-endpoint-nodeports";
pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
pub(crate) const MARK_FOR_MASQUERADE: &str = "mark-for-masquerade";
pub(crate) const REJECT: &str = "reject-chain";

pub(crate) fn base(settings: &Settings) -> Parts {
    let mut parts = Parts::default();
    sets(&mut parts);
    nat_chains(&mut parts);
    filter_chains(settings, &mut parts);
    parts
}

fn sets(parts: &mut Parts) {
    let by_address = vec![Type::Address, Type::Proto, Type::Port];
    let by_port = vec![Type::Proto, Type::Port];
    for name in [SERVICE_IPS, FIREWALL_IPS, NO_ENDPOINT_SERVICES] {
        parts.set(name, Set::verdicts(by_address.clone()));
    }
    for name in [SERVICE_NODEPORTS, NO_ENDPOINT_NODEPORTS] {
        parts.set(name, Set::verdicts(by_port.clone()));
    }
    parts.set(CLUSTER_IPS, Set::plain(vec![Type::Address]));
}

fn by_address(map: &str) -> Expr {
    let fields = vec![Field::Destination, Field::L4Proto, Field::DestinationPort];
    Expr::VerdictMap { fields, map: map.to_owned() }
}

fn by_port(map: &str) -> Expr {
    Expr::VerdictMap { fields: vec![Field::L4Proto, Field::DestinationPort], map: map.to_owned() }
}

fn nat_chains(parts: &mut Parts) {
    let to_services = || vec![Rule::new(vec![Expr::jump("services")])];
    parts.base_chain("nat-prerouting", ChainHook::nat(Hook::Prerouting, PRIORITY_DESTINATION_NAT), to_services());
    parts.base_chain("nat-output", ChainHook::nat(Hook::Output, PRIORITY_DESTINATION_NAT), to_services());
    let on_this_host = Expr::DestinationLocal { not: false };
    let services =
        vec![Rule::new(vec![by_address(SERVICE_IPS)]), Rule::new(vec![on_this_host, by_port(SERVICE_NODEPORTS)])];
    parts.chain("services", services);
    parts.chain(MARK_FOR_MASQUERADE, vec![Rule::new(vec![Expr::MarkOr(MARK_MASQUERADE)])]);
    let unmarked = Expr::Mark { value: 0, mask: MARK_MASQUERADE, not: false };
    let postrouting = vec![
        Rule::new(vec![unmarked, Expr::r#return()]),
        Rule::new(vec![Expr::MarkXor(MARK_MASQUERADE)]),
        Rule::new(vec![Expr::Masquerade]),
    ];
    parts.base_chain("nat-postrouting", ChainHook::nat(Hook::Postrouting, PRIORITY_SOURCE_NAT), postrouting);
}

fn filter_chains(settings: &Settings, parts: &mut Parts) {
    let new_to = |chains: &[&str]| -> Vec<Rule> {
        chains.iter().map(|chain| Rule::new(vec![Expr::CtNew, Expr::jump(*chain)])).collect()
    };
    let before = |hook| ChainHook::filter(hook, PRIORITY_BEFORE_DESTINATION_NAT);
    let after = |hook| ChainHook::filter(hook, PRIORITY_FILTER);
    parts.base_chain("filter-prerouting-pre-dnat", before(Hook::Prerouting), new_to(&["firewall-check"]));
    parts.base_chain("filter-output-pre-dnat", before(Hook::Output), new_to(&["firewall-check"]));
    let input = ["nodeport-endpoints-check", "service-endpoints-check"];
    parts.base_chain("filter-input", after(Hook::Input), new_to(&input));
    let passing = ["service-endpoints-check", "cluster-ips-check"];
    parts.base_chain("filter-forward", after(Hook::Forward), new_to(&passing));
    parts.base_chain("filter-output", after(Hook::Output), new_to(&passing));

    parts.chain("firewall-check", vec![Rule::new(vec![by_address(FIREWALL_IPS)])]);
    parts.chain("service-endpoints-check", vec![Rule::new(vec![by_address(NO_ENDPOINT_SERVICES)])]);
    let on_this_host = Expr::DestinationLocal { not: false };
    let nodeports = vec![Rule::new(vec![on_this_host, by_port(NO_ENDPOINT_NODEPORTS)])];
    parts.chain("nodeport-endpoints-check", nodeports);
    parts.chain("cluster-ips-check", cluster_ips_check(settings));
    parts.chain(REJECT, vec![Rule::new(vec![Expr::Reject])]);
}

/// What has not been translated until here is of no Service.
fn cluster_ips_check(settings: &Settings) -> Vec<Rule> {
    let known = Expr::InSet { fields: vec![Field::Destination], set: CLUSTER_IPS.to_owned(), not: false };
    let mut rules = vec![Rule::new(vec![known, Expr::Reject]).comment("Reject traffic to invalid ports of ClusterIPs")];
    let cidrs = settings.service_cidrs.iter().filter(|net| Family::of(net.addr()) == settings.family);
    for net in cidrs {
        let unknown = Expr::Destination { net: *net, not: false };
        rules.push(Rule::new(vec![unknown, Expr::drop()]).comment("Drop traffic to unallocated ClusterIPs"));
    }
    rules
}
