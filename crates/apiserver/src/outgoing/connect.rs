//! Connections: found by Service or by name, then secured.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Destination, Place, Ways, tls};
use crate::config::{ByteStream, DirectDialer, PodDialer};
use crate::subresources::service_place;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(String);

/// Opens connections to one destination.
#[derive(Clone)]
pub(super) struct Connector {
    ways: Ways,
    to: Arc<Destination>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    pub(super) fn new(ways: Ways, to: Destination, tls: Arc<ClientConfig>) -> Self {
        Self { ways, to: Arc::new(to), tls }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(TokioIo::new(open(connector.ways, connector.to, connector.tls).await?)) })
    }
}

pub(super) async fn open(ways: Ways, to: Arc<Destination>, config: Arc<ClientConfig>) -> Result<Wire, DialError> {
    let stream = dial(&ways, to.place.clone()).await.map_err(DialError)?;
    let name = ServerName::try_from(to.server_name.clone()).map_err(|error| DialError(error.to_string()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    stream.map(Wire).map_err(|error| DialError(tls::failed(&error, &to.server_name)))
}

async fn dial(ways: &Ways, place: Place) -> Result<Box<dyn ByteStream>, String> {
    let place = match place {
        Place::Service { namespace, name, port } => {
            service_place(&*ways.store, &namespace, &name, port).map_err(|status| status.message)?
        }
        other => other,
    };
    let (host, port) = match place {
        Place::Pod(address) => {
            let dialed = ways.pods.dial(address).await;
            return dialed.map_err(|error| dial_failed(address, &error));
        }
        Place::Host { host, port } => (host, port),
        Place::Service { .. } => return Err("a service leads to a service".to_owned()),
    };
    let known: Option<std::net::IpAddr> = host.parse().ok();
    let found = match known {
        Some(address) => vec![address],
        None => coracle_resolve::lookup(&host).await.map_err(|error| format!("dial tcp: {error}"))?,
    };
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for address in found {
        let address = SocketAddr::new(address, port);
        match DirectDialer.dial(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = dial_failed(address, &error),
        }
    }
    Err(last)
}

/// Source: `net.OpError`.
pub(crate) fn dial_failed(address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {why}")
}

/// A secured connection.
pub(super) struct Wire(TlsStream<Box<dyn ByteStream>>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.0.get_ref().1.alpn_protocol() == Some(b"h2") { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
