//! A load generator for any Kubernetes API server: the same work against ours and upstream's, so that figures compare.
//!
//! [`api`] measures operations on objects, [`pods`] the way of a pod from POST to Running. Latency is taken at the
//! client; with the server's process id the CPU that the server spent is read from `/proc` and divided by the operations,
//! which is steadier than wall time on a shared machine. It never cleans up objects that it did not make.

pub mod api;
mod figures;
pub mod pods;
mod process;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use coracle_client::{Client, Kubeconfig};

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Creates, reads, lists, patches, applies, watches and deletes objects.
    Api(api::Options),
    /// Creates pods one after another and waits until a watcher sees each Running.
    Pods(pods::Options),
}

/// Where the server is.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Kubeconfig file [default: $KUBECONFIG or ~/.kube/config].
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one].
    #[arg(long)]
    context: Option<String>,
    /// Process id of the server on this machine, for CPU figures. May be given several times (etcd, for one).
    #[arg(long = "server-pid")]
    server_pids: Vec<u32>,
    /// Namespace to work in; made when missing.
    #[arg(long, default_value = "coracle-bench")]
    namespace: String,
}

impl Target {
    fn client(&self) -> Result<Client> {
        let path = self.kubeconfig.clone().unwrap_or_else(Kubeconfig::default_path);
        let kubeconfig = Kubeconfig::load(&path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Ok(Client::connect(kubeconfig.client_config(self.context.as_deref(), folder)?, "coracle-bench")?)
    }

    async fn make_namespace(&self, client: &Client) -> Result<()> {
        let gvr = coracle_api_meta::Gvr::new("", "v1", "namespaces");
        let namespaces = coracle_client::DynamicApi::all(client, &gvr);
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        match namespaces.create(object.to_string().into_bytes(), &coracle_client::WriteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error).context("create the namespace"),
        }
    }
}

/// Runs one measurement and prints its figures.
pub async fn run(bench: Bench) -> Result<()> {
    match bench {
        Bench::Api(options) => api::run(options).await,
        Bench::Pods(options) => pods::run(options).await,
    }
}
