//! An API server on its own, for trying requests by hand: prints its kubeconfig and serves until interrupted.

#[path = "../tests/common/mod.rs"]
mod common;

#[tokio::main]
async fn main() {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let cluster = common::Cluster::start_on(&listen).await;
    println!("{}", cluster.kubeconfig.display());
    tokio::signal::ctrl_c().await.expect("signal");
    cluster.server.stop();
    cluster.store.close().await;
}
