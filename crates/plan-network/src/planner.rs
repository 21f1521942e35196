//! The table as the sum of the Services' shares.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use coracle_nft::{Change, Data, Elements, Key, Parts};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::base::base;
use crate::service::ServiceView;
use crate::share::Share;
use crate::{ServiceName, Settings};

/// What a load balancer is told on a Service's health check port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub service: ServiceName,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
}

/// Set and key of an element.
type ElementKey = (String, Key);

/// What is in the table, by Service.
#[derive(Debug, Clone)]
pub struct Planner {
    settings: Settings,
    shares: BTreeMap<ServiceName, Share>,
    /// Who wants which element; the first by name gets it.
    claims: BTreeMap<ElementKey, BTreeMap<ServiceName, Option<Data>>>,
    /// Where UDP may go, of all shares.
    udp: BTreeMap<(Option<IpAddr>, u16), BTreeSet<SocketAddr>>,
    udp_generation: u64,
}

impl Planner {
    pub fn new(settings: Settings) -> Planner {
        let (shares, claims, udp) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Planner { settings, shares, claims, udp, udp_generation: 0 }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes the Service as it is now, with the slices that name it (and no others); `None` when it is gone. Returns
    /// what has to be done to the table; nothing when nothing that matters has changed.
    pub fn set(&mut self, name: &ServiceName, service: Option<&Service>, slices: &[&EndpointSlice]) -> Vec<Change> {
        let view = service.and_then(|service| ServiceView::new(service, self.settings.family));
        let new = view.map(|view| Share::new(&self.settings, &view, slices)).unwrap_or_default();
        let old = self.shares.remove(name).unwrap_or_default();
        let keys: BTreeSet<&ElementKey> = old.parts.elements.keys().chain(new.parts.elements.keys()).collect();
        let before = self.effective(&keys);
        for key in old.parts.elements.keys() {
            self.unclaim(key, name);
        }
        for (key, data) in &new.parts.elements {
            self.claims.entry(key.clone()).or_default().insert(name.clone(), data.clone());
        }
        let after = self.effective(&keys);
        if old.udp != new.udp {
            self.udp_generation += 1;
            old.udp.keys().for_each(|destination| {
                self.udp.remove(destination);
            });
            self.udp.extend(new.udp.clone());
        }
        let old_parts = Parts { elements: before, ..old.parts };
        let new_parts = Parts { elements: after, ..new.parts.clone() };
        let changes = old_parts.changes_to(&new_parts);
        if new != Share::default() {
            self.shares.insert(name.clone(), new);
        }
        changes
    }

    fn effective(&self, keys: &BTreeSet<&ElementKey>) -> Elements {
        let winner = |key: &ElementKey| {
            let claims = self.claims.get(key)?;
            claims.values().next().map(|data| (key.clone(), data.clone()))
        };
        keys.iter().filter_map(|key| winner(key)).collect()
    }

    fn unclaim(&mut self, key: &ElementKey, name: &ServiceName) {
        if let Some(claims) = self.claims.get_mut(key) {
            claims.remove(name);
            if claims.is_empty() {
                self.claims.remove(key);
            }
        }
    }

    /// The whole table.
    pub fn whole(&self) -> Parts {
        let mut whole = base(&self.settings);
        for share in self.shares.values() {
            whole.chains.extend(share.parts.chains.clone());
            whole.sets.extend(share.parts.sets.clone());
        }
        let winners =
            self.claims.iter().filter_map(|(key, claims)| Some((key.clone(), claims.values().next()?.clone())));
        whole.elements.extend(winners);
        whole
    }

    /// The Services that are in the table.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.shares.keys()
    }

    /// Grows whenever flows may have become stale.
    pub fn udp_generation(&self) -> u64 {
        self.udp_generation
    }

    /// Whether a UDP flow goes where it should not any more: to an endpoint that is gone, nowhere though there are
    /// endpoints now, or to a Service that is gone. `on_this_host` says whether the destination is the host's own.
    pub fn is_stale_udp(&self, destination: SocketAddr, translated: SocketAddr, on_this_host: bool) -> bool {
        let by_address = (Some(destination.ip()), destination.port());
        let by_port = (None, destination.port());
        let at_node_port = || if on_this_host { self.udp.get(&by_port) } else { None };
        let targets = self.udp.get(&by_address).or_else(at_node_port);
        match targets {
            Some(targets) if translated == destination => !targets.is_empty(),
            Some(targets) => !targets.contains(&translated),
            None => self.settings.service_cidrs.iter().any(|net| net.contains(&destination.ip())),
        }
    }

    /// By port.
    pub fn health_checks(&self) -> BTreeMap<u16, HealthCheck> {
        self.shares.values().filter_map(|share| share.health_check.clone()).collect()
    }
}
