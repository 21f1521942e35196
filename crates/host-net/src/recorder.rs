//! A host that writes down what it was asked, for the tests of those who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use coracle_nft::{Change, Family};
use ipnet::IpNet;
use tokio::sync::mpsc;

use crate::host::{BridgeSpec, HostNet, PodInterface, Port, RouteTo, UdpFlow, VethSpec};
use crate::{Meddling, Result, Touched};

/// Succeeds at everything and keeps a line for each call that changes something.
#[derive(Default)]
pub struct Recorder {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ports: BTreeMap<String, BTreeSet<String>>,
    sysctls: BTreeMap<String, String>,
    tables: BTreeSet<String>,
    changes: Vec<(String, Vec<Change>)>,
    flows: Vec<UdpFlow>,
    routes: Vec<RouteTo>,
    listeners: Vec<mpsc::Sender<Touched>>,
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, line: String) {
        self.state().lines.push(line);
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state().lines)
    }

    /// The transactions since the last call: table and changes.
    pub fn take_changes(&self) -> Vec<(String, Vec<Change>)> {
        std::mem::take(&mut self.state().changes)
    }

    /// The routes that others have made.
    pub fn set_routes(&self, routes: Vec<RouteTo>) {
        self.state().routes = routes;
    }

    /// Somebody else removes rules of the table.
    pub fn meddle(&self, family: Family, table: &str) {
        let report = Touched::Tables(BTreeSet::from([(family, table.to_owned())]));
        self.state().listeners.retain(|listener| listener.try_send(report.clone()).is_ok());
    }

    /// The flows that connection tracking has from now on.
    pub fn set_udp_flows(&self, flows: Vec<UdpFlow>) {
        self.state().flows = flows;
    }
}

#[async_trait]
impl HostNet for Recorder {
    async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<()> {
        let addresses: Vec<String> = spec.addresses.iter().map(IpNet::to_string).collect();
        self.state().ports.entry(spec.name.clone()).or_default();
        self.note(format!("bridge {} mtu {} {}", spec.name, spec.mtu, addresses.join(" ")));
        Ok(())
    }

    async fn delete_link(&self, name: &str) -> Result<bool> {
        let mut state = self.state();
        let was_bridge = state.ports.remove(name).is_some();
        let was_port = state.ports.values_mut().any(|ports| ports.remove(name));
        state.lines.push(format!("delete link {name}"));
        Ok(was_bridge || was_port)
    }

    async fn add_veth(&self, spec: &VethSpec) -> Result<()> {
        self.state().ports.entry(spec.bridge.clone()).or_default().insert(spec.name.clone());
        self.note(format!("veth {} on {} to {} of {}", spec.name, spec.bridge, spec.peer_name, spec.netns.display()));
        Ok(())
    }

    async fn configure_pod(&self, netns: &Path, interface: &PodInterface) -> Result<()> {
        let PodInterface { name, addresses, gateways } = interface;
        self.note(format!("pod {}: {name} {addresses:?} by {gateways:?}", netns.display()));
        Ok(())
    }

    async fn pod_addresses(&self, _netns: &Path, _interface: &str) -> Result<Option<Vec<IpAddr>>> {
        Ok(None)
    }

    async fn bridge_ports(&self, bridge: &str) -> Result<Vec<Port>> {
        let state = self.state();
        let ports = state.ports.get(bridge).into_iter().flatten();
        Ok(ports.map(|name| Port { name: name.clone() }).collect())
    }

    async fn default_mtu(&self) -> Result<Option<u32>> {
        Ok(Some(1500))
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1])])
    }

    async fn routes(&self) -> Result<Vec<RouteTo>> {
        Ok(self.state().routes.clone())
    }

    async fn replace_route(&self, net: IpNet, device: &str, source: IpAddr) -> Result<()> {
        self.note(format!("route {net} dev {device} src {source}"));
        Ok(())
    }

    async fn delete_route(&self, net: IpNet, device: &str) -> Result<()> {
        self.note(format!("delete route {net} dev {device}"));
        Ok(())
    }

    async fn sysctl(&self, key: &str) -> Result<Option<String>> {
        Ok(Some(self.state().sysctls.get(key).cloned().unwrap_or_else(|| "0".to_owned())))
    }

    async fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.state().sysctls.insert(key.to_owned(), value.to_owned());
        self.note(format!("sysctl {key} = {value}"));
        Ok(())
    }

    async fn apply(&self, family: Family, table: &str, changes: &[Change]) -> Result<()> {
        let name = format!("{family} {table}");
        let mut state = self.state();
        for change in changes {
            match change {
                Change::DeleteTable => state.tables.remove(&name),
                Change::ReplaceTable => state.tables.insert(name.clone()),
                _ => continue,
            };
        }
        state.lines.push(format!("{} changes to table {name}", changes.len()));
        state.changes.push((name, changes.to_vec()));
        Ok(())
    }

    async fn tables(&self, family: Family) -> Result<Vec<String>> {
        let prefix = format!("{family} ");
        let state = self.state();
        Ok(state.tables.iter().filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned())).collect())
    }

    fn meddling(&self) -> Meddling {
        let (tell, meddling) = Meddling::channel();
        self.state().listeners.push(tell);
        meddling
    }

    async fn admit(&self, interface: &str) -> Result<usize> {
        self.note(format!("admit {interface}"));
        Ok(0)
    }

    async fn withdraw(&self, interface: &str) -> Result<usize> {
        self.note(format!("withdraw {interface}"));
        Ok(0)
    }

    async fn udp_flows(&self, _family: Family) -> Result<Vec<UdpFlow>> {
        Ok(self.state().flows.clone())
    }

    async fn delete_udp_flows(&self, flows: &[UdpFlow]) -> Result<usize> {
        let mut state = self.state();
        let before = state.flows.len();
        state.flows.retain(|flow| !flows.contains(flow));
        let deleted = before - state.flows.len();
        state.lines.push(format!("forgot {deleted} UDP flows"));
        Ok(deleted)
    }
}
