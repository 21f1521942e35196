//! One client for all resources.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coracle_api_meta::Status;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::{Body, Error, HttpTransport, Pool, Result, Transport, TransportError};

/// Bytes of one answer that are read at most.
pub const RESPONSE_BYTES_MAX: usize = 512 << 20;

/// A cheap handle; clones share the transport.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: HeaderValue,
    pool: Pool,
}

impl Client {
    /// `user_agent` is also the field manager's name up to its first slash.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Self {
        let user_agent = HeaderValue::from_str(user_agent).unwrap_or(HeaderValue::from_static("coracle"));
        Self { transport, user_agent, pool: Pool::default() }
    }

    /// Over TLS.
    pub fn connect(config: crate::ClientConfig, user_agent: &str) -> Result<Self> {
        Ok(Self::new(Arc::new(HttpTransport::new(config)?), user_agent))
    }

    #[must_use]
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// The same server, under another name for the audit log and managed fields.
    #[must_use]
    pub fn with_user_agent(&self, user_agent: &str) -> Self {
        Self::new(self.transport.clone(), user_agent).with_pool(&self.pool)
    }

    /// Shares the objects of its informers with all others of `pool`.
    #[must_use]
    pub fn with_pool(self, pool: &Pool) -> Self {
        Self { pool: pool.clone(), ..self }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Sends a request as it is and hands out the streamed answer. Answers of 400 and above become errors.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>> {
        request.headers_mut().entry(header::USER_AGENT).or_insert_with(|| self.user_agent.clone());
        request.headers_mut().entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let response = self.transport.send(request).await?;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        Err(Error::Api(Box::new(read_status(response).await)))
    }

    /// Sends a request and reads the whole answer.
    pub async fn request(&self, request: Request<Bytes>) -> Result<Bytes> {
        let response = self.send(request).await?;
        read_body(response).await
    }

    /// `path` includes the query.
    pub async fn call(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> Result<Bytes> {
        self.request(build(method, path, content_type, body)?).await
    }

    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.call(Method::GET, path, "", Vec::new()).await
    }

    pub async fn get_json(&self, path: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.get(path).await?)?)
    }
}

/// A request for [`Client::send`]. An empty content type sends none.
pub(crate) fn build(method: Method, path: &str, content_type: &str, body: Vec<u8>) -> Result<Request<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, content_type);
    }
    builder
        .body(Bytes::from(body))
        .map_err(|error| Error::Transport(TransportError::new(format!("path {path:?}"), error)))
}

async fn read_body(response: Response<Body>) -> Result<Bytes> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| TransportError::new("read the answer", error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > RESPONSE_BYTES_MAX {
            let text = format!("the answer has more than {RESPONSE_BYTES_MAX} bytes");
            return Err(TransportError::plain(text).into());
        }
        // Most answers are one frame, which needs no copy.
        if bytes.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

async fn read_status(response: Response<Body>) -> Status {
    let code = response.status().as_u16();
    let bytes = read_body(response).await.unwrap_or_default();
    match serde_json::from_slice::<Status>(&bytes) {
        Ok(status) if !status.status.is_empty() => status,
        _ => {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            Status::failure(code, "", if text.is_empty() { format!("the server answered {code}") } else { text })
        }
    }
}
