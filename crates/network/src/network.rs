//! The pod network: gives sandboxes their interface, addresses, routes and host ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use coracle_cri::{PodNetwork, PodNetworkRequest, PodNetworkStatus};
use coracle_host_net::{BridgeSpec, HostNet, Meddling, PodInterface, Touched, UdpFlow, VethSpec};
use coracle_nft::{Change, Family, Parts, Proto};
use ipnet::IpNet;

use crate::host_ports::{goes_to, host_ports, leads};
use crate::journal::Journal;
use crate::names::{VETH_PREFIX, pod_mac, veth_name};
use crate::pool::Pool;
use crate::rules::{self, HostPort};
use crate::{Config, Error};

/// The name of a pod's interface.
const POD_INTERFACE: &str = "eth0";
/// MTU when nothing says otherwise: Ethernet's.
const MTU_DEFAULT: u32 = 1500;
/// How often the rules are looked for, besides when the kernel tells that somebody touched them.
const REPAIR_EVERY: Duration = Duration::from_secs(30);

pub struct Network {
    config: Config,
    mtu: u32,
    host: Arc<dyn HostNet>,
    state: Mutex<State>,
    /// What the kernel's tables hold. One transaction at a time, so that each starts from what the last one left.
    tables: tokio::sync::Mutex<BTreeMap<Family, Parts>>,
}

#[derive(Default)]
struct State {
    pools: Vec<Pool>,
    /// By sandbox.
    sandboxes: BTreeMap<String, Sandbox>,
}

#[derive(Debug, Clone, Default)]
struct Sandbox {
    ips: Vec<IpAddr>,
    host_ports: Vec<HostPort>,
}

impl Network {
    /// Prepares the host: forwarding, the bridge, the routes to the Services. The table is left as it is if there is
    /// one, so that the host ports of running pods work on until `reconcile` says which they are.
    pub async fn start(config: Config, host: Arc<dyn HostNet>) -> Result<Arc<Network>, Error> {
        let pools = pools(&config.pod_cidrs)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => host.default_mtu().await?.unwrap_or(MTU_DEFAULT),
        };
        let state = Mutex::new(State { pools, sandboxes: BTreeMap::new() });
        let network = Network { config, mtu, host, state, tables: tokio::sync::Mutex::default() };
        network.prepare_host().await?;
        for family in network.families() {
            if !network.host.has_table(family, &network.config.table).await? {
                network.replace_table(family).await?;
            }
        }
        let network = Arc::new(network);
        tokio::spawn(keep(Arc::downgrade(&network), network.host.meddling()));
        Ok(network)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn families(&self) -> Vec<Family> {
        self.state().pools.iter().map(|pool| Family::of(pool.gateway())).collect()
    }

