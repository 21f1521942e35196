//! Names to records. Source: Kubernetes DNS-Based Service Discovery, schema version 1.1.0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::Error;
use crate::index::{EndpointEntry, Index, Key, Port, ServiceEntry, ServiceKind};

/// What there is under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Not of the cluster.
    Elsewhere,
    /// The name does not exist.
    NoName,
    /// Records; none when the name exists but has none of the type.
    Records { answers: Vec<Record>, additionals: Vec<Record> },
    /// Another name, which is to be looked up instead.
    Alias(Box<Record>, Name),
}

/// The cluster's domain and what its records have in common.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    origin: Name,
    /// Labels of the origin.
    depth: usize,
    ttl: u32,
}

/// Version of the schema, served as `dns-version`.
const SCHEMA_VERSION: &str = "1.1.0";
/// The weights of all targets of one SRV answer add up to this.
const SRV_WEIGHT_SUM: usize = 100;
/// The Service whose addresses `ns.dns` has.
const DNS_SERVICE: (&str, &str) = ("kube-system", "kube-dns");

impl Zone {
    pub(crate) fn new(domain: &str, ttl: u32) -> Result<Zone, Error> {
        let invalid = |why: String| Error::ClusterDomain { domain: domain.to_owned(), why };
        let mut origin = Name::from_ascii(domain).map_err(|error| invalid(error.to_string()))?.to_lowercase();
        origin.set_fqdn(true);
        let depth = origin.iter().count();
        if depth == 0 {
            return Err(invalid("it is empty".to_owned()));
        }
        Ok(Zone { origin, depth, ttl })
    }

    /// The SOA of negative answers.
    pub(crate) fn soa(&self) -> Record {
        let mname = self.child(&["ns", "dns"]);
        let rname = self.child(&["hostmaster"]);
        let soa = SOA::new(mname, rname, 1, 7200, 1800, 86400, self.ttl);
        Record::from_rdata(self.origin.clone(), self.ttl, RData::SOA(soa))
    }

    fn child(&self, labels: &[&str]) -> Name {
        let labels = labels.iter().map(|label| label.as_bytes()).chain(self.origin.iter());
        // Labels of Kubernetes' names are at most 63 bytes, and five of them with a domain below 255.
        let mut name = Name::from_labels(labels).unwrap_or_else(|_| self.origin.clone());
        name.set_fqdn(true);
        name
    }

    fn service_name(&self, (namespace, name): &Key) -> Name {
        self.child(&[name, namespace, "svc"])
    }

    fn endpoint_name(&self, (namespace, name): &Key, hostname: &str) -> Name {
        self.child(&[hostname, name, namespace, "svc"])
    }

    fn record(&self, owner: &Name, data: RData) -> Record {
        Record::from_rdata(owner.clone(), self.ttl, data)
    }

    /// What there is under `name` for the type. Owners of records are spelt as the question spelt them.
    pub(crate) fn lookup(&self, index: &Index, name: &Name, kind: RecordType) -> Found {
        if !self.origin.zone_of(name) {
            return self.reverse(index, name, kind);
        }
        let count = name.iter().count().saturating_sub(self.depth);
        let labels: Option<Vec<String>> =
            name.iter().take(count).map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase())).collect();
        let Some(labels) = labels else { return Found::NoName };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let ask = Ask { zone: self, index, name, kind };
        match labels.as_slice() {
            [] => ask.apex(),
            ["dns-version"] => ask.only(RecordType::TXT, || RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]))),
            ["dns"] | ["svc"] | ["pod"] => nothing(),
            ["ns", "dns"] => ask.name_server(),
            [rest @ .., "svc"] => ask.service(rest),
            [rest @ .., "pod"] => ask.pod(rest),
            _ => Found::NoName,
        }
    }

    /// PTR of ClusterIPs and endpoints. Other addresses are somebody else's.
    fn reverse(&self, index: &Index, name: &Name, kind: RecordType) -> Found {
        let Ok(net) = name.parse_arpa_name() else { return Found::Elsewhere };
        if net.prefix_len() != net.max_prefix_len() {
            return Found::Elsewhere;
        }
        let address = net.addr();
        let targets: Vec<Name> = match index.by_cluster_ip.get(&address) {
            Some(key) => vec![self.service_name(key)],
            None => index.endpoint_names(&address).map(|(key, hostname)| self.endpoint_name(key, hostname)).collect(),
        };
        if targets.is_empty() {
            return Found::Elsewhere;
        }
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return nothing();
        }
        records(targets.into_iter().map(|target| self.record(name, RData::PTR(PTR(target)))).collect())
    }
}

