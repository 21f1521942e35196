//! A small HTTP client: one connection for each request, own name resolution, TLS by rustls.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::proxy::{self, Proxy};
use crate::store::{Config, Proxies};
use crate::{Error, Result};

/// Places where distributions keep the root certificates.
const CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const CONNECT_WAIT: Duration = Duration::from_secs(30);
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How long a body may stand still.
const STALL_WAIT: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    ca_file: Option<std::path::PathBuf>,
    insecure: Vec<String>,
    proxies: Proxies,
    tls: OnceLock<std::result::Result<Arc<ClientConfig>, String>>,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Client {
    pub fn new(config: &Config) -> Self {
        Self {
            ca_file: config.ca_file.clone(),
            insecure: config.insecure_registries.clone(),
            proxies: config.proxies.clone(),
            tls: OnceLock::new(),
        }
    }

    /// `http` for registries of this machine and those configured so, else `https`.
    pub fn scheme_of(&self, authority: &str) -> &'static str {
        let host = host_of(authority);
        let local = host == "localhost" || host == "::1" || host.starts_with("127.");
        if local || self.insecure.iter().any(|known| known == authority) { "http" } else { "https" }
    }

    /// Sends one request. Errors are worded as Go's client words them, as users know them from other runtimes.
    pub async fn send(&self, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Result<Response<Incoming>> {
        let verb = match method.as_str() {
            "GET" => "Get",
            "HEAD" => "Head",
            _ => "Post",
        };
        let failed = |why: String| Error::Registry(format!("failed to do request: {verb} \"{uri}\": {why}"));
        let proxy = self.proxy_for(uri);
        let wire = match tokio::time::timeout(CONNECT_WAIT, self.connect(uri, proxy.as_ref())).await {
            Ok(wire) => wire.map_err(failed)?,
            Err(_) => return Err(failed("dial tcp: i/o timeout".into())),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(wire))
            .await
            .map_err(|error| failed(error.to_string()))?;
        // Ends with the response: both are dropped together.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a registry broke");
            }
        });
        // A proxy is told the whole address, unless it only carries an encrypted connection.
        let plain_proxy = proxy.filter(|_| uri.scheme_str() == Some("http"));
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let target = if plain_proxy.is_some() { uri.to_string() } else { path.to_owned() };
        let mut request = Request::builder().method(method.clone()).uri(target);
        if let Some(target) = request.headers_mut() {
            *target = headers;
        }
        if let Some(authorization) = plain_proxy.and_then(|proxy| proxy.authorization) {
            request = request.header(http::header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request
            .header(HOST, uri.authority().map_or("", http::uri::Authority::as_str))
            .header(USER_AGENT, concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| failed(error.to_string()))?;
        match tokio::time::timeout(ANSWER_WAIT, sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed("net/http: timeout awaiting response headers".into())),
        }
    }

    fn proxy_for(&self, uri: &Uri) -> Option<Proxy> {
        let (host, port, secure) = place_of(uri);
        self.proxies.of(secure, host, port)
    }

    async fn connect(&self, uri: &Uri, proxy: Option<&Proxy>) -> std::result::Result<Box<dyn Wire>, String> {
        let (host, port, secure) = place_of(uri);
        let Some(proxy) = proxy else {
            let stream = dial(host, port).await?;
            return if secure { self.secure(host, stream).await } else { Ok(Box::new(stream)) };
        };
        let mut stream = dial(&proxy.host, proxy.port).await.map_err(|why| format!("proxyconnect tcp: {why}"))?;
        if !secure {
            return Ok(Box::new(stream));
        }
        proxy::connect(&mut stream, proxy, &format!("{host}:{port}")).await?;
        self.secure(host, stream).await
    }

    async fn secure(&self, host: &str, stream: TcpStream) -> std::result::Result<Box<dyn Wire>, String> {
        let config = self.tls.get_or_init(|| self.tls_config()).clone()?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
        Ok(Box::new(stream))
    }

    fn tls_config(&self) -> std::result::Result<Arc<ClientConfig>, String> {
        let own = self.ca_file.as_deref();
        let found = own.or_else(|| CA_FILES.iter().map(std::path::Path::new).find(|path| path.exists()));
        let path = found.ok_or("no root certificates on this machine (install ca-certificates)")?;
        let pem = std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

async fn dial(host: &str, port: u16) -> std::result::Result<TcpStream, String> {
    let addresses = coracle_resolve::lookup(host).await.map_err(|error| format!("dial tcp: {error}"))?;
    let mut last = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => {
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Err(error) => {
                let why = error.raw_os_error().map_or_else(|| error.to_string(), coracle_host::describe);
                last = format!("dial tcp {}: connect: {why}", std::net::SocketAddr::new(address, port));
            }
        }
    }
    Err(last)
}

/// Host, port, and whether it is spoken to by TLS.
fn place_of(uri: &Uri) -> (&str, u16, bool) {
    let secure = uri.scheme_str() == Some("https");
    let host = host_of(uri.authority().map_or("", http::uri::Authority::as_str));
    (host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }), secure)
}

/// The host without port and brackets.
fn host_of(authority: &str) -> &str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

/// The next part of a body; `None` at its end.
pub(crate) async fn next_part(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(STALL_WAIT, body.frame()).await;
        let frame = frame.map_err(|_| Error::Registry("the registry stopped sending".into()))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Error::Registry(format!("the registry broke off: {error}"))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole body of bounded size.
pub(crate) async fn read_body(mut body: Incoming, bytes_max: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(part) = next_part(&mut body).await? {
        content.extend_from_slice(&part);
        if content.len() as u64 > bytes_max {
            return Err(Error::TooLarge(format!("the registry sent more than {bytes_max} bytes")));
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_this_machine_need_no_tls() {
        let config = Config { insecure_registries: vec!["reg.test:5000".into()], ..Config::default() };
        let client = Client::new(&config);
        let schemes = ["localhost:5000", "127.0.0.1", "[::1]:5000", "reg.test:5000", "reg.test", "docker.io"]
            .map(|authority| client.scheme_of(authority));
        assert_eq!(schemes, ["http", "http", "http", "http", "https", "https"]);
    }
}
