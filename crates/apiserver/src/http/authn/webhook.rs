//! A server that is asked by TokenReview. Source: `k8s.io/apiserver/plugin/pkg/authenticator/token/webhook`.

use std::time::Duration;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{UserInfo, Value};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Identity;
use crate::cache::Cache;
use crate::config::TokenWebhook;
use crate::remote::Remote;

const CACHED_MAX: usize = 8192;
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Webhook {
    config: TokenWebhook,
    remote: Remote,
    /// `None`: not authenticated.
    answers: Cache<[u8; 32], Option<Identity>>,
}

impl Webhook {
    pub(super) fn new(config: &TokenWebhook) -> Result<Self, String> {
        let remote = Remote::new(&config.server, "kube-apiserver")?;
        Ok(Self { config: config.clone(), remote, answers: Cache::new(CACHED_MAX) })
    }

    /// `None` when the server does not know the token.
    pub(super) async fn identify(&self, token: &str, audiences: &[&str]) -> Result<Option<Identity>, String> {
        let mut digest = Sha256::new();
        digest.update(token.as_bytes());
        for audience in audiences {
            digest.update([0]);
            digest.update(audience.as_bytes());
        }
        let key: [u8; 32] = digest.finalize().into();
        if let Some(known) = self.answers.get(&key) {
            return Ok(known);
        }
        let mut spec = json!({"token": token});
        if !audiences.is_empty() {
            spec["audiences"] = json!(audiences);
        }
        let review = json!({"kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{}", self.config.version),
            "metadata": {}, "spec": spec, "status": {"user": {}}});
        let answer = self.remote.ask_with_retries(&review, TIMEOUT).await?;
        let identity = read(answer.get("status").unwrap_or(&Value::Null), audiences)?;
        self.answers.put(key, identity.clone(), self.config.cache_ttl);
        Ok(identity)
    }
}

fn read(status: &Value, audiences: &[&str]) -> Result<Option<Identity>, String> {
    if !status.get("authenticated").and_then(Value::as_bool).unwrap_or(false) {
        let error = status.str_at(&["error"]);
        return if error.is_empty() { Ok(None) } else { Err(error.to_owned()) };
    }
    let user: UserInfo = serde_json::from_value(status.get("user").cloned().unwrap_or_else(|| json!({})))
        .map_err(|error| format!("webhook authenticator returned an invalid user: {error}"))?;
    let told = status.get("audiences").and_then(Value::as_array);
    let told: Vec<String> = told.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    // A server that says nothing of audiences means the one of this API.
    let meant = if told.is_empty() {
        audiences.iter().map(|&own| own.to_owned()).collect()
    } else {
        told.into_iter().filter(|own| audiences.contains(&own.as_str())).collect::<Vec<_>>()
    };
    if meant.is_empty() && !audiences.is_empty() {
        return Ok(None);
    }
    Ok(Some(Identity { user, audiences: meant }))
}
