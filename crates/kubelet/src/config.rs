//! What a kubelet is told at its start.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::Client;
use coracle_cri::{ImageService, RuntimeService};
use k8s_openapi::api::core::v1::Taint;

/// Settings of one node.
#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    /// Addresses of the node, the leading one first.
    pub node_ips: Vec<IpAddr>,
    /// Volumes and files of pods are kept below it.
    pub root_dir: PathBuf,
    /// Logs of containers are kept below it, one folder for each pod.
    pub pod_logs_dir: PathBuf,
    /// Manifests of static pods.
    pub static_pod_dir: Option<PathBuf>,
    /// Where the kubelet's own API listens; port 0 chooses one.
    pub listen: SocketAddr,
    /// `None`: the API is served in-process only.
    pub tls: Option<ServingTls>,
    /// First part of every pod's cgroup.
    pub cgroup_root: String,
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`
    pub cluster_domain: String,
    /// Resolver configuration of the host.
    pub resolv_conf: PathBuf,
    /// `v1.36.2`
    pub version: String,
    pub labels: BTreeMap<String, String>,
    /// Of the node when it is registered.
    pub taints: Vec<Taint>,
    pub pods_max: u32,
    pub image_pulls_parallel_max: usize,
    pub container_log_bytes_max: u64,
    pub container_log_files_max: usize,
    pub image_gc_high_percent: u64,
    pub image_gc_low_percent: u64,
    /// Bytes; with more than this available no image is removed, whatever the percentage: disks are large today.
    pub image_gc_disk_available: u64,
    /// Bytes that must stay available before pods are evicted.
    pub eviction_memory_available: u64,
    pub eviction_disk_available_percent: u64,
    /// Bytes; with more than this available there is no disk pressure, whatever the percentage.
    pub eviction_disk_available: u64,
    /// How long the node says that it is short after it no longer is.
    pub eviction_pressure_transition: Duration,
    pub lease_duration: Duration,
}

impl Default for Config {
    /// Upstream's defaults; names, addresses and folders are the caller's to set.
    fn default() -> Self {
        Self {
            node_name: String::new(),
            node_ips: Vec::new(),
            root_dir: PathBuf::from("/var/lib/kubelet"),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            static_pod_dir: None,
            listen: SocketAddr::from(([0, 0, 0, 0], 10250)),
            tls: None,
            cgroup_root: "coracle".to_owned(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            version: "v1.36.2".to_owned(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            pods_max: 110,
            image_pulls_parallel_max: 5,
            container_log_bytes_max: 10 << 20,
            container_log_files_max: 5,
            image_gc_high_percent: 85,
            image_gc_low_percent: 80,
            image_gc_disk_available: 2 << 30,
            eviction_memory_available: 100 << 20,
            eviction_disk_available_percent: 5,
            eviction_disk_available: 1 << 30,
            eviction_pressure_transition: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
        }
    }
}

/// The kubelet's serving certificate, and whose clients it believes.
#[derive(Clone)]
pub struct ServingTls {
    pub cert_chain_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    /// CA of the API server's client certificate.
    pub client_ca_pem: Vec<u8>,
}

impl std::fmt::Debug for ServingTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingTls").finish_non_exhaustive()
    }
}

/// What a kubelet works with.
#[derive(Clone)]
pub struct Deps {
    /// As the node's user.
    pub client: Client,
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
}