    /// The bridge's own addresses: what pods use as gateway, and where the host can offer them something.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.state().pools.iter().map(Pool::gateway).collect()
    }

    async fn prepare_host(&self) -> Result<(), Error> {
        let pools = self.state().pools.clone();
        if pools.is_empty() {
            return Ok(());
        }
        self.check_free(&pools).await?;
        let addresses =
            pools.iter().filter_map(|pool| IpNet::new(pool.gateway(), pool.cidr().prefix_len()).ok()).collect();
        let bridge = &self.config.bridge;
        self.host.ensure_bridge(&BridgeSpec { name: bridge.clone(), addresses, mtu: self.mtu }).await?;
        self.set_sysctls(&pools).await?;
        self.admit().await?;
        for pool in &pools {
            let gateway = pool.gateway();
            for net in self.config.service_cidrs.iter().filter(|net| net.addr().is_ipv4() == gateway.is_ipv4()) {
                self.host.replace_route(*net, bridge, gateway).await?;
            }
        }
        Ok(())
    }

    /// What is ours alone is not where somebody else's packets go. A wider network around ours does no harm.
    async fn check_free(&self, pools: &[Pool]) -> Result<(), Error> {
        let pods = pools.iter().map(|pool| ("pod CIDR", pool.cidr()));
        let services = self.config.service_cidrs.iter().map(|net| ("service CIDR", net.trunc()));
        let ours: Vec<(&str, IpNet)> = pods.chain(services).collect();
        for route in self.host.routes().await? {
            if route.device == self.config.bridge {
                continue;
            }
            if let Some((what, cidr)) = ours.iter().find(|(_, cidr)| cidr.contains(&route.net)) {
                return Err(Error::Taken { what, cidr: *cidr, taken: route.net, device: route.device });
            }
        }
        Ok(())
    }

    async fn admit(&self) -> Result<(), Error> {
        let rules = self.host.admit(&self.config.bridge).await?;
        if rules > 0 {
            tracing::info!(rules, bridge = self.config.bridge, "the host's firewall lets pods pass");
        }
        Ok(())
    }

    /// Puts back what other programs removed: firewalls flush all tables when they restart.
    async fn repair(&self, touched: &Touched) -> Result<(), Error> {
        if self.state().pools.is_empty() {
            return Ok(());
        }
        self.admit().await?;
        for family in self.families() {
            let ours = self.tables.lock().await.contains_key(&family);
            let table = &self.config.table;
            if ours && (touched.names(family, table) || !self.host.has_table(family, table).await?) {
                tracing::warn!(table, "somebody removed the pods' rules; they are built anew");
                self.replace_table(family).await?;
            }
        }
        Ok(())
    }

    async fn set_sysctls(&self, pools: &[Pool]) -> Result<(), Error> {
        let dir = self.config.state_dir.as_deref();
        let mut journal = Journal::load(dir);
        for pool in pools {
            let key = match Family::of(pool.gateway()) {
                Family::Ip => "net/ipv4/ip_forward",
                Family::Ip6 => "net/ipv6/conf/all/forwarding",
            };
            journal.set(&*self.host, dir, key, "1").await?;
        }
        // Pods are not to be told that they could reach each other without us; and whoever was just told so gets no
        // "port unreachable" for a while. Either of the two alone would turn it on; other interfaces keep their own.
        journal.set(&*self.host, dir, "net/ipv4/conf/all/send_redirects", "0").await?;
        // Of the bridge alone, and gone with it; what is sent to 127.0.0.1 may be translated to a pod.
        for (name, value) in [("send_redirects", "0"), ("route_localnet", "1")] {
            let key = format!("net/ipv4/conf/{}/{name}", self.config.bridge);
            self.host.set_sysctl(&key, value).await?;
        }
        Ok(())
    }

    fn wanted_table(&self, family: Family) -> Parts {
        let state = self.state();
        let Some(pool) = state.pools.iter().find(|pool| Family::of(pool.gateway()) == family) else {
            return Parts::default();
        };
        let host_ports = state.sandboxes.iter().map(|(id, sandbox)| (id.clone(), sandbox.host_ports.clone())).collect();
        rules::table(&rules::Inputs {
            bridge: &self.config.bridge,
            pod_cidr: pool.cidr(),
            non_masquerade_cidrs: &self.config.non_masquerade_cidrs,
            host_ports: &host_ports,
        })
    }

    async fn replace_table(&self, family: Family) -> Result<(), Error> {
        let mut tables = self.tables.lock().await;
        let wanted = self.wanted_table(family);
        let mut changes = vec![Change::ReplaceTable];
        changes.extend(wanted.changes_from_empty());
        self.host.apply(family, &self.config.table, &changes).await?;
        tables.insert(family, wanted);
        Ok(())
    }

    /// Brings the tables to what the sandboxes want, by the difference alone.
    async fn update_tables(&self) -> Result<(), Error> {
        for family in self.families() {
            let mut tables = self.tables.lock().await;
            let Some(current) = tables.get(&family) else {
                drop(tables);
                self.replace_table(family).await?;
                continue;
            };
            let wanted = self.wanted_table(family);
            let changes = current.changes_to(&wanted);
            if !changes.is_empty() {
                self.host.apply(family, &self.config.table, &changes).await?;
                tables.insert(family, wanted);
            }
        }
        Ok(())
    }

    /// The addresses the sandbox has or is given now, and whether it had them already.
    fn allocate(&self, request: &PodNetworkRequest) -> Result<Vec<IpAddr>, Error> {
        let mut state = self.state();
        let id = &request.sandbox_id;
        if let Some(known) = state.sandboxes.get(id) {
            return Ok(known.ips.clone());
        }
        if state.pools.is_empty() {
            return Err(Error::NoPodCidr);
        }
        let before: Vec<IpAddr> = request.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let mut ips = Vec::new();
        for pool in &mut state.pools {
            let kept = before.iter().find(|ip| pool.reserve(**ip, id)).copied();
            match kept.or_else(|| pool.allocate(id)) {
                Some(ip) => ips.push(ip),
                None => {
                    let cidr = pool.cidr();
                    state.pools.iter_mut().for_each(|pool| pool.release(id));
                    return Err(Error::Exhausted(cidr));
                }
            }
        }
        let host_ports = match host_ports(request, &ips) {
            Ok(host_ports) => host_ports,
            Err(error) => {
                state.pools.iter_mut().for_each(|pool| pool.release(id));
                return Err(error);
            }
        };
        state.sandboxes.insert(id.clone(), Sandbox { ips: ips.clone(), host_ports });
        Ok(ips)
    }

    /// Its host ports.
    fn release(&self, sandbox_id: &str) -> Vec<HostPort> {
        let mut state = self.state();
        state.pools.iter_mut().for_each(|pool| pool.release(sandbox_id));
        state.sandboxes.remove(sandbox_id).map(|sandbox| sandbox.host_ports).unwrap_or_default()
    }

    fn host_ports_of(&self, sandbox_id: &str) -> Vec<HostPort> {
        self.state().sandboxes.get(sandbox_id).map(|sandbox| sandbox.host_ports.clone()).unwrap_or_default()
    }

    /// UDP flows keep their translation as long as they go on, also to a pod that is gone, and also none at all.
    async fn forget_flows(&self, changed: &[HostPort]) -> Result<(), Error> {
        let udp: Vec<&HostPort> = changed.iter().filter(|port| port.protocol == Proto::Udp).collect();
        if udp.is_empty() {
            return Ok(());
        }
        let own = self.host.addresses().await?;
        let current: Vec<HostPort> =
            self.state().sandboxes.values().flat_map(|sandbox| sandbox.host_ports.clone()).collect();
        for family in self.families() {
            let is_stale = |flow: &UdpFlow| {
                let concerned = udp.iter().any(|port| leads(port, flow, &own));
                concerned && !current.iter().any(|port| leads(port, flow, &own) && goes_to(port, flow))
            };
            let stale: Vec<UdpFlow> = self.host.udp_flows(family).await?.into_iter().filter(is_stale).collect();
            if !stale.is_empty() {
                self.host.delete_udp_flows(&stale).await?;
            }
        }
        Ok(())
    }

    async fn connect(&self, request: &PodNetworkRequest, ips: &[IpAddr]) -> Result<(), Error> {
        let netns = Path::new(&request.netns_path);
        let there = self.host.pod_addresses(netns, POD_INTERFACE).await?;
        let connected = there.is_some_and(|there| ips.iter().all(|ip| there.contains(ip)));
        if !connected {
            let veth = VethSpec {
                name: veth_name(&request.sandbox_id),
                bridge: self.config.bridge.clone(),
                mtu: self.mtu,
                netns: PathBuf::from(netns),
                peer_name: POD_INTERFACE.to_owned(),
                peer_mac: pod_mac(ips),
            };
            self.host.add_veth(&veth).await?;
        }
        let interface =
            PodInterface { name: POD_INTERFACE.to_owned(), addresses: ips.to_vec(), gateways: self.gateways() };
        self.host.configure_pod(netns, &interface).await?;
        let host_ports = self.host_ports_of(&request.sandbox_id);
        if !host_ports.is_empty() {
            self.update_tables().await?;
            self.forget_flows(&host_ports).await?;
        }
        Ok(())
    }

    async fn disconnect(&self, sandbox_id: &str) -> Result<(), Error> {
        self.host.delete_link(&veth_name(sandbox_id)).await?;
        // The address is free only when nothing answers at it any more.
        let host_ports = self.release(sandbox_id);
        if !host_ports.is_empty() {
            self.update_tables().await?;
            self.forget_flows(&host_ports).await?;
        }
        Ok(())
    }

    async fn adopt(&self, live: &[PodNetworkRequest]) -> Result<(), Error> {
        self.note_live(live)?;
        let names: BTreeSet<String> = live.iter().map(|request| veth_name(&request.sandbox_id)).collect();
        for port in self.host.bridge_ports(&self.config.bridge).await? {
            if port.name.starts_with(VETH_PREFIX) && !names.contains(&port.name) {
                self.host.delete_link(&port.name).await?;
            }
        }
        for family in self.families() {
            self.replace_table(family).await?;
        }
        Ok(())
    }

    fn note_live(&self, live: &[PodNetworkRequest]) -> Result<(), Error> {
        let mut state = self.state();
        let fresh: Vec<Option<Pool>> = state.pools.iter().map(|pool| Pool::new(pool.cidr())).collect();
        state.pools = fresh.into_iter().flatten().collect();
        state.sandboxes.clear();
        for request in live {
            let mut ips: Vec<IpAddr> = request.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
            ips.retain(|ip| state.pools.iter_mut().any(|pool| pool.reserve(*ip, &request.sandbox_id)));
            if ips.is_empty() {
                // Never set up, or of another pod CIDR: it is not ours to keep an address for.
                continue;
            }
            let host_ports = host_ports(request, &ips)?;
            state.sandboxes.insert(request.sandbox_id.clone(), Sandbox { ips, host_ports });
        }
        Ok(())
    }

    async fn change_pod_cidrs(&self, text: &str) -> Result<(), Error> {
        let mut cidrs = Vec::new();
        for cidr in text.split(',').map(str::trim).filter(|cidr| !cidr.is_empty()) {
            let parsed = cidr.parse::<IpNet>();
            cidrs.push(parsed.map_err(|error| invalid_cidr(cidr, error))?.trunc());
        }
        let new = pools(&cidrs)?;
        {
            let mut state = self.state();
            let old: Vec<IpNet> = state.pools.iter().map(Pool::cidr).collect();
            if old == cidrs {
                return Ok(());
            }
            let pods = state.pools.iter().map(Pool::len).max().unwrap_or(0);
            if pods > 0 {
                let old = old.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",");
                return Err(Error::PodCidrInUse { old, new: text.to_owned(), pods });
            }
            state.pools = new;
        }
        self.prepare_host().await?;
        for family in self.families() {
            self.replace_table(family).await?;
        }
        Ok(())
    }
}

