//! Cluster addresses and node ports of Services. What is taken is read from the Services themselves, so that a crash leaks
//! nothing; what requests in flight chose is held until they are done.
//! Source: `pkg/registry/core/service/storage/alloc.go`, `pkg/registry/core/service/ipallocator`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Status, Value};
use coracle_store::{Store, Write};
use ipnet::IpNet;
use serde_json::json;

use crate::bootstrap::first_address;
use crate::config::Config;
use crate::http::Ctx;
use crate::registry::resources::Resource;
use crate::registry::{Target, storage};
use crate::server::Server;
use crate::time;

/// Addresses that are tried at random before the range is walked.
const RANDOM_TRIES: usize = 32;
const HEADLESS: &str = "None";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Taken {
    addresses: HashSet<IpAddr>,
    /// Protocol and port.
    ports: HashSet<(String, u16)>,
}

pub(crate) struct Allocator {
    range: IpNet,
    ports: RangeInclusive<u16>,
    held: Arc<Mutex<Taken>>,
}

/// What one request chose. Let go when dropped.
pub(crate) struct Allocated {
    held: Option<Arc<Mutex<Taken>>>,
    chosen: Taken,
    released: Vec<IpAddr>,
    /// Namespace and name.
    service: (String, String),
}

impl Allocator {
    pub(crate) fn new(config: &Config) -> Self {
        Self { range: config.service_cidr, ports: config.node_ports.clone(), held: Arc::default() }
    }

    fn taken(&self, store: &dyn Store, except: &str) -> Taken {
        let mut taken = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for entry in store.local_range("services", "") {
            if entry.name() == except {
                continue;
            }
            let Ok(service) = serde_json::from_slice::<Value>(&entry.value) else { continue };
            taken.addresses.extend(addresses(&service));
            taken.ports.extend(node_ports(&service));
        }
        taken
    }
}

impl Allocated {
    fn nothing() -> Self {
        Self { held: None, chosen: Taken::default(), released: Vec::new(), service: Default::default() }
    }

    /// Writes that go with the object's own: the IPAddress objects.
    pub(crate) fn writes(&self, server: &Server) -> Vec<Write> {
        let Some(resource) = ip_addresses(server) else { return Vec::new() };
        let made = self.chosen.addresses.iter().map(|address| {
            let object = ip_address(*address, &self.service);
            storage::put(server, &resource, &address.to_string(), &object)
        });
        made.chain(self.released.iter().map(|address| release(&resource, *address))).collect()
    }

    /// The write happened; what was chosen is now in the store.
    pub(crate) fn keep(self) {}
}

impl Drop for Allocated {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.addresses.retain(|address| !self.chosen.addresses.contains(address));
            held.ports.retain(|port| !self.chosen.ports.contains(port));
        }
    }
}

