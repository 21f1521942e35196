//! A server of a test's own: its authorities, store and address.
#![allow(dead_code)]

pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coracle_api_meta::UserInfo;
use coracle_apiserver::{
    AccessConfig, ByteStream, Config, DirectDialer, FrontProxy, NodeConnector, NodeTarget, Server, ServingCertificate,
};
use coracle_client::Client;
use coracle_pki::{Authority, LeafParams, TokenKey};
use coracle_store::{Embedded, Store};
use jiff::{SignedDuration, Timestamp};

/// Common name of the front proxy's certificate.
pub const FRONT_PROXY: &str = coracle_apiserver::FRONT_PROXY_NAME;

pub struct Cluster {
    pub server: Arc<Server>,
    pub address: SocketAddr,
    pub kubeconfig: PathBuf,
    pub store: Arc<dyn Store>,
    pub folder: tempfile::TempDir,
    pub config: Config,
    admin_pem: (String, String),
}

/// A kubelet that answers with the path it was asked, and echoes what comes after an upgrade.
struct EchoNode;

#[async_trait]
impl NodeConnector for EchoNode {
    async fn connect(&self, _node: &NodeTarget) -> std::io::Result<Box<dyn ByteStream>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let service = hyper::service::service_fn(|mut request: http::Request<hyper::body::Incoming>| async move {
            let path = request.uri().to_string();
            let mut reply = http::Response::new(coracle_client::full_body(path));
            if request.headers().contains_key("upgrade") {
                *reply.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
                reply.headers_mut().insert("connection", "Upgrade".parse().expect("header"));
                reply.headers_mut().insert("upgrade", "echo".parse().expect("header"));
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let stream = hyper_util::rt::TokioIo::new(upgrade.await.expect("upgraded"));
                    let (mut read, mut write) = tokio::io::split(stream);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
            Ok::<_, std::convert::Infallible>(reply)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(far), service)
            .with_upgrades();
        tokio::spawn(connection);
        Ok(Box::new(near))
    }
}

fn front_proxy(now: Timestamp) -> FrontProxy {
    let (authority, ca) = Authority::create("front-proxy-ca", now, SignedDuration::from_hours(1)).expect("authority");
    let leaf = LeafParams {
        common_name: FRONT_PROXY,
        organizations: &[],
        alt_names: &[],
        client: true,
        server: false,
        valid_for: SignedDuration::from_hours(1),
    };
    let issued = authority.issue(&leaf, now).expect("certificate");
    let client = ServingCertificate { certificate_pem: issued.cert_pem, key_pem: issued.key_pem };
    FrontProxy { ca_pem: ca.cert_pem, client }
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0").await
    }

    pub async fn start_on(listen: &str) -> Self {
        Self::start_with(listen, |_| {}).await
    }

