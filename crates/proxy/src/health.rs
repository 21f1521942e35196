//! The health check ports of Services with external traffic policy Local (`spec.healthCheckNodePort`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use coracle_plan_network::HealthCheck;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::{Answer, serve};

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
        let serve = serve(listener, move |_| response(&answers.borrow()));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
        self.by_port.insert(port, Server { answer, _stop: stop.drop_guard() });
    }
}

/// Source: `hcInstance.ServeHTTP` of kube-proxy.
fn response(check: &HealthCheck) -> Answer {
    let HealthCheck { service, local_endpoints } = check;
    let (namespace, name) = (&service.namespace, &service.name);
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {local_endpoints},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    let status = if *local_endpoints == 0 { "503 Service Unavailable" } else { "200 OK" };
    let mut answer = Answer::json(status, &body);
    answer.head.push_str(&format!("X-Load-Balancing-Endpoint-Weight: {local_endpoints}\r\n"));
    answer
}
