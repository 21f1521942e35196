//! The server and its two doors.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use coracle_api_meta::UserInfo;
use coracle_client::{Body, BoxError, Transport, TransportError, full_body};
use coracle_store::Store;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Authentication, Authorization};
use crate::admission::{Policies, Webhooks, policy_status};
use crate::aggregation::Aggregation;
use crate::config::{Config, StartError};
use crate::derived::Derived;
use crate::http::audit::Audit;
use crate::http::authn::{Authenticator, Caller, PeerAddress};
use crate::http::authz::Authorizer;
use crate::http::flow::{self, Gate};
use crate::http::limits::InFlight;
use crate::http::metrics::Metrics;
use crate::http::pipeline;
use crate::outgoing::{Outgoing, Ways};
use crate::registry::resources::{CRDS, Resources};
use crate::subresources::crd_clean_up;
use crate::{aggregation, bootstrap, tls};

/// Connections that are open at once.
const CONNECTIONS_MAX: usize = 10_000;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
const HEADER_TIME_MAX: Duration = Duration::from_secs(30);
const STREAMS_PER_CONNECTION_MAX: u32 = 1000;
const HEADER_BYTES_MAX: u32 = 1024 * 1024;
/// How long running requests may go on after the server was told to stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// An API server over a store.
pub struct Server {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Authorizer,
    pub(crate) gate: Arc<Gate>,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: Metrics,
    pub(crate) audit: Audit,
    pub(crate) outgoing: Outgoing,
    pub(crate) aggregation: Aggregation,
    pub(crate) policies: Policies,
    pub(crate) webhooks: Webhooks,
    pub(crate) documents: crate::discovery::Documents,
    resources: Derived<Resources>,
    pub(crate) state: crate::registry::State,
    tls: tls::Tls,
    stopping: CancellationToken,
}

impl Server {
    /// Checks the configuration and makes the objects that every cluster has, where they are missing.
    pub async fn new(config: Config, store: Arc<dyn Store>) -> Result<Arc<Self>, StartError> {
        let tls = tls::Tls::new(&config)?;
        let authenticator = Authenticator::new(&config)?;
        let authorizer = Authorizer::new(&config.access.authorization)?;
        let audit = Audit::start(config.audit.as_ref()).map_err(|source| StartError::Audit {
            path: config.audit.as_ref().map(|audit| audit.path.clone()).unwrap_or_default(),
            source,
        })?;
        let metrics = config.metrics.is_some();
        let resources = Derived::new(&[CRDS], move |store: &dyn Store| Resources::with_custom(store, metrics));
        let outgoing = Outgoing::new(Ways {
            store: Arc::clone(&store),
            pods: Arc::clone(&config.pods),
            front_proxy: config.front_proxy.as_ref().map(|own| Arc::new(own.client.clone())),
        });
        let server = Arc::new(Self {
            state: crate::registry::State::new(&config),
            config,
            store,
            authenticator,
            authorizer,
            gate: Arc::new(Gate::new()),
            in_flight: InFlight::default(),
            metrics: Metrics::default(),
            audit,
            outgoing,
            aggregation: Aggregation::new(),
            policies: Policies::new(),
            webhooks: Webhooks::new(),
            documents: Default::default(),
            resources,
            tls,
            stopping: CancellationToken::new(),
        });
        bootstrap::run(&server).await?;
        aggregation::start(&server);
        flow::refresh(&server).await;
        tokio::spawn(flow::keep_up(Arc::downgrade(&server)));
        tokio::spawn(crd_clean_up::run(Arc::downgrade(&server), server.stopping.clone()));
        tokio::spawn(policy_status::run(Arc::downgrade(&server), server.stopping.clone()));
        Ok(server)
    }

    pub(crate) fn resources(&self) -> Arc<Resources> {
        self.resources.get(&*self.store)
    }

    /// Ends when the server is told to stop: what watches and tunnels wait for.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Answers one request, whichever door it came by.
    pub async fn handle(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        pipeline::handle(Arc::clone(self), request).await
    }

    /// A transport for callers of this process, who are `user`.
    #[must_use]
    pub fn in_process(self: &Arc<Self>, user: UserInfo) -> InProcess {
        InProcess { server: Arc::clone(self), user }
    }

    /// Takes another authentication configuration, for the requests from now on.
    pub fn configure_authentication(&self, authentication: &Authentication) {
        self.authenticator.configure(&self.config, authentication);
    }

    /// Takes another authorization configuration, for the requests from now on.
    pub fn configure_authorization(&self, authorization: &Authorization) -> Result<(), StartError> {
        self.authorizer.configure(authorization).map_err(StartError::Access)
    }

    /// Tells `serve` and all watches to end.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Answers TLS connections until [`Server::stop`] is called, then lets running requests end.
    pub async fn serve(self: &Arc<Self>, listener: TcpListener) {
        let acceptor = TlsAcceptor::from(self.tls.acceptor());
        let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        let connections = TaskTracker::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping.cancelled() => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let server = Arc::clone(self);
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                server.connection(acceptor, stream, PeerAddress(address.ip())).await;
                drop(place);
            });
        }
        connections.close();
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, connections.wait()).await;
    }

    async fn connection(self: Arc<Self>, acceptor: TlsAcceptor, stream: TcpStream, address: PeerAddress) {
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await;
        let Ok(Ok(stream)) = handshake else { return };
        let peer = self.tls.peer(stream.get_ref().1.peer_certificates().unwrap_or_default());
        let server = Arc::clone(&self);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let server = Arc::clone(&server);
            let mut request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(address);
            async move { Ok::<_, std::convert::Infallible>(server.handle(request).await) }
        });
        let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 24);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// The server's door for callers of the same process.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<Server>,
    user: UserInfo,
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let mut request = request.map(full_body);
        request.extensions_mut().insert(Caller(self.user.clone()));
        Ok(self.server.handle(request).await)
    }
}
