//! What the DNS server can fail with.

use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid cluster domain {domain:?}: {why}")]
    ClusterDomain { domain: String, why: String },
    #[error("listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("write the Service {name}")]
    Service { name: String, source: coracle_client::Error },
}
