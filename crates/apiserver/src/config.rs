//! What the server is told.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_api_meta::{Status, UserInfo, Value};
use coracle_client::ClientConfig;
use coracle_pki::TokenKey;
use coracle_store::StoreError;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::access::{AuditPolicy, Authentication, Authorization};

/// Certificate chain and key, PEM.
#[derive(Clone)]
pub struct ServingCertificate {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// With which the server calls aggregated API servers in the name of users.
#[derive(Clone)]
pub struct FrontProxy {
    /// Authority of the certificate: what aggregated servers must trust.
    pub ca_pem: String,
    /// Its common name is the one that aggregated servers allow: [`FRONT_PROXY_NAME`].
    pub client: ServingCertificate,
}

/// Common name of the front proxy's certificate. Source: kubeadm.
pub const FRONT_PROXY_NAME: &str = "front-proxy-client";

/// Where the audit log goes, and what stands in it. Files rotate; the oldest is removed.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// `-` is standard output.
    pub path: PathBuf,
    pub file_bytes_max: u64,
    pub files_max: usize,
    /// Rotated files that are older are removed.
    pub age_max: Option<Duration>,
    /// `None`: who did what, without what requests and answers hold.
    pub policy: Option<AuditPolicy>,
}

impl AuditConfig {
    /// Three files of 10 MiB.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file_bytes_max: 10 << 20, files_max: 3, age_max: None, policy: None }
    }
}

/// A server that knows tokens (`TokenReview`).
#[derive(Clone)]
pub struct TokenWebhook {
    pub server: ClientConfig,
    /// `v1` or `v1beta1`.
    pub version: String,
    pub cache_ttl: Duration,
}

/// A proxy that vouches for users. Source: `--requestheader-*`.
#[derive(Debug, Clone)]
pub struct RequestHeader {
    /// Authorities of the proxy's certificate, PEM.
    pub client_ca_pem: String,
    /// Common names that are believed; empty for any.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_header_prefixes: Vec<String>,
}

impl RequestHeader {
    /// The headers that upstream's servers use among each other.
    #[must_use]
    pub fn new(client_ca_pem: String, allowed_names: Vec<String>) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            client_ca_pem,
            allowed_names,
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_header_prefixes: one("X-Remote-Extra-"),
        }
    }
}

/// Who is who, and who may do what, beyond certificates, service accounts, nodes and roles.
#[derive(Clone, Default)]
pub struct AccessConfig {
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub token_webhook: Option<TokenWebhook>,
    pub request_header: Option<RequestHeader>,
    /// Audiences of this API; empty for the issuer alone.
    pub api_audiences: Vec<String>,
}

/// A connection in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// Which kubelet to reach.
#[derive(Debug, Clone)]
pub struct NodeTarget {
    pub name: String,
    /// `InternalIP` first.
    pub addresses: Vec<IpAddr>,
    pub kubelet_port: u16,
}

/// Opens connections to kubelets. The stream carries HTTP/1.1, already authenticated as the API server.
#[async_trait]
pub trait NodeConnector: Send + Sync + 'static {
    async fn connect(&self, node: &NodeTarget) -> std::io::Result<Box<dyn ByteStream>>;
}

/// Opens connections to pods, for the `proxy` subresources and webhooks.
#[async_trait]
pub trait PodDialer: Send + Sync + 'static {
    async fn dial(&self, address: SocketAddr) -> std::io::Result<Box<dyn ByteStream>>;
}

/// Knows what nodes and pods use.
#[async_trait]
pub trait ResourceMetrics: Send + Sync + 'static {
    /// All objects of `nodes` or `pods` of `metrics.k8s.io/v1beta1`, those of a namespace unless it is empty.
    async fn list(&self, plural: &str, namespace: &str) -> Result<Vec<Value>, Status>;
}

/// Dials from where the server runs.
pub struct DirectDialer;

#[async_trait]
impl PodDialer for DirectDialer {
    async fn dial(&self, address: SocketAddr) -> std::io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(tokio::net::TcpStream::connect(address).await?))
    }
}

#[derive(Clone)]
pub struct Config {
    pub serving: ServingCertificate,
    /// Authorities of client certificates, PEM.
    pub client_ca_pem: String,
    /// Authority of the serving certificate: what clients must trust.
    pub cluster_ca_pem: String,
    /// `None`: aggregated servers are called without a certificate.
    pub front_proxy: Option<FrontProxy>,
    pub token_key: Arc<TokenKey>,
    /// Issuer of service account tokens and audience of the API.
    pub issuer: String,
    /// Address that pods reach this server at (endpoints of the Service `kubernetes`).
    pub advertise: SocketAddr,
    pub service_cidr: IpNet,
    pub node_ports: RangeInclusive<u16>,
    /// By token.
    pub static_tokens: HashMap<String, UserInfo>,
    pub anonymous: bool,
    pub access: AccessConfig,
    pub audit: Option<AuditConfig>,
    pub event_ttl: Duration,
    pub nodes: Arc<dyn NodeConnector>,
    pub pods: Arc<dyn PodDialer>,
    /// Where the objects of `metrics.k8s.io` come from; `None`: the group is not served from here.
    pub metrics: Option<Arc<dyn ResourceMetrics>>,
}

impl Config {
    /// The audiences that tokens for this API are made for.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        if self.access.api_audiences.is_empty() {
            return vec![self.issuer.as_str()];
        }
        self.access.api_audiences.iter().map(String::as_str).collect()
    }
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("read the serving certificate or the client authorities: {0}")]
    Certificate(String),
    #[error("authentication or authorization: {0}")]
    Access(String),
    #[error("open the audit log {path}")]
    Audit { path: PathBuf, source: std::io::Error },
    #[error("read or write the store")]
    Store(#[from] StoreError),
    #[error("make the first objects: {0}")]
    Bootstrap(String),
}
