//! Answers.

use std::io::Write as _;

use bytes::Bytes;
use coracle_api_meta::{Status, Value};
use coracle_client::{Body, full_body};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::negotiate::{Accept, Encoding, JSON, YAML};

pub(crate) type Reply = Response<Body>;

/// Answers from this size on are compressed when the client can read that. Source: upstream's `defaultGzipThresholdBytes`.
const GZIP_BYTES_MIN: usize = 128 * 1024;

pub(crate) fn bytes(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full_body(bytes));
    *reply.status_mut() = code;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Reply {
    bytes(code, "text/plain; charset=utf-8", text)
}

pub(crate) fn json(value: &Value) -> Reply {
    bytes(StatusCode::OK, JSON, value.to_string())
}

pub(crate) fn status(status: &Status) -> Reply {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = bytes(code, JSON, status.to_vec());
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    reply
}

/// JSON bytes in the encoding that the client asked for.
pub(crate) fn encoded(code: StatusCode, accept: &Accept, json_bytes: Bytes) -> Result<Reply, Status> {
    match accept.encoding {
        Encoding::Json if accept.pretty => {
            let value: Value = serde_json::from_slice(&json_bytes).map_err(Status::internal)?;
            let mut text = serde_json::to_vec_pretty(&value).map_err(Status::internal)?;
            text.push(b'\n');
            Ok(bytes(code, JSON, text))
        }
        Encoding::Json => Ok(bytes(code, JSON, json_bytes)),
        Encoding::Yaml => {
            let value: Value = serde_json::from_slice(&json_bytes).map_err(Status::internal)?;
            let text = serde_saphyr::to_string(&value).map_err(Status::internal)?;
            Ok(bytes(code, YAML, text))
        }
        Encoding::Protobuf => crate::registry::objects::protobuf_reply(code, &json_bytes),
    }
}

/// Compresses a large whole body for clients that read gzip.
pub(crate) fn compress(headers: &HeaderMap, content_type: &'static str, body: Vec<u8>) -> Reply {
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if body.len() < GZIP_BYTES_MIN || !accepts.contains("gzip") {
        return bytes(StatusCode::OK, content_type, body);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 6), flate2::Compression::fast());
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(packed) => {
            let mut reply = bytes(StatusCode::OK, content_type, packed);
            reply.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            reply.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            reply
        }
        Err(_) => bytes(StatusCode::OK, content_type, body),
    }
}

/// Adds `Warning` headers (RFC 7234, agent 299).
pub(crate) fn add_warnings(reply: &mut Reply, warnings: Vec<String>) {
    for text in warnings {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            reply.headers_mut().append(header::WARNING, value);
        }
    }
}
