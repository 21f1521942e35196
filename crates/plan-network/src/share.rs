//! What one Service has in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use coracle_nft::{Data, Expr, Family, Field, Parts, Rule, Set, Type, Value, Verdict};
use ipnet::IpNet;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Settings;
use crate::base::{
    CLUSTER_IPS, FIREWALL_IPS, MARK_FOR_MASQUERADE, NO_ENDPOINT_NODEPORTS, NO_ENDPOINT_SERVICES, REJECT, SERVICE_IPS,
    SERVICE_NODEPORTS,
};
use crate::endpoints::Serving;
use crate::name::{chain_name, port_name};
use crate::planner::HealthCheck;
use crate::service::{PortView, ServiceView};

/// The rules of one Service, and what else is to be known about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) parts: Parts,
    /// Where UDP to an address (`None`: any of the host's) and port may go.
    pub(crate) udp: BTreeMap<(Option<IpAddr>, u16), BTreeSet<SocketAddr>>,
    pub(crate) health_check: Option<(u16, HealthCheck)>,
}

impl Share {
    pub(crate) fn new(settings: &Settings, service: &ServiceView, slices: &[&EndpointSlice]) -> Share {
        let mut share = Share::default();
        let mut local_ready = 0;
        share.parts.element(CLUSTER_IPS, vec![Value::Address(service.cluster_ip)], None);
        for port in &service.ports {
            let serving = Serving::of(slices, settings.family, &settings.node, &port.name, port.protocol);
            local_ready = local_ready.max(serving.local_ready);
            let builder = Builder { settings, service, port, serving: &serving, id: String::new() };
            Builder { id: port_name(&service.name, &port.name, port.protocol), ..builder }.build(&mut share);
        }
        share.health_check = service.health_check_node_port.filter(|_| service.external_local).map(|port| {
            let service = service.name.clone();
            (port, HealthCheck { service, local_endpoints: local_ready })
        });
        share
    }
}

struct Builder<'a> {
    settings: &'a Settings,
    service: &'a ServiceView,
    port: &'a PortView,
    serving: &'a Serving,
    /// `namespace/name/tcp/port`.
    id: String,
}

/// What becomes of a packet to one of the Service's addresses.
enum Fate {
    /// It goes to this chain.
    Chain(String),
    /// There are endpoints, but none that the policy allows: it waits for another node.
    Drop,
    /// There is no endpoint at all.
    Reject,
}

