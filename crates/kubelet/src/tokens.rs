//! Service account tokens for pods.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use coracle_api_meta::Gvr;
use coracle_api_types::Object;
use coracle_client::{Client, DynamicApi};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::{Error, Result};

/// Seconds after which a token is renewed at the latest. Source: kubelet token manager.
const AGE_SECONDS_MAX: i64 = 24 * 3600;
/// Seconds before a failed renewal is tried again, while the old token still works.
const RETRY_SECONDS: i64 = 60;

pub(crate) struct TokenCache {
    client: Client,
    tokens: Mutex<HashMap<Key, Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    pod_uid: String,
    account: String,
    audience: String,
    seconds: i64,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    expires: Timestamp,
    renew: Timestamp,
}

impl TokenCache {
    pub(crate) fn new(client: &Client) -> Self {
        Self { client: client.clone(), tokens: Mutex::default() }
    }

    /// A token that is good for a while, and when it should be asked for again.
    pub(crate) async fn get(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<(String, Timestamp)> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let key =
            Key { pod_uid: pod.uid().to_owned(), account: account.to_owned(), audience: audience.to_owned(), seconds };
        let now = Timestamp::now();
        let known = self.locked().get(&key).cloned();
        if let Some(token) = known.as_ref().filter(|token| now < token.renew) {
            return Ok((token.text.clone(), token.renew));
        }
        match (self.request(pod, &key, now).await, known) {
            (Ok(token), _) => {
                self.locked().insert(key, token.clone());
                Ok((token.text, token.renew))
            }
            (Err(error), Some(old)) if now < old.expires => {
                tracing::warn!(%error, account, "renew a service account token");
                Ok((old.text, later(now, RETRY_SECONDS)))
            }
            (Err(error), _) => Err(error),
        }
    }

    pub(crate) fn release(&self, pod_uid: &str) {
        self.locked().retain(|key, _| key.pod_uid != pod_uid);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(&self, pod: &Pod, key: &Key, now: Timestamp) -> Result<Token> {
        let audiences: Vec<&str> = [key.audience.as_str()].into_iter().filter(|name| !name.is_empty()).collect();
        let request = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": key.seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid()},
            },
        });
        let api = DynamicApi::namespaced(&self.client, &Gvr::new("", "v1", "serviceaccounts"), pod.namespace());
        let answer = api.create_subresource(&key.account, "token", request.to_string().into_bytes()).await;
        let answer = answer.map_err(|error| Error::message(format!("failed to fetch token: {error}")))?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(coracle_client::Error::from)?;
        let text = |path: &str| answer.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default();
        let token = text("/status/token").to_owned();
        if token.is_empty() {
            return Err(Error::message("failed to fetch token: the server's answer has none"));
        }
        let asked = later(now, key.seconds);
        let expires = text("/status/expirationTimestamp").parse::<Timestamp>().unwrap_or(asked);
        let life = (expires.as_second() - now.as_second()).max(1);
        let renew = later(now, (life * 4 / 5).min(AGE_SECONDS_MAX));
        Ok(Token { text: token, expires, renew })
    }
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(time)
}
