//! `proxy` of pods, services and nodes, to real backends behind a pod network that is made up.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use common::Cluster;
use common::tls::TlsServer;
use coracle_apiserver::{ByteStream, PodDialer};
use coracle_client::{Body, full_body};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const POD_IP: &str = "10.1.2.3";
const PAGE: &str = r#"<html><a href="/next">on</a><img src="pic.png"></html>"#;
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Leads every address of the pod network here, by its port.
struct Network {
    plain: SocketAddr,
    secure: SocketAddr,
}

#[async_trait]
impl PodDialer for Network {
    async fn dial(&self, address: SocketAddr) -> std::io::Result<Box<dyn ByteStream>> {
        assert_eq!(address.ip().to_string(), POD_IP);
        let to = if address.port() == 8443 { self.secure } else { self.plain };
        Ok(Box::new(tokio::net::TcpStream::connect(to).await?))
    }
}

async fn answer(mut request: Request<Incoming>) -> Response<Body> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match request.uri().path() {
        "/page" => {
            let mut answer = Response::new(full_body(PAGE));
            answer.headers_mut().insert("content-type", "text/html; charset=utf-8".parse().expect("header"));
            answer.headers_mut().insert("access-control-allow-origin", "*".parse().expect("header"));
            answer
        }
        "/moved" => {
            let mut answer = Response::new(full_body(""));
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert("location", "/elsewhere/".parse().expect("header"));
            answer
        }
        "/talk" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let stream = TokioIo::new(upgrade.await.expect("upgraded"));
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            let mut answer = Response::new(full_body(""));
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            answer.headers_mut().insert("connection", "Upgrade".parse().expect("header"));
            answer.headers_mut().insert("upgrade", "echo".parse().expect("header"));
            answer
        }
        _ => {
            let told = json!({"path": request.uri().to_string(), "uri": header("x-forwarded-uri"), "host": header("host"),
                "token": header("authorization")});
            Response::new(full_body(told.to_string()))
        }
    }
}

async fn plain() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                Ok::<_, std::convert::Infallible>(answer(request).await)
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

fn put(collection: &str, name: &str, object: &Value) -> coracle_store::Write {
    let content = coracle_store::Content { bytes: object.to_string().into(), revision_at: None };
    coracle_store::Write::Put { key: coracle_store::Key::new(collection, name), content, ttl: None }
}

