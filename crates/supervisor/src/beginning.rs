//! What the host was like before a start, so that one that does not succeed can be undone.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use coracle_host_net::{HostNet as _, Kernel};

use crate::Names;
use crate::cluster::Config;
use crate::node::{network_config, proxy_config};

/// The host's network before a start.
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub(crate) enum Beginning {
    /// Nothing of the cluster was there.
    Fresh { host: Arc<Kernel>, network: coracle_network::Config, proxy: coracle_proxy::Config },
    /// Pods may be running with what is there, or no pods run here at all.
    Used,
}

impl Beginning {
    pub(crate) async fn of(config: &Config, names: &Names) -> Result<Self> {
        if !config.node {
            return Ok(Self::Used);
        }
        let host = Arc::new(Kernel::new().context("open netlink")?);
        if host.routes().await?.iter().any(|route| route.device == names.bridge) {
            return Ok(Self::Used);
        }
        let proxy = proxy_config(&config.settings.node_name, names);
        Ok(Self::Fresh { host, network: network_config(names), proxy })
    }

    /// Removes the network of a start that failed, unless it has got as far as to run pods.
    pub(crate) async fn undo(self) {
        let Self::Fresh { host, network, proxy } = self else { return };
        if !host.bridge_ports(&network.bridge).await.is_ok_and(|ports| ports.is_empty()) {
            return;
        }
        if let Err(error) = coracle_proxy::reset(&proxy, &*host).await {
            tracing::warn!(%error, "the service rules of a failed start are left");
        }
        for left in coracle_network::reset(&network, &*host).await {
            tracing::warn!(what = left.what, why = left.why, "a failed start leaves something on the host");
        }
    }
}
