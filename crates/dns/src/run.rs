//! Follows the API, listens, and answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_api_types::k8s_openapi::api::core::v1::{Namespace, Service};
use coracle_api_types::k8s_openapi::api::discovery::v1::EndpointSlice;
use coracle_client::{Api, Change, Changes, Client, Informer, ListParams};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Config, Error, Server};

/// How often an address that is not there yet is tried.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Serves until `stop`.
pub async fn run(config: Config, client: Client, stop: CancellationToken) -> Result<(), Error> {
    let server = Server::new(&config)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(server.clone(), client, stop.clone()));
    for address in config.listen {
        tasks.spawn(listen(server.clone(), address));
    }
    stop.cancelled().await;
    tasks.shutdown().await;
    Ok(())
}

async fn listen(server: Arc<Server>, address: SocketAddr) {
    let mut told = false;
    let (udp, tcp) = loop {
        match bind(address).await {
            Ok(sockets) => break sockets,
            Err(error) if !told => {
                tracing::warn!(%address, %error, "the DNS server waits for its address");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
    };
    tracing::debug!(%address, "the DNS server listens");
    tokio::join!(server.clone().serve_udp(udp), server.serve_tcp(tcp));
}

async fn bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?))
}

async fn follow(server: Arc<Server>, client: Client, stop: CancellationToken) {
    let services = Informer::<Service>::start(Api::all(&client), ListParams::default(), stop.clone());
    let slices = Informer::<EndpointSlice>::start(Api::all(&client), ListParams::default(), stop.clone());
    let namespaces = Informer::<Namespace>::start(Api::all(&client), ListParams::default(), stop);
    services.wait_synced().await;
    slices.wait_synced().await;
    namespaces.wait_synced().await;
    let (mut services, mut slices, mut namespaces) = (services.subscribe(), slices.subscribe(), namespaces.subscribe());
    apply(&server, services.take(), slices.take(), namespaces.take());
    server.set_complete();
    loop {
        next(&server, &mut services, &mut slices, &mut namespaces).await;
    }
}

async fn next(
    server: &Server,
    services: &mut Changes<Service>,
    slices: &mut Changes<EndpointSlice>,
    namespaces: &mut Changes<Namespace>,
) {
    tokio::select! {
        changes = services.next() => apply(server, changes, Vec::new(), Vec::new()),
        changes = slices.next() => apply(server, Vec::new(), changes, Vec::new()),
        changes = namespaces.next() => apply(server, Vec::new(), Vec::new(), changes),
    }
}

fn apply(
    server: &Server,
    services: Vec<Change<Service>>,
    slices: Vec<Change<EndpointSlice>>,
    namespaces: Vec<Change<Namespace>>,
) {
    server.update(|index| {
        for change in namespaces {
            index.set_namespace(&change.key.name, change.new.is_some());
        }
        for change in services {
            index.set_service(&change.key.namespace, &change.key.name, change.new.as_deref());
        }
        for change in slices {
            index.set_slice(change.old.as_deref(), change.new.as_deref());
        }
    });
}
