//! What others ask the proxy itself: whether it works (`/healthz`, `/livez`), how (`/proxyMode`) and how often (`/metrics`).
//! Source: `pkg/proxy/healthcheck/proxy_health.go`, `cmd/kube-proxy/app/server.go`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{Answer, serve};

/// Rules that could not be brought to the node for so long make it unhealthy. Source: twice `--iptables-sync-period`.
const FAILING_MAX: Duration = Duration::from_secs(60);

/// Shared by who syncs and who answers.
#[derive(Clone, Default)]
pub(crate) struct Status(Arc<Mutex<Facts>>);

#[derive(Default)]
struct Facts {
    updated: Option<Timestamp>,
    /// Since when changes wait for a sync that succeeds.
    failing_since: Option<Timestamp>,
    /// A node that is being removed takes no new connections.
    leaving: bool,
    syncs: u64,
    failures: u64,
    sync_seconds: f64,
    services: usize,
    endpoints: usize,
}

impl Status {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sync came to its end.
    pub(crate) fn synced(&self, good: bool, took: Duration) {
        let now = Timestamp::now();
        let mut facts = self.facts();
        facts.syncs += 1;
        facts.sync_seconds += took.as_secs_f64();
        if good {
            facts.updated = Some(now);
            facts.failing_since = None;
        } else {
            facts.failures += 1;
            facts.failing_since.get_or_insert(now);
        }
    }

    pub(crate) fn changed(&self, services: usize, slices: usize) {
        let mut facts = self.facts();
        facts.services += services;
        facts.endpoints += slices;
    }

    pub(crate) fn set_leaving(&self, leaving: bool) {
        self.facts().leaving = leaving;
    }

    fn health(&self, with_node: bool) -> Answer {
        let now = Timestamp::now();
        let facts = self.facts();
        let waits = facts.failing_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
        let rules = waits.is_none_or(|waits| waits < FAILING_MAX) && facts.updated.is_some();
        let healthy = rules && !(with_node && facts.leaving);
        let updated = facts.updated.filter(|_| !healthy).unwrap_or(now);
        let family = json!({"lastUpdated": facts.updated.unwrap_or(Timestamp::UNIX_EPOCH), "healthy": rules});
        let mut body = json!({"lastUpdated": updated, "currentTime": now});
        if with_node {
            body["nodeEligible"] = Value::Bool(!facts.leaving);
        }
        body["healthy"] = Value::Bool(rules);
        body["status"] = json!({"IPv4": family});
        Answer::json(if healthy { "200 OK" } else { "503 Service Unavailable" }, &body.to_string())
    }

    #[allow(clippy::cast_precision_loss)]
    fn metrics(&self) -> String {
        let facts = self.facts();
        let mut out = String::new();
        let mut put = |name: &str, kind: &str, value: f64| {
            let _ = writeln!(out, "# TYPE kubeproxy_{name} {kind}\nkubeproxy_{name} {value}");
        };
        let last = facts.updated.map_or(0.0, |time| time.as_millisecond() as f64 / 1000.0);
        put("sync_proxy_rules_last_timestamp_seconds", "gauge", last);
        put("sync_proxy_rules_service_changes_total", "counter", facts.services as f64);
        put("sync_proxy_rules_endpoint_changes_total", "counter", facts.endpoints as f64);
        put("sync_proxy_rules_nftables_sync_failures_total", "counter", facts.failures as f64);
        let name = "kubeproxy_sync_proxy_rules_duration_seconds";
        let (count, sum) = (facts.syncs, facts.sync_seconds);
        let _ = writeln!(out, "# TYPE {name} summary\n{name}_sum {sum}\n{name}_count {count}");
        out
    }

    fn healthz(&self, path: &str) -> Answer {
        match path {
            "/healthz" => self.health(true),
            "/livez" => self.health(false),
            _ => Answer::not_found(),
        }
    }

    fn debug(&self, path: &str) -> Answer {
        match path {
            "/healthz" => Answer::text("ok"),
            "/proxyMode" => Answer::text("nftables"),
            "/metrics" => Answer::text(&self.metrics()),
            _ => Answer::not_found(),
        }
    }
}

/// Serves both addresses until `stop`. One that is taken, by another cluster on this host, is left out.
pub(crate) async fn start(
    status: &Status,
    healthz: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    stop: &CancellationToken,
) {
    let own = status.clone();
    listen(healthz, stop, move |path| own.healthz(path)).await;
    let own = status.clone();
    listen(metrics, stop, move |path| own.debug(path)).await;
}

async fn listen(
    address: Option<SocketAddr>,
    stop: &CancellationToken,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) {
    let Some(address) = address else { return };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tokio::spawn(stop.clone().run_until_cancelled_owned(serve(listener, answer)));
        }
        Err(error) => tracing::info!(%error, %address, "the proxy's own state is not served"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_after_a_sync_until_the_node_leaves() {
        let status = Status::default();
        assert!(status.healthz("/healthz").head.contains("503"), "nothing is there yet");
        status.synced(true, Duration::from_millis(5));
        let answer = status.healthz("/healthz");
        assert!(answer.head.contains("200 OK") && answer.body.contains("\"nodeEligible\":true"), "{}", answer.body);
        status.synced(false, Duration::from_millis(5));
        assert!(status.healthz("/healthz").head.contains("200 OK"), "a failure is tried again first");
        status.set_leaving(true);
        assert!(status.healthz("/healthz").head.contains("503") && status.healthz("/livez").head.contains("200 OK"));
        assert_eq!(status.debug("/proxyMode").body, "nftables");
        let metrics = status.debug("/metrics").body;
        assert!(metrics.contains("kubeproxy_sync_proxy_rules_nftables_sync_failures_total 1"), "{metrics}");
        assert!(status.debug("/nope").head.contains("404"));
    }
}
