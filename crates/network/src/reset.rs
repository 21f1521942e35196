//! Takes back what the network did to the host.

use coracle_host_net::HostNet;
use coracle_nft::{Change, Family};

use crate::Config;
use crate::journal::Journal;
use crate::names::VETH_PREFIX;

/// Something that could not be removed or restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// `link coracle0`, `nftables table ip coracle-network`, `sysctl net/ipv4/ip_forward`.
    pub what: String,
    pub why: String,
}

/// Removes the pods' links, the bridge with its routes, the tables, and restores the sysctls. What fails is reported
/// and does not stop the rest. Only names and the folder of the config are used.
pub async fn reset(config: &Config, host: &dyn HostNet) -> Vec<Leftover> {
    let mut left = Vec::new();
    for family in [Family::Ip, Family::Ip6] {
        let removed = host.apply(family, &config.table, &[Change::DeleteTable]).await;
        note(&mut left, format!("nftables table {family} {}", config.table), removed);
    }
    let withdrawn = host.withdraw(&config.bridge).await;
    note(&mut left, format!("rules for {} in the host's firewall", config.bridge), withdrawn.map(|_| ()));
    match host.bridge_ports(&config.bridge).await {
        Ok(ports) => {
            for port in ports.iter().filter(|port| port.name.starts_with(VETH_PREFIX)) {
                let removed = host.delete_link(&port.name).await;
                note(&mut left, format!("link {}", port.name), removed.map(|_| ()));
            }
        }
        Err(error) => note(&mut left, format!("ports of {}", config.bridge), Err(error)),
    }
    let removed = host.delete_link(&config.bridge).await;
    note(&mut left, format!("link {}", config.bridge), removed.map(|_| ()));
    restore_sysctls(config, host, &mut left).await;
    left
}

/// The last cluster on the host restores what the first one found.
async fn restore_sysctls(config: &Config, host: &dyn HostNet, left: &mut Vec<Leftover>) {
    if has_other_cluster(config, host).await {
        return;
    }
    let dir = config.state_dir.as_deref();
    let before = left.len();
    for (key, value) in &Journal::load(dir).sysctls {
        note(left, format!("sysctl {key}"), host.set_sysctl(key, value).await);
    }
    if left.len() > before {
        return;
    }
    if let Err(error) = Journal::remove(dir) {
        left.push(Leftover { what: "network journal".to_owned(), why: error.to_string() });
    }
}

/// Whether there are tables of a pod network besides this one.
async fn has_other_cluster(config: &Config, host: &dyn HostNet) -> bool {
    let is_other =
        |table: &String| table.starts_with("coracle") && table.ends_with("network") && *table != config.table;
    match host.tables(Family::Ip).await {
        Ok(tables) => tables.iter().any(is_other),
        Err(_) => false,
    }
}

fn note(left: &mut Vec<Leftover>, what: String, result: coracle_host_net::Result<()>) {
    if let Err(error) = result {
        left.push(Leftover { what, why: error.chain() });
    }
}
