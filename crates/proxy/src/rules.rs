//! Services and slices joined, and the table that they make.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use coracle_api_types::k8s_openapi::api::core::v1::Service;
use coracle_api_types::k8s_openapi::api::discovery::v1::EndpointSlice;
use coracle_host_net::{HostNet, Touched, UdpFlow};
use coracle_nft::{Change, Family};
use coracle_plan_network::{HealthCheck, Node, Planner, ServiceName, Settings};

use crate::{Config, Error};

/// Source: `LabelServiceName` of discovery/v1.
const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Source: `IsHeadlessService` of core/v1: slices that no proxy needs.
const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";

/// What the node's table should hold, and how to bring it there.
pub struct Rules {
    host: Arc<dyn HostNet>,
    table: String,
    families: Vec<FamilyRules>,
    services: BTreeMap<ServiceName, Arc<Service>>,
    /// The slices of each Service, by their names.
    slices: BTreeMap<ServiceName, BTreeMap<String, Arc<EndpointSlice>>>,
    /// Services to look at in the next `sync`.
    dirty: BTreeSet<ServiceName>,
}

struct FamilyRules {
    planner: Planner,
    /// The table is what the planner thinks it is.
    installed: bool,
    /// `udp_generation` at which stale flows were last looked for.
    flows_checked: u64,
}

impl Rules {
    /// Nothing is done to the host before the first [`Rules::sync`].
    pub fn new(config: &Config, host: Arc<dyn HostNet>) -> Rules {
        let mut families: Vec<Family> = config.service_cidrs.iter().map(|net| Family::of(net.addr())).collect();
        families.dedup();
        if families.is_empty() {
            families.push(Family::Ip);
        }
        let families = families.into_iter().map(|family| {
            let node = Node { name: config.node_name.clone(), zone: None, pod_cidrs: config.pod_cidrs.clone() };
            let settings = Settings { family, node, service_cidrs: config.service_cidrs.clone() };
            FamilyRules { planner: Planner::new(settings), installed: false, flows_checked: 0 }
        });
        Rules {
            host,
            table: config.table.clone(),
            families: families.collect(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// A Service is now so; `None` when it is gone.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Arc<Service>>) {
        let name = ServiceName::new(namespace, name);
        self.dirty.insert(name.clone());
        match service {
            Some(service) => self.services.insert(name, service),
            None => self.services.remove(&name),
        };
    }

    /// A slice is now so; `old` is as it was given before, for the Service it belonged to.
    pub fn set_slice(&mut self, old: Option<&EndpointSlice>, new: Option<&Arc<EndpointSlice>>) {
        if let Some((service, slice)) = old.and_then(owner) {
            if let Some(slices) = self.slices.get_mut(&service) {
                slices.remove(&slice);
                if slices.is_empty() {
                    self.slices.remove(&service);
                }
            }
            self.dirty.insert(service);
        }
        if let Some(new) = new
            && let Some((service, slice)) = owner(new)
        {
            self.slices.entry(service.clone()).or_default().insert(slice, new.clone());
            self.dirty.insert(service);
        }
    }

    /// The node is in this zone now. All endpoints are chosen anew when it is another.
    pub fn set_zone(&mut self, zone: Option<String>) {
        for family in &mut self.families {
            let settings = family.planner.settings();
            if settings.node.zone == zone {
                continue;
            }
            let node = Node { zone: zone.clone(), ..settings.node.clone() };
            family.planner = Planner::new(Settings { node, ..settings.clone() });
            family.installed = false;
            family.flows_checked = 0;
            self.dirty.extend(self.services.keys().cloned());
        }
    }

    /// Brings the table to what the objects say, then forgets UDP flows that lead elsewhere.
    pub async fn sync(&mut self) -> Result<(), Error> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changes: Vec<Vec<Change>> = Vec::new();
        for family in &mut self.families {
            let mut of_family = Vec::new();
            for name in &dirty {
                let service = self.services.get(name).map(Arc::as_ref);
                let slices: Vec<&EndpointSlice> =
                    self.slices.get(name).into_iter().flat_map(BTreeMap::values).map(Arc::as_ref).collect();
                of_family.extend(family.planner.set(name, service, &slices));
            }
            changes.push(of_family);
        }
        for (index, changes) in changes.into_iter().enumerate() {
            self.install(index, &changes).await?;
            self.forget_flows(index).await?;
        }
        Ok(())
    }

    async fn install(&mut self, index: usize, changes: &[Change]) -> Result<(), Error> {
        let Some(family) = self.families.get_mut(index) else { return Ok(()) };
        let of = family.planner.settings().family;
        if family.installed {
            match self.host.apply(of, &self.table, changes).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(error = error.chain(), "the Service rules are built anew"),
            }
            family.installed = false;
        }
        let mut all = vec![Change::ReplaceTable];
        all.extend(family.planner.whole().changes_from_empty());
        self.host.apply(of, &self.table, &all).await?;
        family.installed = true;
        Ok(())
    }

    /// Builds the table anew if somebody removed it or a part of it.
    pub async fn repair(&mut self, touched: &Touched) -> Result<(), Error> {
        for family in &mut self.families {
            let of = family.planner.settings().family;
            let meddled = touched.names(of, &self.table);
            if family.installed && (meddled || !self.host.has_table(of, &self.table).await?) {
                tracing::warn!(table = self.table, "somebody removed the Service rules; they are built anew");
                family.installed = false;
            }
        }
        self.sync().await
    }

    async fn forget_flows(&mut self, index: usize) -> Result<(), Error> {
        let Some(family) = self.families.get_mut(index) else { return Ok(()) };
        let generation = family.planner.udp_generation();
        if generation == family.flows_checked {
            return Ok(());
        }
        let flows = self.host.udp_flows(family.planner.settings().family).await?;
        if !flows.is_empty() {
            let own: HashSet<IpAddr> = self.host.addresses().await?.into_iter().collect();
            let is_stale = |flow: &UdpFlow| {
                let on_this_host = own.contains(&flow.destination.ip());
                family.planner.is_stale_udp(flow.destination, flow.translated, on_this_host)
            };
            let stale: Vec<UdpFlow> = flows.into_iter().filter(is_stale).collect();
            if !stale.is_empty() {
                let count = self.host.delete_udp_flows(&stale).await?;
                tracing::debug!(count, "forgot UDP flows to endpoints that are gone");
            }
        }
        family.flows_checked = generation;
        Ok(())
    }

    /// What to answer on which health check port.
    pub fn health_checks(&self) -> BTreeMap<u16, HealthCheck> {
        self.families.iter().flat_map(|family| family.planner.health_checks()).collect()
    }
}

/// The Service of a slice, and the slice's name.
fn owner(slice: &EndpointSlice) -> Option<(ServiceName, String)> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.contains_key(LABEL_HEADLESS) {
        return None;
    }
    let service = labels.get(LABEL_SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    Some((ServiceName::new(namespace, service.as_str()), slice.metadata.name.clone()?))
}
