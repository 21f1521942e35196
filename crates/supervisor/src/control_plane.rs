//! Store, API server, controllers and scheduler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use coracle_api_meta::UserInfo;
use coracle_apiserver::{ByteStream, DirectDialer, FrontProxy, NodeConnector, NodeTarget, Server, ServingCertificate};
use coracle_bootstrap::Credentials;
use coracle_client::{Client, Pool};
use coracle_metrics::Metrics;
use coracle_pki::TokenKey;
use coracle_store::Embedded;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::Names;
use crate::cluster::{Config, Scope};
use crate::metrics::LocalMetrics;

/// Pod networks of other machines are told apart by this issuer; the same as upstream's default.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const EVENT_TTL: Duration = Duration::from_secs(3600);

pub(crate) struct ControlPlane {
    pub server: Arc<Server>,
    pub listen: SocketAddr,
    pub kubelet: Arc<LocalKubelet>,
    /// What the components of this process have cached.
    pool: Pool,
}

impl ControlPlane {
    pub async fn start(
        config: &Config,
        names: &Names,
        credentials: &Credentials,
        listener: TcpListener,
        scope: &Scope,
    ) -> Result<Self> {
        let store = open_store(config, credentials, scope).await?;
        coracle_bootstrap::note_begun(&config.folder)?;
        let listen_address = listener.local_addr()?;
        let kubelet = Arc::new(LocalKubelet::default());
        let metrics = Arc::new(LocalMetrics::default());
        let advertise = match config.node {
            true => SocketAddr::new(names.gateway, listen_address.port()),
            false => listen_address,
        };
        let server = Server::new(
            coracle_apiserver::Config {
                serving: ServingCertificate {
                    certificate_pem: credentials.apiserver.cert_pem.clone(),
                    key_pem: credentials.apiserver.key_pem.clone(),
                },
                client_ca_pem: credentials.ca_cert_pem.clone(),
                cluster_ca_pem: credentials.ca_cert_pem.clone(),
                front_proxy: Some(FrontProxy {
                    ca_pem: credentials.front_proxy_ca_cert_pem.clone(),
                    client: ServingCertificate {
                        certificate_pem: credentials.front_proxy_client.cert_pem.clone(),
                        key_pem: credentials.front_proxy_client.key_pem.clone(),
                    },
                }),
                token_key: Arc::new(TokenKey::load(&credentials.service_account_key_pem)?),
                issuer: ISSUER.to_owned(),
                advertise,
                service_cidr: names.service_cidr,
                node_ports: 30000..=32767,
                static_tokens: config.api.static_tokens()?,
                anonymous: config.api.anonymous_auth.unwrap_or(true),
                access: config.api.access(ISSUER, credentials)?,
                audit: Some(config.api.audit(config)?),
                event_ttl: EVENT_TTL,
                nodes: kubelet.clone(),
                pods: Arc::new(DirectDialer),
                metrics: Some(metrics.clone()),
            },
            Arc::new(store),
        )
        .await?;
        config.api.follow(&server, ISSUER, scope)?;
        let plane = Self { server, listen: listen_address, kubelet, pool: Pool::default() };
        plane.serve(listener, scope);
        if config.node && !covers(config.listen, advertise) {
            plane.serve(listen(advertise).await?, scope);
        }
        plane.start_metrics(&metrics, scope);
        plane.start_controllers(credentials, scope);
        Ok(plane)
    }

    fn serve(&self, listener: TcpListener, scope: &Scope) {
        let server = self.server.clone();
        scope.tasks.spawn(async move { server.serve(listener).await });
    }

    fn start_metrics(&self, door: &LocalMetrics, scope: &Scope) {
        let metrics = Metrics::new(self.client(system_account("metrics-server"), "coracle-metrics"));
        door.set(metrics.clone());
        scope.tasks.spawn(metrics.run(scope.stop.clone()));
    }

    fn start_controllers(&self, credentials: &Credentials, scope: &Scope) {
        let manager = UserInfo::authenticated("system:kube-controller-manager", &[]);
        let config = coracle_controllers::Config {
            root_ca_pem: credentials.ca_cert_pem.clone(),
            ca_key_pem: credentials.ca_key_pem.clone(),
            service_account_key_pem: credentials.service_account_key_pem.clone(),
            issuer: ISSUER.to_owned(),
        };
        let server = self.server.clone();
        let account =
            move |name: &str| Client::new(Arc::new(server.in_process(system_account(name))), "kube-controller-manager");
        let clients = coracle_controllers::Clients {
            manager: self.client(manager, "kube-controller-manager"),
            account: Arc::new(account),
        };
        let controllers = coracle_controllers::start(config, clients, scope.stop.clone());
        let scheduler = UserInfo::authenticated("system:kube-scheduler", &[]);
        let client = self.client(scheduler, "kube-scheduler");
        let scheduler = coracle_scheduler::start(coracle_scheduler::Config::default(), client, scope.stop.clone());
        scope.run("controllers", controllers);
        scope.run("scheduler", scheduler);
    }

    /// A client that comes in as `user`.
    pub fn client(&self, user: UserInfo, user_agent: &str) -> Client {
        Client::new(Arc::new(self.server.in_process(user)), user_agent).with_pool(&self.pool)
    }

    pub fn stop(&self) {
        self.server.stop();
    }
}

/// A service account of `kube-system`.
pub(crate) fn system_account(name: &str) -> UserInfo {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    UserInfo::authenticated(&format!("system:serviceaccount:kube-system:{name}"), &groups)
}

/// Opens the store, with secrets encrypted on the disk.
async fn open_store(config: &Config, credentials: &Credentials, scope: &Scope) -> Result<Embedded> {
    let encryption = config.api.encryption(&credentials.encryption_key, scope)?;
    let options = coracle_store::Options { seal: Some(encryption), ..coracle_store::Options::default() };
    let folder = config.folder.store();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(&folder, options)).await?;
    opened.context("open the store")
}

/// Opens the socket of the API, or says who is in the way.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{address} is in use by another program: stop it, or choose another address with --listen")
        }
        Err(error) => Err(error).with_context(|| format!("listen on {address}")),
    }
}

/// Whether a socket on `listen` also answers on `address`.
fn covers(listen: SocketAddr, address: SocketAddr) -> bool {
    listen == address || (listen.ip().is_unspecified() && listen.port() == address.port())
}

/// The way to the kubelet of this process: a pipe, no socket.
#[derive(Default)]
pub(crate) struct LocalKubelet {
    kubelet: OnceCell<(String, crate::node::KubeletDoor)>,
}

impl LocalKubelet {
    pub fn set(&self, node_name: &str, door: crate::node::KubeletDoor) {
        // Set once, when the node starts.
        let _ = self.kubelet.set((node_name.to_owned(), door));
    }
}

#[async_trait]
impl NodeConnector for LocalKubelet {
    async fn connect(&self, node: &NodeTarget) -> std::io::Result<Box<dyn ByteStream>> {
        match self.kubelet.get() {
            Some((name, door)) if *name == node.name => Ok(Box::new(door.connect())),
            _ => Err(std::io::Error::other(format!("node {:?} is not reachable from here", node.name))),
        }
    }
}
