//! Everything that runs pods on this machine: network, runtime, kubelet, service rules, DNS.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use coracle_api_meta::UserInfo;
use coracle_bootstrap::Credentials;
use coracle_cri::PodNetwork;
use coracle_host_net::Kernel;
use coracle_image::ImageStore;
use coracle_kubelet::{Kubelet, ServingTls};
use coracle_network::Network;
use coracle_runtime::Runtime;

use crate::Names;
use crate::cluster::{Config, Registries, Scope};
use crate::control_plane::{ControlPlane, system_account};

/// The way into the kubelet of this process.
pub(crate) use coracle_kubelet::Door as KubeletDoor;

/// How long the node may take to become Ready.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
const DNS_PORT: u16 = 53;

pub(crate) struct Node {
    pub runtime: Arc<Runtime>,
    kubelet: Kubelet,
}

/// The folders and names of the runtime.
pub(crate) fn runtime_config(config: &Config, names: &Names) -> coracle_runtime::Config {
    coracle_runtime::Config {
        data_dir: config.folder.node().join("runtime"),
        run_dir: names.run_dir.join("runtime"),
        shim_exe: config.shim.clone(),
        shim_cgroup: format!("{}/shims", names.cgroup_root),
    }
}

/// What the network may use of the host.
pub(crate) fn network_config(names: &Names) -> coracle_network::Config {
    coracle_network::Config {
        bridge: names.bridge.clone(),
        table: names.network_table.clone(),
        pod_cidrs: vec![names.pod_cidr],
        service_cidrs: vec![names.service_cidr],
        state_dir: Some("/run/coracle-network".into()),
        ..coracle_network::Config::default()
    }
}

pub(crate) fn proxy_config(node_name: &str, names: &Names) -> coracle_proxy::Config {
    coracle_proxy::Config {
        node_name: node_name.to_owned(),
        table: names.proxy_table.clone(),
        pod_cidrs: vec![names.pod_cidr],
        service_cidrs: vec![names.service_cidr],
        // kube-proxy's own.
        healthz: Some(SocketAddr::from(([0, 0, 0, 0], 10256))),
        metrics: Some(SocketAddr::from(([127, 0, 0, 1], 10249))),
    }
}

/// Makes the bridge, whose address the API server and DNS listen on.
pub(crate) async fn start_network(names: &Names) -> Result<Arc<Network>> {
    let host = Arc::new(Kernel::new().context("open netlink")?);
    Network::start(network_config(names), host).await.context("set up the pod network")
}

/// Opens the images of a data folder.
pub(crate) async fn open_images(
    folder: &coracle_bootstrap::ClusterFolder,
    registries: Registries,
) -> Result<ImageStore> {
    let config = coracle_image::Config {
        dir: folder.node().join("images"),
        insecure_registries: registries.insecure,
        mirrors: registries.mirrors,
        proxies: registries.proxies,
        ..coracle_image::Config::default()
    };
    let open = move || ImageStore::open(config);
    Ok(tokio::task::spawn_blocking(open).await??)
}

impl Node {
    pub async fn start(
        config: &Config,
        names: &Names,
        credentials: &Credentials,
        network: Arc<Network>,
        plane: &ControlPlane,
        scope: &Scope,
    ) -> Result<Self> {
        let images = open_images(&config.folder, config.registries.clone()).await.context("open the images")?;
        let network: Arc<dyn PodNetwork> = network;
        let runtime =
            Runtime::start(runtime_config(config, names), images, network).await.context("start the runtime")?;
        let kubelet = start_kubelet(config, names, credentials, runtime.clone(), plane, scope).await?;
        plane.kubelet.set(&config.settings.node_name, kubelet.door());
        let client = plane.client(UserInfo::authenticated("system:kube-proxy", &[]), "kube-proxy");
        let proxy = proxy_config(&config.settings.node_name, names);
        scope.run("service rules", coracle_proxy::run(proxy, client, scope.stop.clone()));
        start_dns(config, names, plane, scope).await?;
        Ok(Self { runtime, kubelet })
    }

