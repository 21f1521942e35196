//! As much HTTP as load balancers and monitors need: a request's path in, one answer out.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A probe's request is one line and few headers.
const REQUEST_BYTES_MAX: usize = 8 << 10;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests answered at a time, per address.
const CONNECTIONS_MAX: usize = 64;

/// Status line and headers, without length and end; body.
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(status: &str, body: &str) -> Self {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n");
        Self { head, body: body.to_owned() }
    }

    pub(crate) fn text(body: &str) -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";
        Self { head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn not_found() -> Self {
        Self {
            head: "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n".to_owned(),
            body: "404 page not found\n".to_owned(),
        }
    }
}

/// Answers every request by its path.
pub(crate) async fn serve(listener: TcpListener, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let answer = Arc::new(answer);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else { continue };
        let answer = answer.clone();
        tokio::spawn(async move {
            // A client that is slow or gone is its own problem.
            let _ = tokio::time::timeout(REQUEST_TIMEOUT, one(connection, &*answer)).await;
            drop(slot);
        });
    }
}

async fn one(mut connection: TcpStream, answer: &(impl Fn(&str) -> Answer + Send + Sync)) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = connection.read_buf(&mut request).await?;
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&request);
    let target = text.split(' ').nth(1).unwrap_or_default();
    let Answer { head, body } = answer(target.split('?').next().unwrap_or_default());
    let whole = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    connection.write_all(whole.as_bytes()).await?;
    connection.shutdown().await
}
