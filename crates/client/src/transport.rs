//! How requests reach the server.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::ClientConfig;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer, whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body that is there already.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The request did not reach the server, or its answer did not come back.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct TransportError {
    pub context: String,
    #[source]
    pub source: Option<BoxError>,
}

impl TransportError {
    pub fn new(context: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self { context: context.into(), source: Some(source.into()) }
    }

    pub fn plain(context: impl Into<String>) -> Self {
        Self { context: context.into(), source: None }
    }
}

/// Carries one request to the API server. The URI of a request is path and query only.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError>;

    /// Sends a request that asks for a protocol upgrade. With status 101 the response carries
    /// `hyper::upgrade::OnUpgrade` in its extensions.
    async fn send_upgrade(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        self.send(request).await
    }
}

type H2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// HTTP/2 over TLS (one connection, opened again when it breaks); HTTP/1.1 for upgrades and plain HTTP.
pub struct HttpTransport {
    config: ClientConfig,
    authority: String,
    host: String,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
    shared: Mutex<Option<H2>>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl HttpTransport {
    pub fn new(config: ClientConfig) -> crate::Result<Self> {
        let uri: Uri = config
            .server
            .parse()
            .map_err(|error| crate::Error::Config(format!("server {:?} is not a URL: {error}", config.server)))?;
        let secure = uri.scheme_str() != Some("http");
        let host = uri.host().unwrap_or("localhost").trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure { Some(Arc::new(config.tls()?)) } else { None };
        let authority = uri.authority().map_or_else(|| host.clone(), ToString::to_string);
        Ok(Self { config, authority, host, port, tls, shared: Mutex::new(None) })
    }

    async fn connect(&self, alpn: &[&[u8]]) -> Result<(Io, bool), TransportError> {
        let tcp = self.connect_tcp().await?;
        let Some(tls) = &self.tls else { return Ok((Io::Plain(tcp), false)) };
        let mut tls = rustls::ClientConfig::clone(tls);
        tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = self.config.tls_server_name.as_deref().unwrap_or(&self.host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| TransportError::new(format!("server name {name:?} is not valid"), error))?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
            .connect(name, tcp)
            .await
            .map_err(|error| TransportError::new(format!("TLS with {}", self.authority), error))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Io::Tls(Box::new(stream)), h2))
    }

    async fn connect_tcp(&self) -> Result<TcpStream, TransportError> {
        let failed = |error| TransportError::new(format!("connect to {}", self.authority), error);
        let tcp = if self.host == "localhost" {
            TcpStream::connect(("127.0.0.1", self.port)).await
        } else if let Ok(address) = self.host.parse::<std::net::IpAddr>() {
            TcpStream::connect((address, self.port)).await
        } else {
            TcpStream::connect((self.host.as_str(), self.port)).await
        };
        let tcp = tcp.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        Ok(tcp)
    }

    fn prepare(&self, request: Request<Bytes>, h2: bool) -> Result<Request<Full<Bytes>>, TransportError> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        if h2 {
            parts.uri = format!("https://{}{path}", self.authority)
                .parse()
                .map_err(|error| TransportError::new(format!("path {path:?}"), BoxError::from(error)))?;
        } else if let Ok(host) = HeaderValue::from_str(&self.authority) {
            parts.headers.insert(header::HOST, host);
        }
        if let Some(token) = &self.config.bearer_token() {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|error| TransportError::new("token has characters that no header can carry", error))?;
            parts.headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Request::from_parts(parts, Full::new(body)))
    }

    /// The shared HTTP/2 connection, or a fresh HTTP/1.1 one when the server offers no more.
    async fn acquire(&self) -> Result<Connection, TransportError> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(Connection::H2(sender.clone()));
        }
        let (io, h2) = self.connect(&[b"h2", b"http/1.1"]).await?;
        if !h2 {
            drop(shared);
            return Ok(Connection::H1(handshake_h1(io).await?));
        }
        let Io::Tls(stream) = io else { return Err(TransportError::plain("HTTP/2 without TLS")) };
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_reset_streams(1024)
            .handshake(TokioIo::new(*stream))
            .await
            .map_err(|error| TransportError::new(format!("HTTP/2 with {}", self.authority), error))?;
        tokio::spawn(connection);
        *shared = Some(sender.clone());
        Ok(Connection::H2(sender))
    }
}

type H1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

enum Connection {
    H1(H1),
    H2(H2),
}

async fn handshake_h1(io: Io) -> Result<H1, TransportError> {
    let failed = |error| TransportError::new("HTTP/1.1 handshake", error);
    match io {
        Io::Plain(stream) => {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
            tokio::spawn(connection.with_upgrades());
            Ok(sender)
        }
        Io::Tls(stream) => {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(*stream)).await.map_err(failed)?;
            tokio::spawn(connection.with_upgrades());
            Ok(sender)
        }
    }
}

fn boxed(response: Response<hyper::body::Incoming>) -> Response<Body> {
    response.map(|body| body.map_err(BoxError::from).boxed_unsync())
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let failed = |error| TransportError::new(format!("request to {}", self.authority), error);
        match self.acquire().await? {
            Connection::H2(mut sender) => {
                sender.send_request(self.prepare(request, true)?).await.map(boxed).map_err(failed)
            }
            Connection::H1(mut sender) => {
                sender.send_request(self.prepare(request, false)?).await.map(boxed).map_err(failed)
            }
        }
    }

    async fn send_upgrade(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let (io, _) = self.connect(&[b"http/1.1"]).await?;
        let mut sender = handshake_h1(io).await?;
        let request = self.prepare(request, false)?;
        let mut response = sender
            .send_request(request)
            .await
            .map_err(|error| TransportError::new(format!("request to {}", self.authority), error))?;
        let upgrade = hyper::upgrade::on(&mut response);
        let mut response = boxed(response);
        response.extensions_mut().insert(upgrade);
        Ok(response)
    }
}