    /// Waits until the kubelet has reported the node Ready and DNS answers.
    pub async fn wait_ready(&self, names: &Names, config: &Config) -> Result<()> {
        let ready = async {
            if !self.kubelet.wait_ready().await {
                bail!("the kubelet stopped before it was ready");
            }
            let name = format!("kubernetes.default.svc.{}", config.settings.cluster_domain);
            crate::demo::resolve(SocketAddr::new(names.gateway, DNS_PORT), &name).await.context("ask cluster DNS")
        };
        let limit = tokio::time::timeout(READY_TIME_MAX, ready).await;
        limit.with_context(|| format!("the node is not ready after {READY_TIME_MAX:?}"))?.map(drop)
    }
}

async fn start_kubelet(
    config: &Config,
    names: &Names,
    credentials: &Credentials,
    runtime: Arc<Runtime>,
    plane: &ControlPlane,
    scope: &Scope,
) -> Result<Kubelet> {
    let node_name = &config.settings.node_name;
    let folder = config.folder.node();
    let settings = coracle_kubelet::Config {
        node_name: node_name.clone(),
        node_ips: vec![node_address(names)],
        root_dir: folder.join("kubelet"),
        pod_logs_dir: folder.join("logs"),
        static_pod_dir: Some(config.folder.manifests()),
        listen: SocketAddr::new(names.gateway, 0),
        tls: Some(ServingTls {
            cert_chain_pem: credentials.kubelet.cert_pem.clone().into_bytes(),
            key_pem: credentials.kubelet.key_pem.clone().into_bytes(),
            client_ca_pem: credentials.ca_cert_pem.clone().into_bytes(),
        }),
        cgroup_root: names.cgroup_root.trim_start_matches('/').to_owned(),
        cluster_dns: vec![names.dns],
        cluster_domain: config.settings.cluster_domain.clone(),
        version: crate::KUBERNETES_VERSION.to_owned(),
        ..coracle_kubelet::Config::default()
    };
    let user = UserInfo::authenticated(&format!("system:node:{node_name}"), &["system:nodes"]);
    let deps =
        coracle_kubelet::Deps { client: plane.client(user, "kubelet"), runtime: runtime.clone(), images: runtime };
    Kubelet::start(settings, deps, scope.stop.clone()).await.context("start the kubelet")
}

async fn start_dns(config: &Config, names: &Names, plane: &ControlPlane, scope: &Scope) -> Result<()> {
    // Making its Service is a matter of whoever sets the cluster up.
    let installer = plane.client(UserInfo::authenticated("kubernetes-admin", &["system:masters"]), "coracle-dns");
    let service = coracle_dns::DnsService {
        cluster_ip: names.dns,
        endpoints: vec![names.gateway],
        endpoint_port: DNS_PORT,
        node_name: config.settings.node_name.clone(),
    };
    coracle_dns::ensure_service(&installer, &service).await?;
    let client = plane.client(system_account("coredns"), "coracle-dns");
    let dns = coracle_dns::Config {
        listen: vec![SocketAddr::new(names.gateway, DNS_PORT)],
        cluster_domain: config.settings.cluster_domain.clone(),
        ..coracle_dns::Config::default()
    };
    scope.run("DNS", coracle_dns::run(dns, client, scope.stop.clone()));
    Ok(())
}

/// The address by which others reach this machine: that of the way out, or the bridge's where there is none.
fn node_address(names: &Names) -> IpAddr {
    way_out().unwrap_or(names.gateway)
}

/// Addresses of this machine that are worth a place in the server's certificate.
pub(crate) fn host_addresses() -> Vec<IpAddr> {
    way_out().into_iter().collect()
}

/// Connecting a datagram socket sends nothing, and tells which address would be used (TEST-NET-1, RFC 5737).
fn way_out() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}
