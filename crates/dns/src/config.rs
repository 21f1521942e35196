//! Where to serve what.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// UDP and TCP. An address that is not there yet is waited for.
    pub listen: Vec<SocketAddr>,
    /// `cluster.local`
    pub cluster_domain: String,
    pub upstreams: Upstreams,
    /// Seconds for which records of the cluster may be remembered, and that they do not exist.
    pub ttl_seconds: u32,
}

/// Who is asked for names outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstreams {
    /// The `nameserver` lines of a file, read again when it changes. Our own addresses among them are left out.
    ResolvConf(PathBuf),
    Fixed(Vec<SocketAddr>),
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            upstreams: Upstreams::ResolvConf(PathBuf::from("/etc/resolv.conf")),
            // Source: default of CoreDNS' kubernetes plugin.
            ttl_seconds: 5,
        }
    }
}
