//! `up --demo`: a small web application made from this binary, called through its Service by DNS name.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::Args;
use coracle_supervisor::Cluster;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[derive(Debug, Args)]
pub struct WebOptions {
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

/// The application itself.
pub async fn serve(options: WebOptions) -> Result<()> {
    let listener = TcpListener::bind(options.listen).await.with_context(|| format!("listen on {}", options.listen))?;
    let pod = std::env::var("POD_NAME").unwrap_or_else(|_| "unknown".to_owned());
    loop {
        let (stream, _) = listener.accept().await?;
        let pod = pod.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |_: Request<Incoming>| {
                let answer = format!("Hello from {pod}\n");
                async move { Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(answer)))) }
            });
            // A client that goes away is no error of ours.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Deploys the application and shows its answer and the timings.
pub async fn run(cluster: &Cluster) -> Result<()> {
    let shown = coracle_supervisor::demo::deploy(cluster).await.context("demo")?;
    say!();
    say!("Demo: Deployment and Service `demo` in namespace `default`");
    for (what, millis) in &shown.timings {
        say!("  {what:<34}{millis:>6} ms");
    }
    say!("  http://{}/ answers: {}", shown.name, shown.answer.trim());
    Ok(())
}
