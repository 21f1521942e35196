//! Drives the controllers, all in one process.
//!
//! [`start`] begins to follow every kind that a controller reads, once for all of them ([`Informers`]), and runs each
//! controller over its own queue. Controllers meet in objects only. What they decide is in `plan-controllers`; this crate
//! builds their views, carries their plans out, and keeps what cannot be decided from one view (discovery, the graph of
//! owners). Nothing polls. It never reads flags, files or the environment.

mod access;
mod autoscaling;
mod certificates;
mod discovery;
mod endpoints;
mod gc;
mod informers;
mod jobs;
mod namespaces;
mod nodes;
mod policy;
mod sets;
mod storage;
mod workloads;

use std::sync::Arc;

use coracle_client::Client;
use coracle_driver::{Caches, Hands, Queue, Reconcile, run};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use informers::Informers;

/// How the controllers are run.
#[derive(Clone, Default)]
pub struct Config {
    /// PEM of the CA that clients in pods trust the API server by.
    pub root_ca_pem: String,
    /// PEM of that CA's key. Empty: certificate requests are signed by another program.
    pub ca_key_pem: String,
    /// PEM of the key that signs service-account tokens. Empty: secrets of that type stay without a token.
    pub service_account_key_pem: String,
    /// `iss` of service-account tokens.
    pub issuer: String,
}

/// Who the controllers are to the API server.
#[derive(Clone)]
pub struct Clients {
    /// `system:kube-controller-manager`, which reads what the caches hold.
    pub manager: Client,
    /// The client of a service account of `kube-system`: each controller writes with the rights of its own.
    pub account: Arc<dyn Fn(&str) -> Client + Send + Sync>,
}

/// Runs every controller until `stop`. The handle ends when everything under way is done.
pub fn start(config: Config, clients: Clients, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let context = Context::new(config, clients, stop);
        if context.stop.run_until_cancelled(context.informers.wait_synced()).await.is_some() {
            workloads::start(&context);
            sets::start(&context);
            access::start(&context);
            autoscaling::start(&context);
            endpoints::start(&context);
            namespaces::start(&context);
            nodes::start(&context);
            jobs::start(&context);
            storage::start(&context);
            certificates::start(&context);
            let census = gc::start(&context);
            policy::start(&context, &census);
        }
        context.tasks.close();
        context.tasks.wait().await;
    })
}

/// What controllers share.
pub(crate) struct Context {
    config: Config,
    clients: Clients,
    stop: CancellationToken,
    tasks: TaskTracker,
    informers: Informers,
    caches: Arc<Caches>,
}

impl Context {
    fn new(config: Config, clients: Clients, stop: CancellationToken) -> Self {
        let informers = Informers::new(&clients.manager, &stop);
        let caches = Arc::new(informers.caches());
        Self { config, clients, stop, tasks: TaskTracker::new(), informers, caches }
    }

    /// Hands of a controller; `component` is the source of its events.
    fn hands(&self, component: &str) -> Hands {
        let client = match account(component) {
            Some(account) => (self.clients.account)(account),
            None => self.clients.manager.clone(),
        };
        Hands::new(&client, component, self.caches.clone())
    }

    /// Runs a controller over its queue.
    fn spawn<R: Reconcile>(&self, reconciler: R, queue: &Queue<R::Key>, workers: usize) {
        self.tasks.spawn(run(reconciler, queue.clone(), workers, self.stop.clone()));
    }
}

/// The service account of a controller, whose role `system:controller:NAME` is among the bootstrap roles; `None` for what
/// the controller manager does itself. Source: `kube-controller-manager --use-service-account-credentials`.
fn account(component: &str) -> Option<&str> {
    Some(match component {
        "serviceaccount-token-controller" => return None,
        "controllermanager" => "disruption-controller",
        "csrcleaner" => "certificate-controller",
        "daemonset-controller" => "daemon-set-controller",
        "endpoint-slice-controller" => "endpointslice-controller",
        "endpoint-slice-mirroring-controller" => "endpointslicemirroring-controller",
        "ephemeral_volume" => "ephemeral-volume-controller",
        "garbage-collector-controller" => "generic-garbage-collector",
        "persistentvolume-controller" => "persistent-volume-binder",
        "root-ca-certificate-publisher" => "root-ca-cert-publisher",
        "serviceaccount-controller" => "service-account-controller",
        "taint-eviction-controller" => "node-controller",
        own => own,
    })
}
