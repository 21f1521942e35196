//! Names of what one cluster makes on the host, so that several clusters can live side by side.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context as _, Result};
use coracle_bootstrap::ClusterSettings;
use ipnet::IpNet;

/// Everything that is named after the instance or derived from its address ranges.
#[derive(Debug, Clone)]
pub struct Names {
    pub bridge: String,
    pub network_table: String,
    pub proxy_table: String,
    /// `/coracle`: under it are the cgroups of all pods.
    pub cgroup_root: String,
    /// Sockets and other things that do not outlive a boot.
    pub run_dir: std::path::PathBuf,
    pub pod_cidr: IpNet,
    pub service_cidr: IpNet,
    /// First address of the pod CIDR; the bridge has it.
    pub gateway: IpAddr,
    /// Tenth address of the service CIDR.
    pub dns: IpAddr,
    /// First address of the service CIDR.
    pub kubernetes: IpAddr,
}

impl Names {
    pub fn of(settings: &ClusterSettings) -> Result<Self> {
        let pod_cidr = network("pod CIDR", &settings.pod_cidr)?;
        let service_cidr = network("service CIDR", &settings.service_cidr)?;
        let instance = &settings.instance;
        let bridge = if instance == "coracle" { "coracle0".to_owned() } else { instance.replace("coracle-", "cor") };
        Ok(Self {
            bridge,
            network_table: format!("{instance}-network"),
            proxy_table: format!("{instance}-proxy"),
            cgroup_root: format!("/{instance}"),
            run_dir: Path::new("/run").join(instance),
            gateway: nth(&pod_cidr, 1)?,
            dns: nth(&service_cidr, 10)?,
            kubernetes: nth(&service_cidr, 1)?,
            pod_cidr,
            service_cidr,
        })
    }
}

fn network(what: &str, text: &str) -> Result<IpNet> {
    text.parse().with_context(|| format!("{what} {text:?}"))
}

fn nth(cidr: &IpNet, n: u8) -> Result<IpAddr> {
    let address = match cidr.network() {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first) + u32::from(n))),
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) + u128::from(n)).into()),
    };
    anyhow::ensure!(cidr.contains(&address), "network {cidr} holds too few addresses");
    Ok(address)
}

/// `coracle` for the default folder; elsewhere a name made from the folder's path.
#[must_use]
pub fn instance_name(root: &Path) -> String {
    if root == Path::new("/var/lib/coracle") {
        return "coracle".to_owned();
    }
    // FNV-1a, because the name must stay the same for ever.
    let hash = root
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("coracle-{:08x}", hash >> 32)
}

/// The host's name, as far as it can be a node's.
#[must_use]
pub fn default_node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_ascii_lowercase().replace('_', "-");
    let good = coracle_api_meta::names::is_dns1123_subdomain(&name).is_empty();
    if good { name } else { "node".to_owned() }
}

/// Whether this process may do what running pods takes.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_two_clusters_differ() {
        assert_eq!(instance_name(Path::new("/var/lib/coracle")), "coracle");
        let other = instance_name(Path::new("/tmp/a"));
        assert_eq!(other, instance_name(Path::new("/tmp/a")));
        assert_ne!(other, instance_name(Path::new("/tmp/b")));
        let settings = ClusterSettings {
            format_version: 1,
            node_name: "n".to_owned(),
            pod_cidr: "10.244.0.0/24".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            listen: String::new(),
            instance: other,
            begun: false,
        };
        let names = Names::of(&settings).expect("names");
        assert!(names.bridge.len() <= 15, "{}", names.bridge);
        assert_eq!(
            (names.gateway.to_string(), names.dns.to_string()),
            ("10.244.0.1".to_owned(), "10.96.0.10".to_owned())
        );
    }
}
