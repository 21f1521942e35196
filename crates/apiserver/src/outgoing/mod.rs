//! Requests that the server itself makes: to webhooks and to aggregated API servers.
//!
//! One client for all. Connections are kept and used again, by HTTP/2 where the other side speaks it. Errors are worded as
//! Go's client words them, since users see them in Status messages.

mod connect;
mod hook;
mod tls;

pub(crate) use connect::dial_failed;
pub(crate) use hook::Hook;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_client::Body;
use coracle_store::Store;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config::{ByteStream, PodDialer, ServingCertificate};
use connect::{Connector, DialError};

/// Destinations whose connections are kept.
const DESTINATIONS_MAX: usize = 256;
const IDLE_CONNECTIONS_MAX: usize = 16;
const IDLE_TIME_MAX: Duration = Duration::from_secs(90);
/// A connection that does not answer a ping for this long is given up. Source: `HTTP2_PING_TIMEOUT_SECONDS`.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIME_MAX: Duration = Duration::from_secs(15);

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// One of the endpoints of a Service.
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
    Host {
        host: String,
        port: u16,
    },
    /// An address of the pod network.
    Pod(SocketAddr),
}

/// Whose certificates are good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// Authorities, or certificates themselves, in PEM.
    Bundle(Vec<u8>),
    /// The authorities of the machine.
    System,
    Anyone,
}

/// The other side of a connection. Connections are shared by requests to equal ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub place: Place,
    /// What the certificate must be for.
    pub server_name: String,
    pub trust: Trust,
    /// Show the certificate of the front proxy.
    pub as_front_proxy: bool,
}

impl Destination {
    /// `host:port` as it stands in URLs.
    pub(crate) fn authority(&self) -> String {
        let port = match &self.place {
            Place::Service { port, .. } | Place::Host { port, .. } => *port,
            Place::Pod(address) => address.port(),
        };
        if self.server_name.contains(':') {
            format!("[{}]:{port}", self.server_name)
        } else {
            format!("{}:{port}", self.server_name)
        }
    }
}

/// What is needed to open connections.
#[derive(Clone)]
pub(crate) struct Ways {
    pub store: Arc<dyn Store>,
    pub pods: Arc<dyn PodDialer>,
    /// The client certificate of the front proxy.
    pub front_proxy: Option<Arc<ServingCertificate>>,
}

/// Owns all that it needs, so that it can wait anywhere.
pub(crate) type Sending<T> = BoxFuture<'static, Result<T, String>>;

/// The client.
pub(crate) struct Outgoing {
    ways: Ways,
    clients: Mutex<HashMap<Destination, Client<Connector, Body>>>,
}

impl Outgoing {
    pub(crate) fn new(ways: Ways) -> Self {
        Self { ways, clients: Mutex::default() }
    }

    /// Sends a request whose URI has authority and path. The error says why it did not come through.
    pub(crate) fn send(&self, to: &Destination, request: Request<Body>) -> Sending<Response<Incoming>> {
        let client = self.client(to);
        Box::pin(async move { client?.request(request).await.map_err(|error| words(&error)) })
    }

    /// A connection of its own, for one HTTP/1.1 exchange that may be upgraded.
    pub(crate) fn connect(&self, to: &Destination) -> Sending<Box<dyn ByteStream>> {
        let tls = tls::client_config(to, &self.ways, false);
        let (ways, to) = (self.ways.clone(), Arc::new(to.clone()));
        Box::pin(async move {
            let stream = connect::open(ways, to, tls?).await.map_err(|error| error.to_string())?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }

    fn client(&self, to: &Destination) -> Result<Client<Connector, Body>, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(to) {
            return Ok(client.clone());
        }
        if clients.len() >= DESTINATIONS_MAX {
            clients.clear();
        }
        let connector = Connector::new(self.ways.clone(), to.clone(), tls::client_config(to, &self.ways, true)?);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIME_MAX)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        clients.insert(to.clone(), client.clone());
        Ok(client)
    }
}

/// Why a request failed, as Go would say it.
fn words(error: &hyper_util::client::legacy::Error) -> String {
    let mut current: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(error) = current {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.to_string();
        }
        if let Some(broken) = error.downcast_ref::<hyper::Error>()
            && broken.is_incomplete_message()
        {
            return "EOF".to_owned();
        }
        last = error.to_string();
        current = error.source();
    }
    last
}