/// A pod with an address, a Service that leads to it, and one that leads elsewhere.
async fn start() -> Cluster {
    let secure =
        TlsServer::start(&["backend"], Arc::new(|request| answer(request).boxed() as BoxFuture<'static, _>)).await;
    let network = Arc::new(Network { plain: plain().await, secure: secure.address });
    let cluster = Cluster::start_with("127.0.0.1:0", |config| config.pods = network).await;
    let meta = |name: &str| json!({"name": name, "namespace": "default", "uid": name});
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta("p"), "spec": {"containers": [{"name": "c", "image": "i",
        "ports": [{"containerPort": 8080}]}]}, "status": {"podIP": POD_IP, "podIPs": [{"ip": POD_IP}]}});
    let local = json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta("local"), "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"podIP": "127.0.0.1"}});
    let service = |name: &str| {
        json!({"kind": "Service", "apiVersion": "v1", "metadata": meta(name),
        "spec": {"ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}]}})
    };
    let slice = |name: &str, target: Value| {
        json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
        "endpoints": [{"addresses": [POD_IP], "conditions": {"ready": true}, "targetRef": target}],
        "ports": [{"name": "http", "port": 8080}, {"name": "tls", "port": 8443}]})
    };
    let reference = json!({"kind": "Pod", "namespace": "default", "name": "p"});
    let writes = vec![
        put("pods", "default/p", &pod),
        put("pods", "default/local", &local),
        put("services", "default/s", &service("s")),
        put("services", "default/stray", &service("stray")),
        put("discovery.k8s.io/endpointslices", "default/s", &slice("s", reference)),
        put("discovery.k8s.io/endpointslices", "default/stray", &slice("stray", Value::Null)),
    ];
    let transaction = coracle_store::Transaction { writes, ..Default::default() };
    cluster.store.commit(transaction).await.expect("objects");
    cluster
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

async fn get(cluster: &Cluster, path: &str) -> Got {
    use http_body_util::BodyExt;
    let request = Request::get(path).header("host", "api.example.com").header("authorization", "Bearer x");
    let request = request.body(bytes::Bytes::new()).expect("request");
    let admin = cluster.admin();
    let answer = admin.transport().send(request).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Got { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() }
}

#[tokio::test]
async fn pods_and_services_are_reached_by_scheme_and_port() {
    let cluster = start().await;
    let services = "/api/v1/namespaces/default/services";
    for (path, prefix) in [
        (format!("{PODS}/p/proxy/a/b?x=y"), format!("{PODS}/p/proxy")),
        (format!("{PODS}/p:8080/proxy/a/b?x=y"), format!("{PODS}/p:8080/proxy")),
        (format!("{PODS}/https:p:8443/proxy/a/b?x=y"), format!("{PODS}/https:p:8443/proxy")),
        (format!("{services}/s:http/proxy/a/b?x=y"), format!("{services}/s:http/proxy")),
        (format!("{services}/http:s:80/proxy/a/b?x=y"), format!("{services}/http:s:80/proxy")),
        (format!("{services}/https:s:tls/proxy/a/b?x=y"), format!("{services}/https:s:tls/proxy")),
        (format!("{services}/https:s:443/proxy/a/b?x=y"), format!("{services}/https:s:443/proxy")),
    ] {
        let got = get(&cluster, &path).await;
        let told: Value = serde_json::from_str(&got.body).unwrap_or_default();
        let expected =
            json!({"path": "/a/b?x=y", "uri": format!("{prefix}/a/b"), "host": "api.example.com", "token": ""});
        assert_eq!((got.status, told), (200, expected), "{path}: {}", got.body);
    }
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let cluster = start().await;
    for (path, code, message) in [
        ("pods/local/proxy/", 400, "address not allowed"),
        ("pods/none/proxy/", 404, r#"pods "none" not found"#),
        ("pods/ftp:p:80/proxy/", 400, r#"invalid pod request "ftp:p:80""#),
        ("services/s:99/proxy/", 503, r#"no service port 99 found for service "s""#),
        ("services/s:other/proxy/", 503, r#"no endpoints available for service "s""#),
        ("services/stray:http/proxy/", 503, r#"no endpoints available for service "stray""#),
    ] {
        let got = get(&cluster, &format!("/api/v1/namespaces/default/{path}")).await;
        let status: Value = serde_json::from_str(&got.body).unwrap_or_default();
        assert_eq!((got.status, status["message"].as_str()), (code, Some(message)), "{path}");
    }
}

#[tokio::test]
async fn places_lead_back_through_the_proxy() {
    let cluster = start().await;
    let bare = get(&cluster, &format!("{PODS}/p/proxy?x=y")).await;
    assert_eq!((bare.status, bare.headers["location"].to_str().ok()), (301, Some(&*format!("{PODS}/p/proxy/?x=y"))));
    let moved = get(&cluster, &format!("{PODS}/p/proxy/moved")).await;
    assert_eq!(
        (moved.status, moved.headers["location"].to_str().ok()),
        (302, Some(&*format!("{PODS}/p/proxy/elsewhere/")))
    );
    let page = get(&cluster, &format!("{PODS}/p/proxy/page")).await;
    assert_eq!(page.body, PAGE.replace("/next", &format!("{PODS}/p/proxy/next")));
    assert_eq!(page.headers["content-length"].to_str().ok(), Some(&*page.body.len().to_string()));
    assert!(!page.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn upgrades_pass() {
    let cluster = start().await;
    for pod in ["p", "https:p:8443"] {
        let mut stream = cluster.dial_as_admin().await;
        let request =
            format!("GET {PODS}/{pod}/proxy/talk HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.expect("a head"));
        }
        assert!(seen.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&seen));
        stream.write_all(b"hello").await.expect("sent");
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(&echo, b"hello", "{pod}");
    }
}

#[tokio::test]
async fn options_are_for_the_backend() {
    let cluster = start().await;
    let request = Request::options(format!("{PODS}/p/proxy/a")).body(bytes::Bytes::new()).expect("request");
    let answer = cluster.admin().transport().send(request).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
}
