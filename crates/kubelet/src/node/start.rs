//! Brings a kubelet up.

use std::net::SocketAddr;
use std::sync::Arc;

use coracle_api_types::Object;
use coracle_client::{Api, EventRecorder, Informer, ListParams};
use coracle_plan_pods::NodeFacts;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{lease, pods, register, status};
use crate::admission::Admission;
use crate::context::{Context, Ctx};
use crate::error::IoContext;
use crate::images::ImagePuller;
use crate::objects::ObjectCache;
use crate::source::Workers;
use crate::tokens::TokenCache;
use crate::{BoxIo, Config, Deps, Result, api, classes, eviction, gc};

/// A running kubelet. Its tasks end with the token that it was started with; containers go on.
pub struct Kubelet {
    ctx: Ctx,
    address: Option<SocketAddr>,
    ready: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

impl Kubelet {
    /// Registers the node and begins to run its pods. Returns as soon as the kubelet's own API listens.
    pub async fn start(config: Config, deps: Deps, stop: CancellationToken) -> Result<Self> {
        for dir in [config.root_dir.join("pods"), config.pod_logs_dir.clone()] {
            std::fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
        }
        let listener = api::listen(&config).await?;
        let address = listener.as_ref().and_then(api::Listener::local_address);
        let ctx = context(config, &deps, stop.clone()).await?;
        let (ready_sender, ready) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if let Some(listener) = listener {
            tasks.spawn(stop.clone().run_until_cancelled_owned(listener.serve(ctx.clone())).discard());
        }
        let port = address.map_or(0, |address| address.port());
        tasks.spawn(stop.clone().run_until_cancelled_owned(node_loop(ctx.clone(), port, ready_sender)).discard());
        tasks.spawn(stop.clone().run_until_cancelled_owned(lease::keep(ctx.clone())).discard());
        tasks.spawn(pods::run(ctx.clone()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(gc::run(ctx.clone())).discard());
        tasks.spawn(stop.clone().run_until_cancelled_owned(classes::keep(ctx.clone())).discard());
        tasks.spawn(stop.clone().run_until_cancelled_owned(eviction::run(ctx.clone())).discard());
        Ok(Self { ctx, address, ready, tasks })
    }

    /// Where the kubelet's API listens; `None` when it is served in-process only.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Waits until the node has reported itself ready; `false` when the kubelet stops before.
    pub async fn wait_ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// Serves one HTTP/1.1 connection of the API server in the same process, which has authenticated its client.
    pub async fn serve_connection(&self, io: impl BoxIo) {
        api::serve(self.ctx.clone(), io, api::Peer::InProcess).await;
    }

    /// Something that serves connections and can be kept apart from the kubelet.
    #[must_use]
    pub fn door(&self) -> Door {
        Door { ctx: self.ctx.clone() }
    }

    /// Waits for all tasks to end, after the token was cancelled.
    pub async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The way into a kubelet of the same process.
#[derive(Clone)]
pub struct Door {
    ctx: Ctx,
}

impl Door {
    /// Opens a connection that carries HTTP/1.1 and is trusted like the API server's.
    #[must_use]
    pub fn connect(&self) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(api::PIPE_BYTES);
        tokio::spawn(api::serve(self.ctx.clone(), ours, api::Peer::InProcess));
        theirs
    }
}

/// Drops what a task returns.
trait Discard: Future + Sized {
    async fn discard(self) {
        let _ = self.await;
    }
}
impl<F: Future> Discard for F {}

async fn context(config: Config, deps: &Deps, stop: CancellationToken) -> Result<Ctx> {
    let version = deps.runtime.version().await?;
    let machine = coracle_host::info::machine();
    let facts = NodeFacts {
        ips: config.node_ips.iter().map(ToString::to_string).collect(),
        runtime_name: version.runtime_name,
        memory_capacity: i64::try_from(machine.memory).unwrap_or(i64::MAX),
    };
    let client = deps.client.with_user_agent("kubelet");
    let workers = Workers::default();
    let own = ListParams::default().fields(&format!("metadata.name={}", config.node_name));
    let node = Informer::start(Api::all(&client), own, stop.clone());
    let services = Informer::start(Api::all(&client), ListParams::default(), stop.clone());
    Ok(Arc::new(Context {
        events: EventRecorder::new(&client, "kubelet", &config.node_name),
        images: ImagePuller::new(deps.images.clone(), config.image_pulls_parallel_max),
        services,
        config_maps: ObjectCache::new(&client, &workers, &stop),
        secrets: ObjectCache::new(&client, &workers, &stop),
        tokens: TokenCache::new(&client),
        runtime: deps.runtime.clone(),
        runtime_version: version.runtime_version,
        facts,
        admission: Admission::new(node, register::stand_in(&config, &machine), workers.clone()),
        users: crate::users::UserRanges::default(),
        workers,
        machine,
        client,
        config,
        stop,
    }))
}

/// Registers, then reports for as long as the kubelet runs.
async fn node_loop(ctx: Ctx, port: u16, ready: watch::Sender<bool>) {
    let node = register::register(&ctx, port).await;
    tracing::debug!(node = node.name(), "node registered");
    status::report(&ctx, node, port, ready).await;
}