fn nothing() -> Found {
    records(Vec::new())
}

fn records(answers: Vec<Record>) -> Found {
    Found::Records { answers, additionals: Vec::new() }
}

/// One question.
struct Ask<'a> {
    zone: &'a Zone,
    index: &'a Index,
    name: &'a Name,
    kind: RecordType,
}

impl Ask<'_> {
    fn only(&self, kind: RecordType, data: impl FnOnce() -> RData) -> Found {
        if self.kind != kind && self.kind != RecordType::ANY {
            return nothing();
        }
        records(vec![self.zone.record(self.name, data())])
    }

    fn apex(&self) -> Found {
        match self.kind {
            RecordType::SOA | RecordType::ANY => records(vec![self.zone.soa()]),
            RecordType::NS => {
                let server = self.zone.child(&["ns", "dns"]);
                records(vec![self.zone.record(self.name, RData::NS(NS(server)))])
            }
            _ => nothing(),
        }
    }

    fn name_server(&self) -> Found {
        let key = (DNS_SERVICE.0.to_owned(), DNS_SERVICE.1.to_owned());
        match self.index.services.get(&key).map(|service| &service.kind) {
            Some(ServiceKind::ClusterIps(ips)) => self.addresses(ips.iter().copied()),
            _ => nothing(),
        }
    }

    fn addresses(&self, addresses: impl Iterator<Item = IpAddr>) -> Found {
        let wanted = addresses.filter_map(|address| address_data(address, self.kind));
        records(wanted.map(|data| self.zone.record(self.name, data)).collect())
    }

    /// `labels` are those before `svc`.
    fn service(&self, labels: &[&str]) -> Found {
        match labels {
            [namespace] => self.namespace(namespace),
            [name, namespace] => self.whole_service(&((*namespace).to_owned(), (*name).to_owned())),
            [hostname, name, namespace] => self.below_service(hostname, &((*namespace).to_owned(), (*name).to_owned())),
            [port, protocol, name, namespace] => {
                self.port(port, protocol, &((*namespace).to_owned(), (*name).to_owned()))
            }
            _ => Found::NoName,
        }
    }

    fn namespace(&self, namespace: &str) -> Found {
        if self.index.namespaces.contains(namespace) { nothing() } else { Found::NoName }
    }

    fn whole_service(&self, key: &Key) -> Found {
        let Some(service) = self.index.services.get(key) else { return Found::NoName };
        match (&service.kind, self.kind) {
            (ServiceKind::External(target), _) => self.alias(target),
            (_, RecordType::SRV) => self.ports(key, service, |_| true),
            (ServiceKind::ClusterIps(ips), _) => self.addresses(ips.iter().copied()),
            (ServiceKind::Headless, _) => {
                let mut addresses: Vec<IpAddr> = self.index.endpoints(key).map(|endpoint| endpoint.address).collect();
                addresses.sort();
                addresses.dedup();
                self.addresses(addresses.into_iter())
            }
        }
    }

    /// An ExternalName may be an address after all: then it is one (as CoreDNS does).
    fn alias(&self, target: &str) -> Found {
        if let Ok(address) = target.parse::<IpAddr>() {
            return self.addresses(std::iter::once(address));
        }
        let Ok(mut target) = Name::from_ascii(target) else { return nothing() };
        target.set_fqdn(true);
        let record = self.zone.record(self.name, RData::CNAME(CNAME(target.clone())));
        Found::Alias(Box::new(record), target)
    }

    fn below_service(&self, label: &str, key: &Key) -> Found {
        let Some(service) = self.index.services.get(key) else { return Found::NoName };
        if let Some(protocol) = label.strip_prefix('_') {
            let known = self.all_ports(key, service).iter().any(|port| port.protocol == protocol);
            return if known { nothing() } else { Found::NoName };
        }
        let mut addresses: Vec<IpAddr> =
            self.index.endpoints(key).filter(|entry| entry.hostname == label).map(|entry| entry.address).collect();
        addresses.sort();
        addresses.dedup();
        if addresses.is_empty() { Found::NoName } else { self.addresses(addresses.into_iter()) }
    }

    fn port(&self, port: &str, protocol: &str, key: &Key) -> Found {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Found::NoName;
        };
        let Some(service) = self.index.services.get(key) else { return Found::NoName };
        let wanted = |candidate: &Port| candidate.name == port && candidate.protocol == protocol;
        if !self.all_ports(key, service).iter().any(&wanted) {
            return Found::NoName;
        }
        match self.kind {
            RecordType::SRV | RecordType::ANY => self.ports(key, service, wanted),
            _ => nothing(),
        }
    }

    fn all_ports(&self, key: &Key, service: &ServiceEntry) -> Vec<Port> {
        match service.kind {
            ServiceKind::Headless => self.index.endpoints(key).flat_map(|endpoint| endpoint.ports.clone()).collect(),
            _ => service.ports.clone(),
        }
    }

    /// SRV records of the ports, and the addresses of their targets.
    fn ports(&self, key: &Key, service: &ServiceEntry, wanted: impl Fn(&Port) -> bool) -> Found {
        let mut targets: Vec<(u16, Name, Vec<IpAddr>)> = Vec::new();
        match &service.kind {
            ServiceKind::ClusterIps(ips) => {
                let name = self.zone.service_name(key);
                let ports = service.ports.iter().filter(|port| wanted(port));
                targets.extend(ports.map(|port| (port.number, name.clone(), ips.clone())));
            }
            ServiceKind::Headless => {
                for endpoint in self.index.endpoints(key) {
                    targets.extend(self.endpoint_targets(key, endpoint, &wanted));
                }
            }
            ServiceKind::External(_) => {}
        }
        self.srv(&targets)
    }

    fn endpoint_targets(
        &self,
        key: &Key,
        endpoint: &EndpointEntry,
        wanted: impl Fn(&Port) -> bool,
    ) -> Vec<(u16, Name, Vec<IpAddr>)> {
        let name = self.zone.endpoint_name(key, &endpoint.hostname);
        let ports = endpoint.ports.iter().filter(|port| wanted(port));
        ports.map(|port| (port.number, name.clone(), vec![endpoint.address])).collect()
    }

    fn srv(&self, targets: &[(u16, Name, Vec<IpAddr>)]) -> Found {
        let weight = u16::try_from((SRV_WEIGHT_SUM / targets.len().max(1)).max(1)).unwrap_or(1);
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        for (port, target, addresses) in targets {
            let answer = self.zone.record(self.name, RData::SRV(SRV::new(0, weight, *port, target.clone())));
            if !answers.contains(&answer) {
                answers.push(answer);
            }
            for address in addresses.iter().filter_map(|address| address_data(*address, RecordType::ANY)) {
                let additional = self.zone.record(target, address);
                if !additionals.contains(&additional) {
                    additionals.push(additional);
                }
            }
        }
        Found::Records { answers, additionals }
    }

    /// `labels` are those before `pod`: an address with dashes and a namespace.
    fn pod(&self, labels: &[&str]) -> Found {
        match labels {
            [namespace] => self.namespace(namespace),
            [address, namespace] if self.index.namespaces.contains(*namespace) => match undashed(address) {
                Some(address) => self.addresses(std::iter::once(address)),
                None => Found::NoName,
            },
            _ => Found::NoName,
        }
    }
}

/// The address as a record of the type, if it is one.
fn address_data(address: IpAddr, kind: RecordType) -> Option<RData> {
    match (address, kind) {
        (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(RData::A(A(v4))),
        (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(v6))),
        _ => None,
    }
}

/// `10-244-0-5` and `fd00--5` back to addresses.
fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}