/// Looks after the network as long as somebody has it.
async fn keep(network: Weak<Network>, mut meddling: Meddling) {
    let mut ticks = tokio::time::interval(REPAIR_EVERY);
    ticks.tick().await;
    loop {
        let touched = tokio::select! {
            _ = ticks.tick() => Touched::Unknown,
            touched = meddling.next() => touched,
        };
        let Some(network) = network.upgrade() else { return };
        if let Err(error) = network.repair(&touched).await {
            tracing::error!(%error, "the pods' rules could not be looked after");
        }
    }
}

fn invalid_cidr(cidr: &str, why: impl ToString) -> Error {
    Error::InvalidPodCidr { cidr: cidr.to_owned(), why: why.to_string() }
}

fn pools(cidrs: &[IpNet]) -> Result<Vec<Pool>, Error> {
    let mut pools: Vec<Pool> = Vec::new();
    for cidr in cidrs {
        let pool = Pool::new(*cidr).ok_or_else(|| invalid_cidr(&cidr.to_string(), "it has no room for a pod"))?;
        if pools.iter().any(|other| other.gateway().is_ipv4() == pool.gateway().is_ipv4()) {
            return Err(invalid_cidr(&cidr.to_string(), "there is another one of the family"));
        }
        pools.push(pool);
    }
    Ok(pools)
}