fn addresses(service: &Value) -> Vec<IpAddr> {
    let list = service.at(&["spec", "clusterIPs"]).and_then(Value::as_array);
    let mut texts: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
    texts.push(service.str_at(&["spec", "clusterIP"]));
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

fn node_ports(service: &Value) -> Vec<(String, u16)> {
    let list = service.at(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let mut ports: Vec<(String, u16)> = list
        .filter_map(|port| {
            let number = port.get("nodePort")?.as_u64().filter(|number| *number > 0)?;
            Some((port.str_at(&["protocol"]).to_owned(), u16::try_from(number).ok()?))
        })
        .collect();
    if let Some(number) = service.at(&["spec", "healthCheckNodePort"]).and_then(Value::as_u64).filter(|n| *n > 0) {
        ports.extend(u16::try_from(number).ok().map(|number| ("TCP".to_owned(), number)));
    }
    ports
}

fn is_service(target: &Target) -> bool {
    target.resource.is("", "services")
}

pub(crate) fn on_create(ctx: &Ctx, target: &Target, service: &mut Value) -> Result<Allocated, Status> {
    if !is_service(target) {
        return Ok(Allocated::nothing());
    }
    choose(ctx, target, service, None)
}

pub(crate) fn on_update(
    ctx: &Ctx,
    target: &Target,
    subresource: &str,
    new: &mut Value,
    old: &Value,
) -> Result<Allocated, Status> {
    if !is_service(target) || !subresource.is_empty() || new.get("spec") == old.get("spec") {
        return Ok(Allocated::nothing());
    }
    choose(ctx, target, new, Some(old))
}

/// The IPAddress objects of a Service go with it.
pub(crate) fn on_delete(server: &Server, resource: &Resource, object: &Value) -> Vec<Write> {
    if !resource.is("", "services") {
        return Vec::new();
    }
    let Some(resource) = ip_addresses(server) else { return Vec::new() };
    let own: HashSet<IpAddr> = addresses(object).into_iter().collect();
    own.into_iter().map(|address| release(&resource, address)).collect()
}

fn ip_addresses(server: &Server) -> Option<Arc<Resource>> {
    server.resources().find("networking.k8s.io", "v1", "ipaddresses")
}

fn release(resource: &Resource, address: IpAddr) -> Write {
    Write::Delete { key: storage::key(resource, &address.to_string()) }
}

/// Source: `pkg/registry/core/service/ipallocator/ipallocator.go`.
fn ip_address(address: IpAddr, (namespace, name): &(String, String)) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": address.to_string(), "uid": time::uid(), "generation": 1, "creationTimestamp": time::now_text(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    })
}

fn choose(ctx: &Ctx, target: &Target, service: &mut Value, old: Option<&Value>) -> Result<Allocated, Status> {
    let allocator = &ctx.server.state.services;
    let own = crate::registry::resources::item_name_of(service);
    let taken = allocator.taken(&*ctx.server.store, &own);
    let mut chosen = Taken::default();
    let mut errors = Vec::new();
    let kept: HashSet<IpAddr> = old.map(addresses).into_iter().flatten().collect();
    choose_address(allocator, service, &taken, &kept, &mut chosen, &mut errors);
    choose_ports(allocator, service, &taken, &mut chosen, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(&target.resource.gvk(), service.name(), &errors));
    }
    let mut held = allocator.held.lock().unwrap_or_else(PoisonError::into_inner);
    held.addresses.extend(&chosen.addresses);
    held.ports.extend(chosen.ports.iter().cloned());
    drop(held);
    let now: HashSet<IpAddr> = addresses(service).into_iter().collect();
    let released = kept.into_iter().filter(|address| !now.contains(address)).collect();
    let service = (service.namespace().to_owned(), service.name().to_owned());
    Ok(Allocated { held: Some(Arc::clone(&allocator.held)), chosen, released, service })
}

fn choose_address(
    allocator: &Allocator,
    service: &mut Value,
    taken: &Taken,
    kept: &HashSet<IpAddr>,
    chosen: &mut Taken,
    errors: &mut Vec<FieldError>,
) {
    let kind = service.str_at(&["spec", "type"]).to_owned();
    if kind == "ExternalName" {
        return;
    }
    let family = if allocator.range.addr().is_ipv4() { "IPv4" } else { "IPv6" };
    let wanted = service.str_at(&["spec", "clusterIP"]).to_owned();
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if wanted == HEADLESS {
        spec.insert("clusterIPs".to_owned(), json!([HEADLESS]));
    } else if wanted.is_empty() {
        let path = FieldPath::new("spec").child("clusterIPs");
        match free_address(&allocator.range, taken) {
            Some(address) => {
                chosen.addresses.insert(address);
                spec.insert("clusterIP".to_owned(), address.to_string().into());
                spec.insert("clusterIPs".to_owned(), json!([address.to_string()]));
            }
            None => errors.push(FieldError::internal(&path, "failed to allocate a serviceIP: range is full")),
        }
    } else if let Ok(address) = wanted.parse::<IpAddr>() {
        let path = FieldPath::new("spec").child("clusterIPs");
        let shown = json!([wanted]);
        if kept.contains(&address) {
        } else if !allocator.range.contains(&address) {
            let why = format!(
                "failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {}",
                allocator.range.trunc()
            );
            errors.push(FieldError::invalid(&path, shown, why));
        } else if taken.addresses.contains(&address) {
            let why = format!("failed to allocate IP {wanted}: provided IP is already allocated");
            errors.push(FieldError::invalid(&path, shown, why));
        } else {
            chosen.addresses.insert(address);
        }
        spec.entry("clusterIPs").or_insert_with(|| json!([wanted]));
    }
    spec.entry("ipFamilies").or_insert_with(|| json!([family]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| "SingleStack".into());
}

/// Random above the part of the range that is kept for addresses asked for by name (KEP-3070), then anywhere.
fn free_address(range: &IpNet, taken: &Taken) -> Option<IpAddr> {
    let base = first_address(range);
    let bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(20);
    let size = (1_u128 << bits).saturating_sub(2).max(1);
    let at = |offset: u128| match base {
        IpAddr::V4(first) => IpAddr::from((u32::from(first) + u32::try_from(offset).unwrap_or(0)).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first) + offset).to_be_bytes()),
    };
    let reserved = (size / 16).clamp(16, 256).min(size / 2);
    let free = |address: &IpAddr| *address != base && !taken.addresses.contains(address);
    let random = (0..RANDOM_TRIES).map(|_| at(rand::random_range(reserved..size)));
    random.chain((reserved..size).map(at)).chain((1..reserved).map(at)).find(free)
}

