//! Bodies of requests, read whole and bounded.

use bytes::{Bytes, BytesMut};
use coracle_api_meta::Status;
use coracle_client::Body;
use http_body_util::BodyExt;

/// Source: upstream's `MaxRequestBodyBytes`.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// What is read and thrown away of a body that is too large. Clients that have not sent everything when the answer comes
/// take its end for an error, over HTTP/2 above all.
const DRAINED_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(crate) async fn read_whole(mut body: Body) -> Result<Bytes, Status> {
    let announced = http_body::Body::size_hint(&body).lower();
    if announced > BODY_BYTES_MAX as u64 {
        drain(&mut body, 0).await;
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("unable to read the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_BYTES_MAX {
            let read = whole.len() + data.len();
            drop((whole, data));
            drain(&mut body, read).await;
            return Err(too_large());
        }
        if whole.is_empty() && http_body::Body::is_end_stream(&body) {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn drain(body: &mut Body, mut read: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DRAINED_BYTES_MAX {
            return;
        }
    }
}

fn too_large() -> Status {
    Status::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}"))
}
