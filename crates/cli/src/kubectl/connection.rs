//! Which cluster, which namespace, as whom.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use coracle_bootstrap::ClusterFolder;
use coracle_client::{Client, ClientConfig, Error, Kubeconfig};

#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or that of --data-dir].
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Folder of a cluster of this host, instead of a kubeconfig.
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "kubeconfig")]
    data_dir: Option<PathBuf>,
    /// Namespace [default: the context's, or `default`].
    #[arg(long, short, global = true, value_name = "NAME")]
    namespace: Option<String>,
}

/// A cluster and the namespace to work in.
pub struct Connection {
    pub client: Client,
    pub config: ClientConfig,
    pub namespace: String,
}

impl Connection {
    pub fn open(flags: &Flags) -> Result<Self> {
        let path = match (&flags.kubeconfig, &flags.data_dir) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) => ClusterFolder::new(folder).admin_kubeconfig(),
            (None, None) => Kubeconfig::default_path(),
        };
        let kubeconfig = Kubeconfig::load(&path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let config = kubeconfig.client_config(flags.context.as_deref(), folder)?;
        let namespace = flags.namespace.clone().or_else(|| config.namespace.clone());
        Ok(Self {
            client: Client::connect(config.clone(), "coracle-kubectl").context("connect")?,
            config,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
        })
    }
}

/// The error as kubectl words it.
pub fn worded(error: Error) -> anyhow::Error {
    match error {
        Error::Api(status) if status.reason.is_empty() => anyhow::anyhow!("Error from server: {}", status.message),
        Error::Api(status) => anyhow::anyhow!("Error from server ({}): {}", status.reason, status.message),
        other => anyhow::Error::new(other),
    }
}