impl Builder<'_> {
    fn build(&self, share: &mut Share) {
        let internal = self.internal(&mut share.parts);
        self.place(SERVICE_IPS, NO_ENDPOINT_SERVICES, self.key(self.service.cluster_ip), &internal, &mut share.parts);
        let open = self.service.external_ips.iter().chain(&self.service.load_balancer_ips);
        let addresses: BTreeSet<IpAddr> = open.copied().collect();
        if !addresses.is_empty() || self.port.node_port.is_some() {
            let external = self.external(&mut share.parts);
            for address in &addresses {
                self.place(SERVICE_IPS, NO_ENDPOINT_SERVICES, self.key(*address), &external, &mut share.parts);
            }
            if let Some(node_port) = self.port.node_port {
                let key = vec![Value::Proto(self.port.protocol), Value::Port(node_port)];
                self.place(SERVICE_NODEPORTS, NO_ENDPOINT_NODEPORTS, key, &external, &mut share.parts);
            }
        }
        self.firewall(&mut share.parts);
        self.endpoint_chains(&mut share.parts);
        self.note_udp(&addresses, share);
    }

    fn key(&self, address: IpAddr) -> Vec<Value> {
        vec![Value::Address(address), Value::Proto(self.port.protocol), Value::Port(self.port.port)]
    }

    fn place(&self, served: &str, unserved: &str, key: Vec<Value>, fate: &Fate, parts: &mut Parts) {
        let (map, verdict) = match fate {
            Fate::Chain(chain) => (served, Verdict::Goto(chain.clone())),
            Fate::Drop => (unserved, Verdict::Drop),
            Fate::Reject => (unserved, Verdict::Goto(REJECT.to_owned())),
        };
        parts.element(map, key, Some(Data::Verdict(verdict)));
    }

    /// The way from a ClusterIP.
    fn internal(&self, parts: &mut Parts) -> Fate {
        self.policy(self.service.internal_local, parts)
    }

    /// The way that keeps the policy.
    fn policy(&self, local: bool, parts: &mut Parts) -> Fate {
        if self.serving.cluster.is_empty() && self.serving.local.is_empty() {
            return Fate::Reject;
        }
        let (prefix, endpoints) = match local {
            true => ("local", &self.serving.local),
            false => ("service", &self.serving.cluster),
        };
        if endpoints.is_empty() {
            return if local { Fate::Drop } else { Fate::Reject };
        }
        let chain = chain_name(prefix, &self.id);
        parts.chain(chain.clone(), self.balance(endpoints));
        Fate::Chain(chain)
    }

    /// Known clients to their endpoint, others to any.
    fn balance(&self, endpoints: &[SocketAddr]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for net in self.settings.node.pod_cidrs.iter().filter(|net| Family::of(net.addr()) == self.settings.family) {
            let to_cluster_ip = Expr::Destination { net: IpNet::from(self.service.cluster_ip), not: false };
            let from_elsewhere = Expr::Source { net: *net, not: true };
            rules.push(Rule::new(vec![to_cluster_ip, from_elsewhere, Expr::jump(MARK_FOR_MASQUERADE)]));
        }
        if let Some(seconds) = self.service.affinity_seconds {
            for endpoint in endpoints {
                let set = self.affinity_set(*endpoint, seconds);
                let known = Expr::InSet { fields: vec![Field::Source], set, not: false };
                rules.push(Rule::new(vec![known, Expr::goto(self.endpoint_name("endpoint", *endpoint))]));
            }
        }
        let chains = endpoints.iter().map(|endpoint| self.endpoint_name("endpoint", *endpoint)).collect();
        rules.push(Rule::new(vec![Expr::GotoRandom(chains)]));
        rules
    }

    /// The kernel cannot change the timeout of a set: another one is another set.
    fn affinity_set(&self, endpoint: SocketAddr, seconds: u32) -> String {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        chain_name("affinity", &format!("{}__{ip}/{port}/{seconds}s", self.id))
    }

    fn endpoint_name(&self, prefix: &str, endpoint: SocketAddr) -> String {
        chain_name(prefix, &format!("{}__{}/{}", self.id, endpoint.ip(), endpoint.port()))
    }

    /// The way from external addresses and node ports.
    fn external(&self, parts: &mut Parts) -> Fate {
        if self.serving.cluster.is_empty() && self.serving.local.is_empty() {
            return Fate::Reject;
        }
        let chain = chain_name("external", &self.id);
        let rules = match self.service.external_local {
            true => self.external_local(parts),
            false => self.external_cluster(parts),
        };
        parts.chain(chain.clone(), rules);
        if self.service.external_local && self.serving.local.is_empty() {
            // Pods and the host itself are served before; who comes from outside is not.
            self.drop_unserved(parts);
        }
        Fate::Chain(chain)
    }

    fn external_cluster(&self, parts: &mut Parts) -> Vec<Rule> {
        let mut rules = vec![Rule::new(vec![Expr::jump(MARK_FOR_MASQUERADE)])];
        if let Fate::Chain(chain) = self.policy(false, parts) {
            rules.push(Rule::new(vec![Expr::goto(chain)]));
        }
        rules
    }

    fn external_local(&self, parts: &mut Parts) -> Vec<Rule> {
        let mut rules = Vec::new();
        if let Fate::Chain(cluster) = self.policy(false, parts) {
            let nets = self.settings.node.pod_cidrs.iter();
            for net in nets.filter(|net| Family::of(net.addr()) == self.settings.family) {
                let from_pods = Expr::Source { net: *net, not: false };
                let why = "short-circuit pod traffic";
                rules.push(Rule::new(vec![from_pods, Expr::goto(cluster.clone())]).comment(why));
            }
            let from_host = || Expr::SourceLocal { not: false };
            let why = "masquerade local traffic";
            rules.push(Rule::new(vec![from_host(), Expr::jump(MARK_FOR_MASQUERADE)]).comment(why));
            let why = "short-circuit local traffic";
            rules.push(Rule::new(vec![from_host(), Expr::goto(cluster)]).comment(why));
        }
        if let Fate::Chain(local) = self.policy(true, parts) {
            rules.push(Rule::new(vec![Expr::goto(local)]));
        }
        rules
    }

    /// A load balancer must see that this node does not answer, so it is dropped and not refused.
    fn drop_unserved(&self, parts: &mut Parts) {
        let drop = || Some(Data::Verdict(Verdict::Drop));
        for address in self.service.external_ips.iter().chain(&self.service.load_balancer_ips) {
            parts.element(NO_ENDPOINT_SERVICES, self.key(*address), drop());
        }
        if let Some(node_port) = self.port.node_port {
            let key = vec![Value::Proto(self.port.protocol), Value::Port(node_port)];
            parts.element(NO_ENDPOINT_NODEPORTS, key, drop());
        }
    }

    /// Who may use the addresses of the load balancer.
    fn firewall(&self, parts: &mut Parts) {
        let ranges = &self.service.source_ranges;
        let everybody = ranges.iter().any(|net| net.prefix_len() == 0);
        if self.service.load_balancer_ips.is_empty() || ranges.is_empty() || everybody {
            return;
        }
        let chain = chain_name("firewall", &self.id);
        let allow = |net: IpNet| Rule::new(vec![Expr::Source { net, not: false }, Expr::r#return()]);
        let mut rules: Vec<Rule> = ranges.iter().map(|net| allow(*net)).collect();
        // A node that is in a range may reach the address from itself, where the source is the address (upstream).
        for address in &self.service.load_balancer_ips {
            rules.push(allow(IpNet::from(*address)));
            let verdict = Some(Data::Verdict(Verdict::Goto(chain.clone())));
            parts.element(FIREWALL_IPS, self.key(*address), verdict);
        }
        rules.push(Rule::new(vec![Expr::drop()]));
        parts.chain(chain, rules);
    }

    fn endpoint_chains(&self, parts: &mut Parts) {
        let endpoints: BTreeSet<SocketAddr> = self.serving.cluster.iter().chain(&self.serving.local).copied().collect();
        let used = endpoint_chains_used(parts);
        for endpoint in endpoints {
            let chain = self.endpoint_name("endpoint", endpoint);
            // One that is there for a policy which nothing uses would be an orphan.
            if !used.contains(&chain) {
                continue;
            }
            let hairpin = Expr::Source { net: IpNet::from(endpoint.ip()), not: false };
            let mut rules = vec![Rule::new(vec![hairpin, Expr::jump(MARK_FOR_MASQUERADE)])];
            if let Some(seconds) = self.service.affinity_seconds {
                let set = self.affinity_set(endpoint, seconds);
                parts.set(set.clone(), Set::updated_by_packets(vec![Type::Address], seconds));
                rules.push(Rule::new(vec![Expr::Update { fields: vec![Field::Source], set }]));
            }
            let (address, port) = (endpoint.ip(), endpoint.port());
            rules.push(Rule::new(vec![Expr::L4Proto(self.port.protocol), Expr::Dnat { address, port }]));
            parts.chain(chain, rules);
        }
    }

    fn note_udp(&self, addresses: &BTreeSet<IpAddr>, share: &mut Share) {
        if self.port.protocol != coracle_nft::Proto::Udp {
            return;
        }
        let targets: BTreeSet<SocketAddr> = self.serving.cluster.iter().chain(&self.serving.local).copied().collect();
        let own = std::iter::once(&self.service.cluster_ip).chain(addresses);
        for address in own {
            share.udp.insert((Some(*address), self.port.port), targets.clone());
        }
        if let Some(node_port) = self.port.node_port {
            share.udp.insert((None, node_port), targets);
        }
    }
}

fn endpoint_chains_used(parts: &Parts) -> BTreeSet<String> {
    let exprs = parts.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs);
    let chains = exprs.filter_map(|expr| match expr {
        Expr::GotoRandom(chains) => Some(chains),
        _ => None,
    });
    chains.flatten().cloned().collect()
}
