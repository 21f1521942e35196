//! Servers that kubeconfig files lead to, asked for one answer at a time: webhooks of authentication and authorization.

use std::time::Duration;

use bytes::Bytes;
use coracle_api_meta::Value;
use coracle_client::{ClientConfig, HttpTransport, Transport};
use futures::FutureExt;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};

const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Source: `webhook.DefaultRetryBackoffWithInitialDelay`.
const TRIES_MAX: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_FACTOR: f64 = 1.5;
/// Of an answer that is no success, this much is told.
const TOLD_BYTES_MAX: usize = 1024;

pub(crate) struct Remote {
    config: ClientConfig,
    transport: HttpTransport,
    path: String,
    user_agent: &'static str,
}

/// Why there is no answer.
struct Failure {
    why: String,
    /// The server may think otherwise soon.
    passes: bool,
}

impl Remote {
    pub(crate) fn new(config: &ClientConfig, user_agent: &'static str) -> Result<Self, String> {
        let uri: Uri = config.server.parse().map_err(|error| format!("server {:?}: {error}", config.server))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let transport = HttpTransport::new(config.clone()).map_err(|error| error.to_string())?;
        Ok(Self { config: config.clone(), transport, path, user_agent })
    }

    /// Posts a review and gives back what came, after some tries where the server fails.
    pub(crate) async fn ask_with_retries(&self, review: &Value, timeout: Duration) -> Result<Value, String> {
        let body = Bytes::from(review.to_string());
        let tries = async {
            let mut pause = FIRST_PAUSE;
            let mut last = self.ask(&body).await;
            for _ in 1..TRIES_MAX {
                match last {
                    Err(failure) if failure.passes => {}
                    other => return other,
                }
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(PAUSE_FACTOR);
                last = self.ask(&body).await;
            }
            last
        };
        match tokio::time::timeout(timeout, tries).await {
            Ok(answer) => answer.map_err(|failure| failure.why),
            Err(_) => Err(self.worded("context deadline exceeded")),
        }
    }

    /// The same from a thread of its own, for callers that cannot wait as a task.
    pub(crate) fn ask_from_a_thread(&self, review: &Value, timeout: Duration) -> Result<Value, String> {
        let (config, user_agent, review) = (self.config.clone(), self.user_agent, review.clone());
        let ask = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            // Connections belong to a runtime.
            let remote = Self::new(&config, user_agent)?;
            runtime.block_on(remote.ask_with_retries(&review, timeout))
        };
        let thread = std::thread::Builder::new().name("ask-webhook".to_owned()).spawn(ask);
        let thread = thread.map_err(|error| error.to_string())?;
        thread.join().unwrap_or_else(|_| Err("asking the webhook failed".to_owned()))
    }

    fn worded(&self, why: &str) -> String {
        format!("Post {:?}: {why}", self.config.server)
    }

    async fn ask(&self, body: &Bytes) -> Result<Value, Failure> {
        let failed = |why: String, passes| Failure { why, passes };
        let request = Request::post(self.path.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, self.user_agent)
            .body(body.clone())
            .map_err(|error| failed(error.to_string(), false))?;
        let answer = self.transport.send(request).await;
        let answer = answer.map_err(|error| {
            let mut why = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                why = format!("{why}: {inner}");
                source = inner.source();
            }
            failed(self.worded(&why), true)
        })?;
        let status = answer.status();
        // Boxed: the compiler cannot see through the error type of the body otherwise.
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().boxed().await;
        let body = body.map_err(|error| failed(self.worded(&error.to_string()), true))?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(body.get(..TOLD_BYTES_MAX).unwrap_or(&body)).into_owned();
            let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(failed(format!("the webhook answered {}: {:?}", status.as_u16(), text.trim()), passes));
        }
        serde_json::from_slice(&body).map_err(|error| failed(format!("read the answer: {error}"), false))
    }
}