#[async_trait]
impl PodNetwork for Network {
    async fn ready(&self) -> Result<(), String> {
        if self.state().pools.is_empty() { Err(Error::NoPodCidr.to_string()) } else { Ok(()) }
    }

    async fn setup(&self, request: &PodNetworkRequest) -> coracle_cri::Result<PodNetworkStatus> {
        let ips = self.allocate(request)?;
        if let Err(error) = self.connect(request, &ips).await {
            if let Err(undo) = self.disconnect(&request.sandbox_id).await {
                tracing::warn!(sandbox = request.sandbox_id, error = %undo, "a half-made pod network was not undone");
            }
            return Err(error.into());
        }
        Ok(PodNetworkStatus { ips: ips.iter().map(IpAddr::to_string).collect() })
    }

    async fn teardown(&self, request: &PodNetworkRequest) -> coracle_cri::Result<()> {
        Ok(self.disconnect(&request.sandbox_id).await?)
    }

    async fn reconcile(&self, live: &[PodNetworkRequest]) -> coracle_cri::Result<()> {
        Ok(self.adopt(live).await?)
    }

    async fn set_pod_cidr(&self, pod_cidr: &str) -> coracle_cri::Result<()> {
        Ok(self.change_pod_cidrs(pod_cidr).await?)
    }
}
