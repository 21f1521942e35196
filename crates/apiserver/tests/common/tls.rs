//! Servers of the outside world: hooks, conversions, aggregated APIs. Real TLS with an authority of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_client::Body;
use coracle_pki::{Authority, CertificateInfo, LeafParams};
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// Common name of the certificate that a client showed.
#[derive(Clone, Default)]
pub struct Shown(pub String);

pub type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

pub struct TlsServer {
    pub address: SocketAddr,
    /// The authority in base64, as a `caBundle`.
    pub bundle: String,
    /// Connections that were accepted.
    pub connections: Arc<AtomicUsize>,
}

impl TlsServer {
    pub async fn start(names: &[&str], handler: Handler) -> Self {
        Self::start_with(names, handler, None, &["h2", "http/1.1"]).await
    }

    /// With `client_ca`, clients must show a certificate.
    pub async fn start_with(names: &[&str], handler: Handler, client_ca: Option<&str>, protocols: &[&str]) -> Self {
        let (config, bundle) = server_config(names, client_ca, protocols);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handler, counter) = (acceptor.clone(), Arc::clone(&handler), Arc::clone(&counter));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    counter.fetch_add(1, Ordering::SeqCst);
                    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let info = leaf.and_then(|leaf| CertificateInfo::from_der(leaf).ok());
                    let shown = Shown(info.map(|info| info.common_name).unwrap_or_default());
                    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                        request.extensions_mut().insert(shown.clone());
                        let answer = handler(request);
                        async move { Ok::<_, std::convert::Infallible>(answer.await) }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, bundle, connections }
    }

    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn server_config(names: &[&str], client_ca: Option<&str>, protocols: &[&str]) -> (rustls::ServerConfig, String) {
    let now = Timestamp::now();
    let (authority, ca) = Authority::create("outside", now, SignedDuration::from_hours(1)).expect("authority");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let leaf = LeafParams {
        common_name: "outside",
        organizations: &[],
        alt_names: &names,
        client: false,
        server: true,
        valid_for: SignedDuration::from_hours(1),
    };
    let issued = authority.issue(&leaf, now).expect("certificate");
    let chain =
        CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>().expect("chain");
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match client_ca {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("verifier"))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).expect("tls");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    (config, STANDARD.encode(ca.cert_pem))
}
