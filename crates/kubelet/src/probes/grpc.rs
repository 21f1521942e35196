//! gRPC probes: `grpc.health.v1.Health/Check`, spoken by hand.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::tcp;

const SERVING: u64 = 1;

/// Asks once. The error is worded as upstream's prober words it.
pub(crate) async fn probe(host: &str, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let slow =
        format!("timeout: failed to connect service {shown:?} within {}s: context deadline exceeded", limit.as_secs());
    match tokio::time::timeout(limit, check(host, port, service, limit)).await {
        Ok(result) => result,
        Err(_) => Err(slow),
    }
}

async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let failed = |what: String| format!("error: health rpc probe failed: {what}");
    let tcp = tcp::dial(host, port, limit).await.map_err(|_| {
        format!("timeout: failed to connect service {shown:?} within {}s: context deadline exceeded", limit.as_secs())
    })?;
    let text = |error: hyper::Error| failed(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.map_err(text)?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{shown}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36 grpc-go/1.0")
        .body(Full::new(Bytes::from(message(service))))
        .map_err(|error| failed(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(text)?;
    let header_status = grpc_status(response.headers());
    let collected = response.into_body().collect().await.map_err(text)?;
    let trailer_status = collected.trailers().and_then(grpc_status);
    connection.abort();
    match header_status.or(trailer_status) {
        Some(0) | None => {}
        Some(12) => {
            return Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health".to_owned());
        }
        Some(code) => return Err(failed(format!("rpc error: code = {code}"))),
    }
    match serving_status(&collected.to_bytes()) {
        SERVING => Ok(()),
        other => Err(format!("service unhealthy (responded with {:?})", status_name(other))),
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A length-prefixed `HealthCheckRequest { service: 1 }`.
fn message(service: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            body.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        body.push(u8::try_from(length).unwrap_or(0));
        body.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    framed.extend_from_slice(&body);
    framed
}

/// Field 1 of a `HealthCheckResponse`, 0 when it is missing.
fn serving_status(framed: &[u8]) -> u64 {
    match framed.get(5..) {
        Some([0x08, status, ..]) => u64::from(*status),
        _ => 0,
    }
}

fn status_name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};

    use super::*;

    /// A server that says of the service `good` that it serves, of `bad` that it does not, and nothing of others.
    async fn health(request: http::Request<Incoming>) -> Result<http::Response<Answer>, Infallible> {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let asked = request.into_body().collect().await.expect("body").to_bytes();
        let (data, status) = match asked.get(7..) {
            Some(b"good") => (vec![0, 0, 0, 0, 2, 8, 1], "0"),
            Some(b"bad") => (vec![0, 0, 0, 0, 2, 8, 2], "0"),
            _ => (Vec::new(), "5"),
        };
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static(status),
        )]);
        let frames = [Ok(Frame::data(Bytes::from(data))), Ok(Frame::trailers(trailers))];
        Ok(http::Response::new(StreamBody::new(futures::stream::iter(frames))))
    }

    type Answer = StreamBody<futures::stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>>;

    #[tokio::test]
    async fn a_server_tells_of_its_services() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("address").port();
        let server = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let service = hyper::service::service_fn(health);
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(tcp), service));
            }
        });
        let ask = async |service| probe("127.0.0.1", port, service, Duration::from_secs(10)).await;
        assert_eq!(ask("good").await, Ok(()));
        assert_eq!(ask("bad").await, Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()));
        assert_eq!(ask("other").await, Err("error: health rpc probe failed: rpc error: code = 5".to_owned()));
        server.abort();
        let _ = server.await;
        let gone = probe("127.0.0.1", port, "", Duration::from_secs(1)).await.expect_err("nobody there");
        assert!(gone.starts_with("timeout: failed to connect service \"127.0.0.1:"), "{gone}");
    }
}
