//! The kubelet's own API, for the API server: over TLS, or over a pipe inside one process.

mod exec;
mod logs;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use coracle_api_meta::{Status, reason};
use coracle_client::{Body, full_body};
use coracle_pki::CertificateInfo;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::context::Ctx;
use crate::error::IoContext;
use crate::{Config, Error, Result, ServingTls};

/// Bytes on their way inside a pipe.
pub(crate) const PIPE_BYTES: usize = 256 << 10;
/// Name of the API server's client certificate, and the group of administrators.
const API_SERVER_USER: &str = "kube-apiserver-kubelet-client";
const ADMIN_GROUP: &str = "system:masters";
/// How long a client may take for its TLS handshake.
const HANDSHAKE_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// A connection in both directions.
pub trait BoxIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> BoxIo for T {}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Our own API server, in this process. It hands errors on as they are, so they are whole `Status` objects.
    InProcess,
    /// An API server that showed its certificate. It makes a `Status` of the text of an error.
    ApiServer,
    Nobody,
}

pub(crate) struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

/// `None` without a certificate.
pub(crate) async fn listen(config: &Config) -> Result<Option<Listener>> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let tls = TlsAcceptor::from(Arc::new(server_config(tls)?));
    let tcp = TcpListener::bind(config.listen).await.context(|| format!("listen on {}", config.listen))?;
    Ok(Some(Listener { tcp, tls }))
}

fn server_config(tls: &ServingTls) -> Result<rustls::ServerConfig> {
    let bad = |what: &str, error: &dyn std::fmt::Display| Error::message(format!("{what}: {error}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&tls.cert_chain_pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| bad("read the serving certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key_pem).map_err(|error| bad("read the serving key", &error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.client_ca_pem) {
        let certificate = certificate.map_err(|error| bad("read the client authority", &error))?;
        roots.add(certificate).map_err(|error| bad("read the client authority", &error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad("use the client authority", &error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("set up TLS", &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| bad("use the serving certificate", &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl Listener {
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    pub(crate) async fn serve(self, ctx: Ctx) {
        loop {
            let Ok((tcp, _)) = self.tcp.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (tls, ctx) = (self.tls.clone(), ctx.clone());
            tokio::spawn(async move {
                let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_WAIT_MAX, tls.accept(tcp)).await else { return };
                let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = if peer.is_some_and(is_trusted) { Peer::ApiServer } else { Peer::Nobody };
                serve(ctx, stream, peer).await;
            });
        }
    }
}

fn is_trusted(certificate: &CertificateDer<'_>) -> bool {
    CertificateInfo::from_der(certificate).is_ok_and(|info| {
        info.common_name == API_SERVER_USER || info.organizations.iter().any(|group| group == ADMIN_GROUP)
    })
}

/// Serves one connection to its end.
pub(crate) async fn serve(ctx: Ctx, io: impl BoxIo, peer: Peer) {
    let service = service_fn(move |request: Request<Incoming>| {
        let ctx = ctx.clone();
        async move { Ok::<_, std::convert::Infallible>(handle(&ctx, request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "a connection of the kubelet's API");
    }
}

/// An answer with a message, for things that went wrong.
pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full_body(Bytes::from(message.into())));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// An error as clients of the API read it.
fn status_object(status: StatusCode, message: &str) -> Response<Body> {
    let message = message.trim();
    let status = match status {
        StatusCode::BAD_REQUEST => Status::bad_request(message),
        StatusCode::NOT_FOUND => Status::failure(404, reason::NOT_FOUND, message),
        _ => Status::internal(message),
    };
    let mut response = json(&serde_json::Value::Null);
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or_default();
    *response.body_mut() = full_body(Bytes::from(status.to_vec()));
    response
}

pub(crate) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full_body(Bytes::from(value.to_string())));
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

async fn handle(ctx: &Ctx, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if parts == ["healthz"] {
        return text(StatusCode::OK, "ok");
    }
    if peer == Peer::Nobody {
        return text(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["exec", namespace, pod, container] => {
            exec::remote_command(ctx, exec::Verb::Exec, [namespace, pod, container], "", request)
        }
        ["exec", namespace, pod, uid, container] => {
            exec::remote_command(ctx, exec::Verb::Exec, [namespace, pod, container], uid, request)
        }
        ["attach", namespace, pod, container] => {
            exec::remote_command(ctx, exec::Verb::Attach, [namespace, pod, container], "", request)
        }
        ["attach", namespace, pod, uid, container] => {
            exec::remote_command(ctx, exec::Verb::Attach, [namespace, pod, container], uid, request)
        }
        ["portForward", namespace, pod] => exec::forward_ports(ctx, [namespace, pod], "", request),
        ["portForward", namespace, pod, uid] => exec::forward_ports(ctx, [namespace, pod], uid, request),
        ["pods"] if reads => pods(ctx),
        ["containerLogs", namespace, pod, container] if reads => {
            let query = request.uri().query().unwrap_or_default();
            match logs::serve(ctx, namespace, pod, container, query).await {
                Ok(response) => response,
                Err((status, message)) if peer == Peer::InProcess => status_object(status, &message),
                Err((status, message)) => text(status, message),
            }
        }
        ["stats", "summary"] if reads => stats::summary(ctx).await,
        ["configz"] if reads => configz(ctx),
        ["metrics", rest @ ..] if reads => stats::metrics(ctx, rest).await,
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn pods(ctx: &Ctx) -> Response<Body> {
    let snapshots = ctx.workers.snapshots();
    let items = snapshots.into_values().filter_map(|snapshot| {
        let mut pod = snapshot.pod?.as_ref().clone();
        pod.status = snapshot.status.map(|status| status.as_ref().clone());
        serde_json::to_value(pod).ok()
    });
    let items: Vec<serde_json::Value> = items.collect();
    json(&serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

fn configz(ctx: &Ctx) -> Response<Body> {
    let config = &ctx.config;
    let dns: Vec<String> = config.cluster_dns.iter().map(ToString::to_string).collect();
    json(&serde_json::json!({"kubeletconfig": {
        "clusterDNS": dns,
        "clusterDomain": config.cluster_domain,
        "maxPods": config.pods_max,
        "staticPodPath": config.static_pod_dir,
        "containerLogMaxSize": config.container_log_bytes_max.to_string(),
        "containerLogMaxFiles": config.container_log_files_max,
        "imageGCHighThresholdPercent": config.image_gc_high_percent,
        "imageGCLowThresholdPercent": config.image_gc_low_percent,
        "maxParallelImagePulls": config.image_pulls_parallel_max,
        "nodeLeaseDurationSeconds": config.lease_duration.as_secs(),
        "resolvConf": config.resolv_conf,
    }}))
}

/// Values of a query's parameter, decoded.
pub(crate) fn query_all(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    });
    pairs.collect()
}

pub(crate) fn query_first(query: &str, name: &str) -> Option<String> {
    query_all(query, name).into_iter().next().filter(|value| !value.is_empty())
}

/// `true` as Go reads booleans of queries.
pub(crate) fn query_flag(query: &str, name: &str) -> bool {
    query_first(query, name).is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "False" | "f"))
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = "command=sh&command=-c&command=echo%20a%2Bb+c&tty=1&input=0&bad=%zz%";
        assert_eq!(query_all(query, "command"), ["sh", "-c", "echo a+b c"]);
        assert!(query_flag(query, "tty") && !query_flag(query, "input") && !query_flag(query, "none"));
        assert_eq!(query_first(query, "bad").as_deref(), Some("%zz%"));
    }
}
