//! Calls of webhooks: by URL, or through the endpoints of a Service. Source: `k8s.io/apiserver/pkg/util/webhook/client.go`.

use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use coracle_client::full_body;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};

use super::{Destination, Outgoing, Place, Trust};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const HTTPS_PORT: u16 = 443;
/// Of an answer that is no success, this much is told.
const TOLD_BYTES_MAX: usize = 2048;

/// A webhook as its `clientConfig` describes it.
pub(crate) struct Hook {
    to: Destination,
    /// As shown to users, without the query.
    url: String,
}

impl Hook {
    /// Reads a `WebhookClientConfig`.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let bundle = config.str_at(&["caBundle"]);
        let bundle = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
        let trust = if bundle.trim_ascii().is_empty() { Trust::System } else { Trust::Bundle(bundle) };
        if let Some(service) = config.get("service").filter(|service| service.is_object()) {
            let (namespace, name) = (service.str_at(&["namespace"]), service.str_at(&["name"]));
            let port = service.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
            let port = port.unwrap_or(HTTPS_PORT);
            let server_name = format!("{name}.{namespace}.svc");
            let path = format!("/{}", service.str_at(&["path"]).trim_start_matches('/'));
            let url = format!("https://{server_name}:{port}{path}");
            let place = Place::Service { namespace: namespace.to_owned(), name: name.to_owned(), port };
            return Ok(Self { to: Destination { place, server_name, trust, as_front_proxy: false }, url });
        }
        let url = config.str_at(&["url"]);
        if url.is_empty() {
            return Err("webhook configuration must have either service or URL".to_owned());
        }
        let uri: Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let place = Place::Host { host: host.clone(), port: uri.port_u16().unwrap_or(HTTPS_PORT) };
        let url = url.split(['?', '#']).next().unwrap_or(url).to_owned();
        Ok(Self { to: Destination { place, server_name: host, trust, as_front_proxy: false }, url })
    }
}

impl Outgoing {
    /// Sends a review and gives back what came. `timeout_shown` is told to the hook in the query.
    pub(crate) async fn call_hook(
        &self,
        hook: &Hook,
        review: &Value,
        timeout: Duration,
        timeout_shown: bool,
    ) -> Result<Value, String> {
        let query = if timeout_shown { format!("?timeout={}s", timeout.as_secs()) } else { String::new() };
        let url = format!("{}{query}", hook.url);
        let failed = |why: String| format!("Post \"{url}\": {why}");
        match tokio::time::timeout(timeout, self.exchange(hook, &url, review)).await {
            Ok(Ok((status, body))) if status.is_success() => serde_json::from_slice(&body)
                .map_err(|error| format!("couldn't get version/kind; json parse error: {error}")),
            Ok(Ok((status, body))) => Err(refusal(status, &body)),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    async fn exchange(&self, hook: &Hook, url: &str, review: &Value) -> Result<(StatusCode, Bytes), String> {
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(full_body(review.to_string()))
            .map_err(|error| error.to_string())?;
        let answer = self.send(&hook.to, request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }
}

/// Source: `rest.Request.newUnstructuredResponseError`.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    if told.kind() == "Status" && told.str_at(&["status"]) == "Failure" {
        return told.str_at(&["message"]).to_owned();
    }
    match status {
        StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
        StatusCode::UNAUTHORIZED => "the server has asked for the client to provide credentials".to_owned(),
        StatusCode::FORBIDDEN => String::from_utf8_lossy(body.get(..TOLD_BYTES_MAX).unwrap_or(body)).into_owned(),
        _ => {
            let text = String::from_utf8_lossy(body.get(..TOLD_BYTES_MAX).unwrap_or(body));
            format!("an error on the server ({:?}) has prevented the request from succeeding", text.trim())
        }
    }
}