fn choose_ports(
    allocator: &Allocator,
    service: &mut Value,
    taken: &Taken,
    chosen: &mut Taken,
    errors: &mut Vec<FieldError>,
) {
    let kind = service.str_at(&["spec", "type"]).to_owned();
    let automatic = service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool).unwrap_or(true);
    let wanted = kind == "NodePort" || (kind == "LoadBalancer" && automatic);
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        return;
    }
    let mut own: HashSet<(String, u16)> = node_ports(service).into_iter().collect();
    let list = service.get_mut("spec").and_then(|spec| spec.get_mut("ports")).and_then(Value::as_array_mut);
    for (index, port) in list.into_iter().flatten().enumerate() {
        let protocol = port.str_at(&["protocol"]).to_owned();
        let number = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0);
        let path = FieldPath::new("spec").child("ports").index(index).child("nodePort");
        if number == 0 {
            if !wanted {
                continue;
            }
            let Some(free) = free_port(allocator, &protocol, taken, &own) else {
                errors.push(FieldError::internal(&path, "failed to allocate a nodePort: range is full"));
                continue;
            };
            port["nodePort"] = free.into();
            own.insert((protocol.clone(), free));
            chosen.ports.insert((protocol, free));
            continue;
        }
        let small = u16::try_from(number).unwrap_or(0);
        if taken.ports.contains(&(protocol.clone(), small)) {
            errors.push(FieldError::invalid(&path, number, "provided port is already allocated"));
        } else if !allocator.ports.contains(&small) {
            let (first, last) = (allocator.ports.start(), allocator.ports.end());
            let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
            errors.push(FieldError::invalid(&path, number, why));
        } else {
            chosen.ports.insert((protocol, small));
        }
    }
}

fn free_port(allocator: &Allocator, protocol: &str, taken: &Taken, own: &HashSet<(String, u16)>) -> Option<u16> {
    let free = |port: &u16| {
        let key = (protocol.to_owned(), *port);
        !taken.ports.contains(&key) && !own.contains(&key)
    };
    let random = (0..RANDOM_TRIES).map(|_| rand::random_range(allocator.ports.clone()));
    random.chain(allocator.ports.clone()).find(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_range_and_run_out() {
        let range: IpNet = "10.96.0.0/28".parse().expect("range");
        let mut taken = Taken::default();
        let mut seen = 0;
        while let Some(address) = free_address(&range, &taken) {
            assert!(range.contains(&address) && address != first_address(&range));
            assert!(taken.addresses.insert(address));
            seen += 1;
        }
        assert_eq!(seen, 13, "all but network, broadcast and the server's own");
    }
}
