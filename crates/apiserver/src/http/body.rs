//! Bodies of requests, read whole and bounded.

use bytes::{Bytes, BytesMut};
use coracle_api_meta::Status;
use coracle_client::Body;
use http_body_util::BodyExt;

/// Source: upstream's `MaxRequestBodyBytes`.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

pub(crate) async fn read_whole(mut body: Body) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("unable to read the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_BYTES_MAX {
            return Err(Status::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}")));
        }
        if whole.is_empty() && http_body::Body::is_end_stream(&body) {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
