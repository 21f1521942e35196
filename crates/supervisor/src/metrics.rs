//! The way from the API server to who knows what nodes and pods use.

use std::sync::Arc;

use async_trait::async_trait;
use coracle_api_meta::{Status, Value};
use coracle_apiserver::ResourceMetrics;
use coracle_client::Error;
use coracle_metrics::Metrics;
use tokio::sync::OnceCell;

/// Set as soon as there is a client for it: the server must be there first.
#[derive(Default)]
pub(crate) struct LocalMetrics(OnceCell<Arc<Metrics>>);

impl LocalMetrics {
    pub fn set(&self, metrics: Arc<Metrics>) {
        // Set once, when the control plane starts.
        let _ = self.0.set(metrics);
    }
}

#[async_trait]
impl ResourceMetrics for LocalMetrics {
    async fn list(&self, plural: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        let Some(metrics) = self.0.get() else {
            return Err(Status::failure(503, "ServiceUnavailable", "metrics are not collected yet"));
        };
        metrics.list(plural, namespace).await.map_err(|error| match error {
            Error::Api(status) => *status,
            other => Status::internal(other.to_string()),
        })
    }
}
