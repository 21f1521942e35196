//! The health check ports of Services with external traffic policy Local (`spec.healthCheckNodePort`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use coracle_plan_network::HealthCheck;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A load balancer's request is one line and few headers.
const REQUEST_BYTES_MAX: usize = 8 << 10;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests answered at a time, per port.
const CONNECTIONS_MAX: usize = 64;

/// A server per port, for as long as this value lives.
#[derive(Default)]
pub(crate) struct Servers {
    by_port: BTreeMap<u16, Server>,
}

struct Server {
    answer: watch::Sender<HealthCheck>,
    _stop: DropGuard,
}

impl Servers {
    /// Serves these ports and no others.
    pub(crate) async fn set(&mut self, wanted: BTreeMap<u16, HealthCheck>) {
        self.by_port.retain(|port, _| wanted.contains_key(port));
        for (port, check) in wanted {
            match self.by_port.get(&port) {
                Some(server) => {
                    server.answer.send_replace(check);
                }
                None => self.start(port, check).await,
            }
        }
    }

    async fn start(&mut self, port: u16, check: HealthCheck) {
        let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, port, service = %check.service, "the health check port is not served");
                return;
            }
        };
        let (answer, answers) = watch::channel(check);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve(listener, answers)));
        self.by_port.insert(port, Server { answer, _stop: stop.drop_guard() });
    }
}

async fn serve(listener: TcpListener, answers: watch::Receiver<HealthCheck>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else { continue };
        let check = answers.borrow().clone();
        tokio::spawn(async move {
            // A client that is slow or gone is its own problem.
            let _ = tokio::time::timeout(REQUEST_TIMEOUT, answer(connection, &check)).await;
            drop(slot);
        });
    }
}

async fn answer(mut connection: TcpStream, check: &HealthCheck) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = connection.read_buf(&mut request).await?;
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    connection.write_all(response(check).as_bytes()).await?;
    connection.shutdown().await
}

/// Source: `hcInstance.ServeHTTP` of kube-proxy.
fn response(check: &HealthCheck) -> String {
    let HealthCheck { service, local_endpoints } = check;
    let (namespace, name) = (&service.namespace, &service.name);
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {local_endpoints},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    let status = if *local_endpoints == 0 { "503 Service Unavailable" } else { "200 OK" };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {local_endpoints}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
