//! HTTP requests of probes and hooks: HTTP/1.1, TLS without verification, redirects within one host.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::{port_number, tcp};

/// Bytes of an answer that are read. Source: kubelet `maxRespBodyLength`.
const BODY_BYTES_MAX: usize = 10 * 1024;
const REDIRECTS_MAX: usize = 10;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) secure: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    location: Option<String>,
}

impl Target {
    pub(crate) fn of(get: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<Self, String> {
        let host = get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
        let path = get.path.as_deref().unwrap_or_default();
        let headers = get.http_headers.iter().flatten();
        Ok(Self {
            secure: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: host.to_owned(),
            port: port_number(&get.port, container)?,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
        })
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    fn url(&self) -> String {
        format!("{}://{}{}", if self.secure { "https" } else { "http" }, self.authority(), self.path)
    }

    /// Where a redirect leads; `None` when it leaves the host.
    fn redirected(&self, location: &str) -> Option<Self> {
        let mut next = self.clone();
        if location.starts_with('/') && !location.starts_with("//") {
            location.clone_into(&mut next.path);
            return Some(next);
        }
        let uri: http::Uri = location.parse().ok()?;
        next.secure = uri.scheme_str() == Some("https");
        next.host = uri.host()?.trim_matches(['[', ']']).to_owned();
        next.port = uri.port_u16().unwrap_or(if next.secure { 443 } else { 80 });
        next.path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        (next.host == self.host).then_some(next)
    }
}

/// Sends a GET; the error is worded as Go's client words it.
pub(crate) async fn get(target: &Target, limit: Duration) -> Result<Answer, String> {
    let deadline = tokio::time::Instant::now() + limit;
    let mut target = target.clone();
    for _ in 0..=REDIRECTS_MAX {
        let failed = |what: String| format!("Get {:?}: {what}", target.url());
        let slow = || failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let answer = match tokio::time::timeout_at(deadline, once(&target, left)).await {
            Ok(answer) => answer.map_err(&failed)?,
            Err(_) => return Err(slow()),
        };
        let next = answer.location.as_deref().and_then(|location| target.redirected(location));
        match next.filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308)) {
            Some(next) => target = next,
            None => return Ok(answer),
        }
    }
    Err(format!("Get {:?}: stopped after {REDIRECTS_MAX} redirects", target.url()))
}

async fn once(target: &Target, limit: Duration) -> Result<Answer, String> {
    let tcp = tcp::dial(&target.host, target.port, limit).await?;
    if !target.secure {
        return exchange(target, TokioIo::new(tcp)).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(TLS.clone());
    let tls = connector.connect(name, tcp).await.map_err(|error| format!("tls: {error}"))?;
    exchange(target, TokioIo::new(tls)).await
}

async fn exchange<I>(target: &Target, io: I) -> Result<Answer, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(text)?;
    let _connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
    let mut response = sender.send_request(request(target)?).await.map_err(text)?;
    let location = response.headers().get(http::header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX {
        match response.body_mut().frame().await {
            Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            _ => break,
        }
    }
    body.truncate(BODY_BYTES_MAX);
    Ok(Answer { status: response.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned(), location })
}

fn request(target: &Target) -> Result<http::Request<Empty<Bytes>>, String> {
    let mut builder = http::Request::get(&target.path);
    let has = |name: &str| target.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    for (name, value) in &target.headers {
        builder = builder.header(name, value);
    }
    for (name, value) in [
        ("Host", target.authority().as_str()),
        ("User-Agent", "kube-probe/1.36"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ] {
        if !has(name) {
            builder = builder.header(name, value);
        }
    }
    builder.body(Empty::new()).map_err(|error| error.to_string())
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
});

/// Probes ask whether a server answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Incoming;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn acceptor() -> tokio_rustls::TlsAcceptor {
        let (_, issued) =
            coracle_pki::Authority::create("nobody knows", jiff::Timestamp::now(), jiff::SignedDuration::from_hours(1))
                .expect("authority");
        let chain =
            CertificateDer::pem_slice_iter(issued.cert_pem.as_bytes()).collect::<Result<_, _>>().expect("chain");
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("certificate");
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }

    async fn answer(request: http::Request<Incoming>) -> Result<http::Response<String>, http::Error> {
        let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let response = http::Response::builder();
        match request.uri().path() {
            "/good" => response.body(format!("hello {agent}")),
            "/moved" => response.status(302).header("location", "/good").body(String::new()),
            "/away" => response.status(302).header("location", "https://elsewhere.test/").body(String::new()),
            _ => response.status(503).body("not yet".to_owned()),
        }
    }

    /// The certificate is not looked at, redirects are followed within the host.
    #[tokio::test]
    async fn https_is_asked_without_trust() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("address").port();
        let acceptor = acceptor();
        let server = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = hyper::service::service_fn(answer);
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        let ask = async |path: &str| {
            let target =
                Target { secure: true, host: "127.0.0.1".to_owned(), port, path: path.to_owned(), headers: Vec::new() };
            let answer = get(&target, Duration::from_secs(10)).await.expect("answer");
            (answer.status, answer.body)
        };
        assert_eq!(ask("/good").await, (200, "hello kube-probe/1.36".to_owned()));
        assert_eq!(ask("/moved").await, (200, "hello kube-probe/1.36".to_owned()));
        assert_eq!(ask("/away").await, (302, String::new()));
        assert_eq!(ask("/bad").await, (503, "not yet".to_owned()));
        server.abort();
    }
}
