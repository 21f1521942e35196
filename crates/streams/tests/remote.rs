//! Remote commands and port-forward over real HTTP upgrades inside one process.

use std::sync::Arc;

use bytes::Bytes;
use coracle_streams::remote::{self, RemoteOptions};
use coracle_streams::spdy::{Headers, Role, Session};
use coracle_streams::{PortForwardClient, RemoteClient, RemoteClientOptions, port_forward};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Body = Full<Bytes>;

/// Echoes input to stdout, says `bye` on stderr, and exits with 3.
async fn command(mut streams: remote::RemoteStreams) {
    let (mut stdin, mut stdout) = (streams.stdin.take().expect("stdin"), streams.stdout.take().expect("stdout"));
    tokio::io::copy(&mut stdin, &mut stdout).await.expect("copy");
    if let Some(mut stderr) = streams.stderr.take() {
        stderr.write_all(b"bye").await.expect("stderr");
        stderr.shutdown().await.expect("stderr");
    }
    stdout.shutdown().await.expect("stdout");
    drop(stdout);
    streams.outcome.exited(3).await;
}

fn serve(mut request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/portForward" {
        let (response, upgrade) = port_forward::accept(&mut request, &[80]).expect("accept");
        let dial: port_forward::Dial = Arc::new(|port| {
            Box::pin(async move {
                if port != 80 {
                    return Err("connection refused".to_owned());
                }
                let (ours, theirs) = tokio::io::duplex(4096);
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(ours);
                    tokio::io::copy(&mut read, &mut write).await.expect("echo");
                    write.shutdown().await.expect("end");
                });
                Ok(Box::pin(theirs) as port_forward::Connection)
            })
        });
        tokio::spawn(async move { upgrade.serve(dial).await.expect("serve") });
        return response;
    }
    let options = RemoteOptions { stdin: true, stdout: true, stderr: true, tty: false };
    let (response, upgrade) = remote::accept(&mut request, options).expect("accept");
    tokio::spawn(async move { command(upgrade.streams().await.expect("streams")).await });
    response
}

async fn connect(path: &str, headers: HeaderMap) -> TokioIo<hyper::upgrade::Upgraded> {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let service = service_fn(|request| async { Ok::<_, std::convert::Infallible>(serve(request)) });
    tokio::spawn(
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service).with_upgrades(),
    );
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.expect("handshake");
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::post(path).header("host", "x").body(Body::default()).expect("request");
    request.headers_mut().extend(headers);
    let mut response = sender.send_request(request).await.expect("response");
    assert_eq!(response.status(), 101);
    TokioIo::new(hyper::upgrade::on(&mut response).await.expect("upgrade"))
}

fn spdy_headers(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
    headers.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
    headers
}

fn payload() -> Vec<u8> {
    (0..300_000_u32).map(|number| number.to_le_bytes()[1]).collect()
}

#[tokio::test]
async fn a_command_over_websocket() {
    let io = connect("/exec", RemoteClient::request_headers()).await;
    let mut client = RemoteClient::start(io, RemoteClientOptions { stdin: true });
    let mut stdin = client.stdin.take().expect("stdin");
    tokio::spawn(async move { stdin.write_all(&payload()).await.expect("write") });
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = tokio::join!(client.stdout.read_to_end(&mut out), client.stderr.read_to_end(&mut err));
    stdout.expect("stdout");
    stderr.expect("stderr");
    assert_eq!((out, err.as_slice()), (payload(), &b"bye"[..]));
    let status = client.status.await.expect("status");
    assert_eq!(status.pointer("/details/causes/0/message").and_then(|code| code.as_str()), Some("3"));
}

#[tokio::test]
async fn a_command_over_spdy() {
    let io = connect("/exec", spdy_headers("v4.channel.k8s.io")).await;
    let session = Session::start(io, Role::Client).expect("session");
    let open = |kind: &'static str| session.open(Headers::of(&[("streamtype", kind)]));
    let mut error = open("error").await.expect("error");
    let mut stdin = open("stdin").await.expect("stdin");
    let mut stdout = open("stdout").await.expect("stdout");
    let mut stderr = open("stderr").await.expect("stderr");
    stdin.writer.write_all(b"x").await.expect("write");
    assert_eq!(stdout.reader.read_u8().await.expect("echo"), b'x');
    // kubectl closes its input when the other half of the stream ends.
    tokio::select! {
        biased;
        end = stdin.reader.read_u8() => panic!("the server ended the input: {end:?}"),
        () = std::future::ready(()) => {}
    }
    tokio::spawn(async move {
        stdin.writer.write_all(&payload()).await.expect("write");
        stdin.writer.shutdown().await.expect("end");
    });
    let (mut out, mut err, mut status) = (Vec::new(), Vec::new(), String::new());
    stdout.reader.read_to_end(&mut out).await.expect("stdout");
    stderr.reader.read_to_end(&mut err).await.expect("stderr");
    error.reader.read_to_string(&mut status).await.expect("status");
    assert_eq!((out, err.as_slice()), (payload(), &b"bye"[..]));
    assert!(status.contains("NonZeroExitCode"), "{status}");
}

#[tokio::test]
async fn ports_are_forwarded_through_websocket() {
    let io = connect("/portForward", PortForwardClient::request_headers()).await;
    let client = PortForwardClient::start(io).expect("client");
    let mut forwarded = client.connect(80).await.expect("connect");
    let mut writer = forwarded.data.writer;
    tokio::spawn(async move {
        writer.write_all(&payload()).await.expect("write");
        writer.shutdown().await.expect("end");
    });
    let mut read = Vec::new();
    forwarded.data.reader.read_to_end(&mut read).await.expect("read");
    assert_eq!(read, payload());
    let mut refused = client.connect(81).await.expect("connect");
    let mut error = String::new();
    refused.error.read_to_string(&mut error).await.expect("error");
    assert_eq!(error, "error forwarding port 81 to pod: connection refused");
    forwarded.error.read_to_string(&mut error).await.expect("no error");
}
