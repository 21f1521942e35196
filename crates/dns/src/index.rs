//! What there is in the cluster, by name and by address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use coracle_api_types::k8s_openapi::api::core::v1::Service;
use coracle_api_types::k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Source: `LabelServiceName` of discovery/v1.
const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name of a Service.
pub(crate) type Key = (String, String);

/// The Services, endpoints and namespaces that have names.
#[derive(Debug, Default)]
pub struct Index {
    pub(crate) services: BTreeMap<Key, ServiceEntry>,
    /// By Service, then by slice.
    endpoints: BTreeMap<Key, BTreeMap<String, Vec<EndpointEntry>>>,
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) by_cluster_ip: HashMap<IpAddr, Key>,
    /// The names that an endpoint's address has: Service and host name, with the number of slices that say so.
    by_endpoint: HashMap<IpAddr, BTreeMap<(Key, String), usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceEntry {
    pub(crate) kind: ServiceKind,
    pub(crate) ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceKind {
    ClusterIps(Vec<IpAddr>),
    Headless,
    /// Another name.
    External(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// `tcp`, `udp`, `sctp`
    pub(crate) protocol: String,
    pub(crate) number: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndpointEntry {
    pub(crate) address: IpAddr,
    /// Its own, or its address with dashes.
    pub(crate) hostname: String,
    pub(crate) ports: Vec<Port>,
}

impl Index {
    pub fn new() -> Index {
        Index::default()
    }

    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        if exists {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// A Service is now so; `None` when it is gone.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<&Service>) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(ServiceEntry { kind: ServiceKind::ClusterIps(ips), .. }) = self.services.remove(&key) {
            for ip in ips {
                if self.by_cluster_ip.get(&ip) == Some(&key) {
                    self.by_cluster_ip.remove(&ip);
                }
            }
        }
        let Some(entry) = service.and_then(service_entry) else { return };
        if let ServiceKind::ClusterIps(ips) = &entry.kind {
            self.by_cluster_ip.extend(ips.iter().map(|ip| (*ip, key.clone())));
        }
        self.services.insert(key, entry);
    }

    /// A slice is now so; `old` is as it was given before, for the Service it belonged to.
    pub fn set_slice(&mut self, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) {
        if let Some((key, slice)) = old.and_then(owner) {
            self.remove_slice(&key, &slice);
        }
        let Some((key, slice)) = new.and_then(owner) else { return };
        self.remove_slice(&key, &slice);
        let entries = new.map(endpoint_entries).unwrap_or_default();
        for entry in &entries {
            let names = self.by_endpoint.entry(entry.address).or_default();
            *names.entry((key.clone(), entry.hostname.clone())).or_default() += 1;
        }
        self.endpoints.entry(key).or_default().insert(slice, entries);
    }

    fn remove_slice(&mut self, key: &Key, slice: &str) {
        let Some(slices) = self.endpoints.get_mut(key) else { return };
        let entries = slices.remove(slice).unwrap_or_default();
        if slices.is_empty() {
            self.endpoints.remove(key);
        }
        for entry in entries {
            let Some(names) = self.by_endpoint.get_mut(&entry.address) else { continue };
            let name = (key.clone(), entry.hostname);
            match names.get_mut(&name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    names.remove(&name);
                }
            }
            if names.is_empty() {
                self.by_endpoint.remove(&entry.address);
            }
        }
    }

    /// The ready endpoints of a Service.
    pub(crate) fn endpoints(&self, key: &Key) -> impl Iterator<Item = &EndpointEntry> {
        self.endpoints.get(key).into_iter().flat_map(BTreeMap::values).flatten()
    }

    /// Service and host name of an endpoint's address.
    pub(crate) fn endpoint_names(&self, address: &IpAddr) -> impl Iterator<Item = &(Key, String)> {
        self.by_endpoint.get(address).into_iter().flat_map(BTreeMap::keys)
    }
}

fn service_entry(service: &Service) -> Option<ServiceEntry> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let name = port.name.clone().unwrap_or_default().to_ascii_lowercase();
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        Some(Port { name, protocol, number: u16::try_from(port.port).ok()? })
    });
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        ServiceKind::External(spec.external_name.clone()?)
    } else {
        let several = spec.cluster_ips.as_deref().unwrap_or_default();
        let first = spec.cluster_ip.iter().filter(|_| several.is_empty());
        let texts: Vec<&String> = several.iter().chain(first).collect();
        let ips: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        match texts.first().map(|text| text.as_str()) {
            Some("None") => ServiceKind::Headless,
            _ => ServiceKind::ClusterIps(ips),
        }
    };
    Some(ServiceEntry { kind, ports: ports.collect() })
}

/// The Service of a slice, and the slice's name.
fn owner(slice: &EndpointSlice) -> Option<(Key, String)> {
    let service = slice.metadata.labels.as_ref()?.get(LABEL_SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    Some(((namespace, service.clone()), slice.metadata.name.clone()?))
}

fn endpoint_entries(slice: &EndpointSlice) -> Vec<EndpointEntry> {
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        let name = port.name.clone().unwrap_or_default().to_ascii_lowercase();
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        Some(Port { name, protocol, number: u16::try_from(port.port?).ok()? })
    });
    let ports: Vec<Port> = ports.collect();
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint));
    ready.flat_map(|endpoint| entries_of(endpoint, &ports)).collect()
}

/// The slices of a Service that publishes addresses which are not ready say that they are.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn entries_of(endpoint: &Endpoint, ports: &[Port]) -> Vec<EndpointEntry> {
    let addresses = endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    let named = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty());
    addresses
        .map(|address| EndpointEntry {
            address,
            hostname: named.map_or_else(|| dashed(&address), str::to_ascii_lowercase),
            ports: ports.to_vec(),
        })
        .collect()
}

/// `10-244-0-5`, `fd00--5`
fn dashed(address: &IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}
