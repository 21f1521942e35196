//! Calls of webhooks: by URL, or through the endpoints of a Service. Source: `k8s.io/apiserver/pkg/util/webhook/client.go`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::server::Server;
use crate::subresources::service_address;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 3 * 1024 * 1024;
const HTTPS_PORT: u16 = 443;

/// Where a hook is.
struct Place {
    /// Whose certificate it must be.
    host: String,
    /// As shown to users, without the query.
    url: String,
    path: String,
    address: Result<SocketAddr, String>,
}

/// Sends a review and gives back what came.
pub(super) async fn post(server: &Arc<Server>, config: &Value, review: &Value, seconds: u64) -> Result<Value, String> {
    let place = place(server, config)?;
    let query = format!("timeout={seconds}s");
    let failed = |why: String| format!("Post \"{}?{query}\": {why}", place.url);
    let exchange = exchange(server, &place, config.str_at(&["caBundle"]), &query, review);
    match tokio::time::timeout(Duration::from_secs(seconds), exchange).await {
        Ok(Ok((status, body))) if status.is_success() => serde_json::from_slice(&body)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}")),
        Ok(Ok((status, body))) => Err(refusal(status, &body)),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed("context deadline exceeded".to_owned())),
    }
}

/// Source: `rest.Request.newUnstructuredResponseError`.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    match status {
        StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
        StatusCode::UNAUTHORIZED => "the server has asked for the client to provide credentials".to_owned(),
        _ => {
            let text = String::from_utf8_lossy(body.get(..body.len().min(2048)).unwrap_or_default());
            format!("an error on the server ({:?}) has prevented the request from succeeding", text.trim())
        }
    }
}

fn place(server: &Arc<Server>, config: &Value) -> Result<Place, String> {
    if let Some(service) = config.get("service").filter(|service| service.is_object()) {
        let (namespace, name) = (service.str_at(&["namespace"]), service.str_at(&["name"]));
        let port = service.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let port = port.unwrap_or(HTTPS_PORT);
        let host = format!("{name}.{namespace}.svc");
        let path = format!("/{}", service.str_at(&["path"]).trim_start_matches('/'));
        let address = service_address(server, namespace, name, port).map_err(|status| status.message);
        return Ok(Place { url: format!("https://{host}:{port}{path}"), host, path, address });
    }
    let url = config.str_at(&["url"]);
    if url.is_empty() {
        return Err("webhook configuration must have either service or URL".to_owned());
    }
    let uri: Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(HTTPS_PORT);
    // Names of the outside are not resolved here: webhooks by URL are given by address.
    let ip = match host.as_str() {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        text => text.parse().map_err(|_| format!("dial tcp: lookup {host}: no such host")),
    };
    let path = if uri.path().is_empty() { "/".to_owned() } else { uri.path().to_owned() };
    let address = ip.map(|ip| SocketAddr::new(ip, port));
    let shown = url.split('?').next().unwrap_or(url).to_owned();
    Ok(Place { host, url: shown, path, address })
}

fn tls(bundle: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let pem = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
    for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
        let _ = roots.add(certificate);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate that is not trusted, in the words that users know.
fn tls_failed(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(error)) => format!("tls: failed to verify certificate: x509: {error}"),
        _ => error.to_string(),
    }
}

async fn exchange(
    server: &Arc<Server>,
    place: &Place,
    bundle: &str,
    query: &str,
    review: &Value,
) -> Result<(StatusCode, Bytes), String> {
    let address = place.address.clone()?;
    let stream = server.config.pods.dial(address).await;
    let stream = stream.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        _ => format!("dial tcp {address}: {error}"),
    })?;
    let name = ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(tls(bundle)?));
    let stream = connector.connect(name, stream).await.map_err(|error| tls_failed(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let request = Request::post(format!("{}?{query}", place.path))
        .header(header::HOST, &place.host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(review.to_string())))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(answer, connection);
    // The connection is driven only as long as the answer is waited for.
    let mut closed = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            _ = &mut connection, if !closed => closed = true,
        }
    }
}