    /// With a configuration that `change` had its say in.
    pub async fn start_with(listen: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let listener = tokio::net::TcpListener::bind(listen).await.expect("listen");
        let address = listener.local_addr().expect("address");
        let now = Timestamp::now();
        let (authority, ca) = Authority::create("kubernetes", now, SignedDuration::from_hours(1)).expect("authority");
        let leaf = |name: &str, groups: &[&str], server: bool| {
            let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
            let leaf = LeafParams {
                common_name: name,
                organizations: groups,
                alt_names: if server { &names } else { &[] },
                client: !server,
                server,
                valid_for: SignedDuration::from_hours(1),
            };
            authority.issue(&leaf, now).expect("certificate")
        };
        let serving = leaf("apiserver", &[], true);
        let admin = leaf("admin", &["system:masters"], false);
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(&folder.path().join("store"), Default::default()).expect("store"));
        let mut config = Config {
            serving: ServingCertificate { certificate_pem: serving.cert_pem, key_pem: serving.key_pem },
            client_ca_pem: ca.cert_pem.clone(),
            cluster_ca_pem: ca.cert_pem.clone(),
            front_proxy: Some(front_proxy(now)),
            token_key: Arc::new(TokenKey::load(&TokenKey::generate_pem().expect("key")).expect("key")),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            advertise: address,
            service_cidr: "10.96.0.0/16".parse().expect("range"),
            node_ports: 30000..=32767,
            static_tokens: [("viewer-token".to_owned(), UserInfo::authenticated("viewer", &[]))].into(),
            anonymous: true,
            access: AccessConfig::default(),
            audit: None,
            event_ttl: Duration::from_secs(3600),
            nodes: Arc::new(EchoNode),
            pods: Arc::new(DirectDialer),
            metrics: Some(Arc::new(Usage)),
        };
        change(&mut config);
        let server = Server::new(config.clone(), Arc::clone(&store)).await.expect("server");
        let serving = Arc::clone(&server);
        tokio::spawn(async move { serving.serve(listener).await });
        let kubeconfig = folder.path().join("kubeconfig");
        let encode = |pem: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(pem)
        };
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("https://{address}"), "certificate-authority-data": encode(&ca.cert_pem)}}],
            "users": [{"name": "admin", "user": {"client-certificate-data": encode(&admin.cert_pem), "client-key-data": encode(&admin.key_pem)}},
                {"name": "viewer", "user": {"token": "viewer-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}},
                {"name": "viewer", "context": {"cluster": "test", "user": "viewer"}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).expect("kubeconfig");
        Self { server, address, kubeconfig, store, folder, config, admin_pem: (admin.cert_pem, admin.key_pem) }
    }

    pub fn admin(&self) -> Client {
        self.client(UserInfo::authenticated("admin", &["system:masters"]))
    }

    pub fn client(&self, user: UserInfo) -> Client {
        Client::new(Arc::new(self.server.in_process(user)), "test/1")
    }

    /// A TLS connection of the administrator, for requests written by hand.
    pub async fn dial_as_admin(&self) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add_parsable_certificates(CertificateDer::pem_slice_iter(self.config.cluster_ca_pem.as_bytes()).flatten());
        let chain = CertificateDer::pem_slice_iter(self.admin_pem.0.as_bytes()).flatten().collect();
        let key = PrivateKeyDer::from_pem_slice(self.admin_pem.1.as_bytes()).expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("tls");
        let stream = tokio::net::TcpStream::connect(self.address).await.expect("connect");
        let name = "localhost".try_into().expect("name");
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("handshake")
    }

    /// Aggregated discovery of all groups.
    pub async fn discover(&self, client: &Client) -> serde_json::Value {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let request = http::Request::get("/apis").header("accept", accept).body(bytes::Bytes::new()).expect("request");
        let answer = client.send(request).await.expect("an answer");
        use http_body_util::BodyExt;
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice(&body).expect("a document")
    }
}

/// Says the same of every node and pod.
pub struct Usage;

#[async_trait::async_trait]
impl coracle_apiserver::ResourceMetrics for Usage {
    async fn list(&self, plural: &str, namespace: &str) -> Result<Vec<serde_json::Value>, coracle_api_meta::Status> {
        let usage = serde_json::json!({"cpu": "250m", "memory": "10Mi"});
        let times = serde_json::json!({"timestamp": "2026-01-01T00:00:00Z", "window": "15s"});
        let object = |kind: &str, namespace: &str, name: &str, field: &str, value: serde_json::Value| {
            let mut object = serde_json::json!({"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": name, "labels": {"app": name}}, "timestamp": times["timestamp"], "window": times["window"]});
            object[field] = value;
            if !namespace.is_empty() {
                object["metadata"]["namespace"] = namespace.into();
            }
            object
        };
        let containers = serde_json::json!([{"name": "main", "usage": usage}]);
        let all = match plural {
            "nodes" => vec![object("NodeMetrics", "", "n1", "usage", usage)],
            _ => vec![
                object("PodMetrics", "one", "a", "containers", containers.clone()),
                object("PodMetrics", "one", "b", "containers", containers.clone()),
                object("PodMetrics", "two", "a", "containers", containers),
            ],
        };
        let inside = |own: &serde_json::Value| namespace.is_empty() || own["metadata"]["namespace"] == namespace;
        Ok(all.into_iter().filter(inside).collect())
    }
}
