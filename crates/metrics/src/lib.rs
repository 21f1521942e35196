//! What nodes and pods use: the objects of `metrics.k8s.io`, made from the summaries of the kubelets.
//!
//! [`Metrics::run`] asks each kubelet for its summary from time to time; [`Metrics::list`] answers from the last two
//! ([`usage`]). Nothing is stored: usage is a rate between two moments, and there is none until two were seen. The price
//! is that the first answer comes only after [`SAMPLE_EVERY`]. This crate never decides anything about what it measures.

mod sample;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_api_meta::Value;
use coracle_client::{Client, DynamicApi, ListParams, Result};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use sample::Summary;
pub use usage::{Window, node_metrics, pod_metrics};

/// How often kubelets are asked. Source: `--metric-resolution` of metrics-server.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(15);
/// The second look comes sooner, so that there is something to show soon after a start.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// A kubelet that does not answer for so long is left out this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Samples older than this say nothing about now.
const AGE_MAX: Duration = Duration::from_secs(90);

/// Follows the usage of all nodes.
pub struct Metrics {
    client: Client,
    windows: Mutex<BTreeMap<String, Window>>,
}

impl Metrics {
    #[must_use]
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self { client, windows: Mutex::default() })
    }

    fn windows(&self) -> MutexGuard<'_, BTreeMap<String, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let follow = async {
            let mut wait = FIRST_AFTER;
            loop {
                self.sample().await;
                tokio::time::sleep(wait).await;
                wait = SAMPLE_EVERY;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    async fn sample(&self) {
        let nodes = match self.objects("/api/v1/nodes").await {
            Ok(nodes) => nodes,
            Err(error) => return tracing::debug!(%error, "list nodes"),
        };
        let names: Vec<&str> = nodes.iter().filter_map(|node| node.pointer("/metadata/name")?.as_str()).collect();
        self.windows().retain(|name, _| names.contains(&name.as_str()));
        for name in names {
            let path = format!("/api/v1/nodes/{name}/proxy/stats/summary");
            let summary = match tokio::time::timeout(ANSWER_TIME_MAX, self.client.get(&path)).await {
                Ok(Ok(bytes)) => serde_json::from_slice::<Summary>(&bytes).ok(),
                Ok(Err(error)) => {
                    tracing::debug!(%error, node = name, "ask for the summary");
                    None
                }
                Err(_) => None,
            };
            if let Some(summary) = summary {
                self.windows().entry(name.to_owned()).or_default().push(summary);
            }
        }
    }

    async fn objects(&self, path: &str) -> Result<Vec<Value>> {
        let list = self.client.get_json(path).await?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// The objects of `nodes` or `pods` of `metrics.k8s.io/v1beta1`, with the labels of what they measure.
    pub async fn list(&self, plural: &str, namespace: &str) -> Result<Vec<Value>> {
        let gvr = coracle_api_meta::Gvr::new("", "v1", plural);
        let api = DynamicApi::namespaced(&self.client, &gvr, namespace);
        let measured = api.list(&ListParams::default()).await?;
        let mut windows = self.windows().clone();
        let now = Timestamp::now();
        windows.retain(|_, window| window.age(now).is_some_and(|age| age <= AGE_MAX));
        let measure = |object: &Value| match plural {
            "nodes" => node_metrics(object, windows.get(object.pointer("/metadata/name")?.as_str()?)?),
            _ => pod_metrics(object, windows.get(object.pointer("/spec/nodeName")?.as_str()?)?),
        };
        Ok(measured.iter().filter_map(measure).collect())
    }
}
