//! One machine's cluster, from start to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use coracle_api_meta::UserInfo;
use coracle_bootstrap::{Access, ClusterFolder, ClusterSettings, Credentials};
use coracle_client::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api_options::ApiOptions;
use crate::beginning::Beginning;
use crate::control_plane::{ControlPlane, listen};
use crate::node::Node;
use crate::{Names, control};

/// Components that take longer to stop are left to the end of the process.
const STOP_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// What to run.
#[derive(Debug, Clone)]
pub struct Config {
    pub folder: ClusterFolder,
    pub settings: ClusterSettings,
    pub listen: SocketAddr,
    /// Whether pods run here.
    pub node: bool,
    /// The binary that containers are started through.
    pub shim: PathBuf,
    pub api: ApiOptions,
    pub registries: Registries,
}

/// How images are fetched.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// Registry to the URLs that are asked before it; `*` for every registry.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// `host:port` of those that are spoken to without TLS.
    pub insecure: Vec<String>,
    pub proxies: coracle_image::Proxies,
}

/// Something that is ready, and since when.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: &'static str,
    pub at: Instant,
    pub detail: String,
}

/// A running cluster.
pub struct Cluster {
    config: Config,
    names: Names,
    credentials: Credentials,
    steps: Vec<Step>,
    control_plane: ControlPlane,
    node: Option<Node>,
    stop: CancellationToken,
    tasks: TaskTracker,
    failure: watch::Receiver<Option<String>>,
}

impl Cluster {
    /// Brings everything up and returns when the node is Ready and the cluster's DNS answers; `None` when `interrupted`
    /// came first. A start that does not succeed leaves nothing on the host that was not there before.
    pub async fn start(config: Config, interrupted: impl Future<Output = ()>) -> Result<Option<Self>> {
        let names = Names::of(&config.settings)?;
        let store_exists = coracle_store::Embedded::exists(&config.folder.store());
        coracle_bootstrap::check_not_lost(&config.folder, &config.settings, store_exists)?;
        let beginning = Beginning::of(&config, &names).await?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let begun = Begun { config, names, stop: stop.clone(), tasks: tasks.clone() };
        let started = tokio::select! {
            started = Self::bring_up(begun) => started.map(Some),
            () = interrupted => Ok(None),
        };
        if !matches!(started, Ok(Some(_))) {
            end(&stop, &tasks).await;
            beginning.undo().await;
        }
        started
    }

    async fn bring_up(begun: Begun) -> Result<Self> {
        let Begun { config, names, stop, tasks } = begun;
        let credentials = credentials(&config, &names)?;
        let (failed, failure) = watch::channel(None);
        let scope = Scope { stop: stop.clone(), tasks: tasks.clone(), failed };
        let mut steps = Vec::new();
        // Before anything is done to the host, so that a port in use leaves nothing behind.
        let listener = listen(config.listen).await?;
        let network = if config.node { Some(crate::node::start_network(&names).await?) } else { None };
        if network.is_some() {
            steps.push(step("network", format!("pods {}, services {}", names.pod_cidr, names.service_cidr)));
        }
        let control_plane = ControlPlane::start(&config, &names, &credentials, listener, &scope).await?;
        steps.push(step("API server", format!("https://{}", control_plane.listen)));
        let node = match network {
            Some(network) => {
                let node = Node::start(&config, &names, &credentials, network, &control_plane, &scope).await?;
                steps.push(step("node", config.settings.node_name.clone()));
                node.wait_ready(&names, &config).await?;
                steps.push(step("DNS", format!("{} at {}", config.settings.cluster_domain, names.dns)));
                Some(node)
            }
            None => None,
        };
        if let Some(node) = &node {
            control::serve(&config.settings.instance, node, &scope)?;
        }
        tasks.spawn(stop.clone().run_until_cancelled_owned(crate::memory::keep_small()));
        Ok(Self { config, names, credentials, steps, control_plane, node, stop, tasks, failure })
    }

    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// A client with the rights of an administrator.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.control_plane.client(UserInfo::authenticated("kubernetes-admin", &["system:masters"]), "coracle")
    }

    /// Writes the folder's own kubeconfig and merges the context into the user's.
    pub fn write_kubeconfigs(&self, user: &Path) -> Result<()> {
        let server = format!("https://{}", reachable(self.control_plane.listen));
        let access = Access {
            name: "coracle",
            server: &server,
            ca_cert_pem: &self.credentials.ca_cert_pem,
            client_cert_pem: &self.credentials.admin.cert_pem,
            client_key_pem: &self.credentials.admin.key_pem,
        };
        coracle_bootstrap::merge_kubeconfig(&self.config.folder.admin_kubeconfig(), &access)?;
        let former = coracle_bootstrap::merge_kubeconfig(user, &access)?;
        coracle_bootstrap::remember_kubeconfig(&self.config.folder, user, access.name, &former)?;
        Ok(())
    }

    /// Waits until a component cannot go on, and says why.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends every component. Pods keep running.
    pub async fn stop(self) {
        self.control_plane.stop();
        end(&self.stop, &self.tasks).await;
    }
}

/// What a start begins with.
struct Begun {
    config: Config,
    names: Names,
    stop: CancellationToken,
    tasks: TaskTracker,
}

async fn end(stop: &CancellationToken, tasks: &TaskTracker) {
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(STOP_TIME_MAX, tasks.wait()).await.is_err() {
        tracing::warn!("some components did not stop in time");
    }
}

fn step(name: &'static str, detail: String) -> Step {
    Step { name, at: Instant::now(), detail }
}

/// An address that clients of this machine can use.
fn reachable(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() { SocketAddr::new([127, 0, 0, 1].into(), listen.port()) } else { listen }
}

/// Where tasks of components live, and where they report that they cannot go on.
#[derive(Clone)]
pub(crate) struct Scope {
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub failed: watch::Sender<Option<String>>,
}

impl Scope {
    /// Runs a component for as long as the cluster does; an error of it is the cluster's.
    pub fn run<E: std::fmt::Display>(
        &self,
        name: &'static str,
        component: impl Future<Output = std::result::Result<(), E>> + Send + 'static,
    ) {
        let failed = self.failed.clone();
        self.tasks.spawn(async move {
            if let Err(error) = component.await {
                failed.send_replace(Some(format!("{name}: {error:#}")));
            }
        });
    }
}

fn credentials(config: &Config, names: &Names) -> Result<Credentials> {
    let domain = &config.settings.cluster_domain;
    let mut server: Vec<String> =
        ["localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .map(str::to_owned)
            .to_vec();
    server.push(format!("kubernetes.default.svc.{domain}"));
    server.extend([names.kubernetes, names.gateway].map(|address| address.to_string()));
    server.push(config.settings.node_name.clone());
    if !config.listen.ip().is_unspecified() {
        server.push(config.listen.ip().to_string());
    } else {
        server.extend(crate::node::host_addresses().iter().map(ToString::to_string));
    }
    let node = vec![config.settings.node_name.clone(), "127.0.0.1".to_owned(), names.gateway.to_string()];
    let now = jiff::Timestamp::now();
    coracle_bootstrap::prepare(&config.folder, &config.settings.node_name, &server, &node, now)
        .context("prepare credentials")
}
