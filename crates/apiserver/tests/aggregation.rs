//! Aggregated API servers behind a running one: registration, proxying as the user, discovery, OpenAPI, availability.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::tls::{Shown, TlsServer};
use common::{Cluster, FRONT_PROXY};
use coracle_api_meta::UserInfo;
use coracle_client::{Body, Client, full_body};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

const GROUP: &str = "wardle.example.com";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const PATIENCE: Duration = Duration::from_secs(20);

/// A small aggregated server; `healthy` false answers everything with 500.
struct Wardle {
    server: TlsServer,
    healthy: Arc<AtomicBool>,
}

fn discovery() -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
        {"metadata": {"name": GROUP}, "versions": [{"version": "v1alpha1", "freshness": "Current", "resources": [
            {"resource": "flunders", "responseKind": {"group": GROUP, "version": "v1alpha1", "kind": "Flunder"},
                "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get", "list"]}]}]}]})
}

fn swagger() -> Value {
    json!({"swagger": "2.0", "paths": {
        "/apis/wardle.example.com/v1alpha1/flunders": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/com.example.wardle.v1alpha1.Flunder"}}}}},
        "/version/": {"get": {}}},
        "definitions": {"com.example.wardle.v1alpha1.Flunder": {"type": "object", "properties": {
            "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}}},
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "description": "of the other server"}}})
}

/// What the server was told about the user, and how.
fn told(request: &Request<Incoming>) -> Value {
    let header = |name: &str| -> Vec<String> {
        request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    json!({"method": request.method().as_str(), "path": request.uri().path_and_query().map(ToString::to_string),
        "user": header("x-remote-user"), "groups": header("x-remote-group"), "token": header("authorization"),
        "certificate": request.extensions().get::<Shown>().map(|shown| shown.0.clone())})
}

async fn answer(mut request: Request<Incoming>, healthy: Arc<AtomicBool>) -> Response<Body> {
    let json = |value: &Value| Response::new(full_body(value.to_string()));
    if !healthy.load(Ordering::SeqCst) {
        let mut answer = Response::new(full_body("broken"));
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return answer;
    }
    match request.uri().path() {
        "/apis" => {
            let mut answer = json(&discovery());
            let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            answer.headers_mut().insert("content-type", kind.parse().expect("header"));
            answer
        }
        "/openapi/v2" => json(&swagger()),
        "/openapi/v3" => json(
            &json!({"paths": {"apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=1"}}}),
        ),
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => {
            json(&json!({"openapi": "3.0.0", "info": {"title": "Wardle"}}))
        }
        "/apis/wardle.example.com/v1alpha1/moved" => {
            let mut answer = Response::new(full_body(""));
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert("location", "https://elsewhere.example.com/".parse().expect("header"));
            answer
        }
        "/apis/wardle.example.com/v1alpha1/talk" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let stream = hyper_util::rt::TokioIo::new(upgrade.await.expect("upgraded"));
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            let mut answer = Response::new(full_body(""));
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            answer.headers_mut().insert("connection", "Upgrade".parse().expect("header"));
            answer.headers_mut().insert("upgrade", "echo".parse().expect("header"));
            answer
        }
        _ => json(&told(&request)),
    }
}

impl Wardle {
    async fn start(front_proxy_ca: &str) -> Self {
        let healthy = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&healthy);
        let handler = Arc::new(move |request: Request<Incoming>| {
            answer(request, Arc::clone(&state)).boxed() as BoxFuture<'static, Response<Body>>
        });
        let server =
            TlsServer::start_with(&["wardle.default.svc"], handler, Some(front_proxy_ca), &["h2", "http/1.1"]).await;
        Self { server, healthy }
    }
}

async fn get(client: &Client, path: &str) -> Result<Value, (u16, String)> {
    call(client, Method::GET, path, &Value::Null).await
}

async fn call(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, (u16, String)> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    match client.call(method, path, "application/json", body).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
        Err(error) => {
            Err(error.status().map_or((0, error.to_string()), |status| (status.code, status.message.clone())))
        }
    }
}

fn condition(service: &Value) -> String {
    let own = &service["status"]["conditions"][0];
    format!("{} {}", own["status"].as_str().unwrap_or_default(), own["reason"].as_str().unwrap_or_default())
}

/// Waits until an APIService says this of itself.
async fn until(client: &Client, name: &str, wanted: &str) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = get(client, &format!("{API_SERVICES}/{name}")).await.expect("an APIService");
        if condition(&found) == wanted {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{wanted}: {}", found["status"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn register(cluster: &Cluster, admin: &Client, port: u16, bundle: &str) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"},
        "spec": {"ports": [{"name": "api", "port": 443, "targetPort": port}]}});
    call(admin, Method::POST, "/api/v1/namespaces/default/services", &service).await.expect("a service");
    let api_service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": format!("v1alpha1.{GROUP}")},
        "spec": {"group": GROUP, "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200, "caBundle": bundle,
            "service": {"namespace": "default", "name": "wardle", "port": 443}}});
    call(admin, Method::POST, API_SERVICES, &api_service).await.expect("an APIService");
    let _ = cluster;
}

/// Slices do not lead to loopback by the API; the store takes them.
async fn add_slice(cluster: &Cluster, port: u16) {
    let slice = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {"name": "wardle-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "wardle"}},
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "api", "port": port, "protocol": "TCP"}]});
    let content = coracle_store::Content { bytes: slice.to_string().into(), revision_at: None };
    let key = coracle_store::Key::new("discovery.k8s.io/endpointslices", "default/wardle-1");
    let transaction = coracle_store::Transaction {
        expect: Vec::new(),
        writes: vec![coracle_store::Write::Put { key, content, ttl: None }],
        durability: coracle_store::Durability::Relaxed,
    };
    cluster.store.commit(transaction).await.expect("a slice");
}

async fn ready() -> (Cluster, Wardle) {
    let cluster = Cluster::start().await;
    let ca = cluster.config.front_proxy.as_ref().expect("front proxy").ca_pem.clone();
    let wardle = Wardle::start(&ca).await;
    let admin = cluster.admin();
    let port = wardle.server.address.port();
    register(&cluster, &admin, port, &wardle.server.bundle).await;
    add_slice(&cluster, port).await;
    until(&admin, "v1alpha1.wardle.example.com", "True Passed").await;
    (cluster, wardle)
}

#[tokio::test]
async fn requests_go_on_in_the_name_of_their_user() {
    let (cluster, wardle) = ready().await;
    let ann = cluster.client(UserInfo::authenticated("ann", &["system:masters", "dev"]));
    let path = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders/a?x=y";
    let told = call(&ann, Method::PUT, path, &json!({"spec": {}})).await.expect("an answer");
    assert_eq!(
        told,
        json!({"method": "PUT", "path": path, "user": ["ann"], "groups": ["system:masters", "dev", "system:authenticated"],
            "token": [], "certificate": FRONT_PROXY})
    );
    // Who may not, does not get through.
    let nobody = cluster.client(UserInfo::authenticated("nobody", &[]));
    let (code, message) = call(&nobody, Method::PUT, path, &json!({})).await.expect_err("refused");
    assert_eq!(code, 403);
    assert!(
        message.starts_with(r#"flunders.wardle.example.com "a" is forbidden: User "nobody" cannot update"#),
        "{message}"
    );
    assert_eq!(get(&ann, "/apis/wardle.example.com/v1alpha1/moved").await.expect_err("no redirects").0, 502);
    // One connection carries it all.
    assert_eq!(wardle.server.count(), 1);
}

#[tokio::test]
async fn upgrades_are_tied_through() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (cluster, _wardle) = ready().await;
    let request = b"GET /apis/wardle.example.com/v1alpha1/talk HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
    let mut stream = cluster.dial_as_admin().await;
    stream.write_all(request).await.expect("sent");
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.expect("a head"));
    }
    assert!(seen.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&seen));
    stream.write_all(b"hello").await.expect("sent");
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.expect("an echo");
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn documents_are_merged() {
    let (cluster, _wardle) = ready().await;
    let admin = cluster.admin();
    let groups = get(&admin, "/apis").await.expect("groups");
    let names: Vec<&str> =
        groups["groups"].as_array().into_iter().flatten().filter_map(|own| own["name"].as_str()).collect();
    assert_eq!((names[0], names[1]), ("apiregistration.k8s.io", "apps"));
    let place = |name: &str| names.iter().position(|own| *own == name);
    assert!(place(GROUP) > place("storagemigration.k8s.io") && place(GROUP).is_some());
    let group = get(&admin, "/apis/wardle.example.com").await.expect("a group");
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    let found = cluster.discover(&admin).await;
    let own =
        found["items"].as_array().into_iter().flatten().find(|own| own["metadata"]["name"] == GROUP).expect("group");
    assert_eq!(own["versions"][0]["freshness"], "Current");
    assert_eq!(own["versions"][0]["resources"][0]["resource"], "flunders");
    let swagger = get(&admin, "/openapi/v2").await.expect("a document");
    assert!(swagger["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
    assert!(swagger["paths"]["/api/v1/pods"].is_object());
    let definition = &swagger["definitions"]["com.example.wardle.v1alpha1.Flunder"];
    assert_eq!(
        definition["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta_v2"
    );
    let index = get(&admin, "/openapi/v3").await.expect("an index");
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().expect("a path");
    assert_eq!(get(&admin, url).await.expect("a document")["info"]["title"], "Wardle");
}

#[tokio::test]
async fn availability_follows_what_leads_to_the_server() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let ca = cluster.config.front_proxy.as_ref().expect("front proxy").ca_pem.clone();
    let wardle = Wardle::start(&ca).await;
    let (name, port) = ("v1alpha1.wardle.example.com", wardle.server.address.port());
    register(&cluster, &admin, port, &wardle.server.bundle).await;
    let found = until(&admin, name, "False EndpointsNotFound").await;
    assert_eq!(
        found["status"]["conditions"][0]["message"],
        r#"cannot find endpointslices for service/wardle in "default""#
    );
    let refused = get(&admin, "/apis/wardle.example.com/v1alpha1/flunders").await.expect_err("unavailable");
    assert_eq!(refused, (503, "service unavailable".to_owned()));
    wardle.healthy.store(false, Ordering::SeqCst);
    add_slice(&cluster, port).await;
    let found = until(&admin, name, "False FailedDiscoveryCheck").await;
    let message = found["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
    let url = "https://wardle.default.svc:443/apis/wardle.example.com/v1alpha1";
    assert_eq!(message, format!("failing or missing response from {url}: bad status from {url}: 500"));
    let stale = cluster.discover(&admin).await;
    let own =
        stale["items"].as_array().into_iter().flatten().find(|own| own["metadata"]["name"] == GROUP).expect("group");
    assert_eq!(own["versions"][0], json!({"version": "v1alpha1", "freshness": "Stale"}));
    wardle.healthy.store(true, Ordering::SeqCst);
    until(&admin, name, "True Passed").await;
    call(&admin, Method::DELETE, "/api/v1/namespaces/default/services/wardle", &json!({})).await.expect("deleted");
    until(&admin, name, "False ServiceNotFound").await;
    call(&admin, Method::DELETE, &format!("{API_SERVICES}/{name}"), &json!({})).await.expect("deleted");
    assert_eq!(get(&admin, "/apis/wardle.example.com/v1alpha1/flunders").await.expect_err("gone").0, 404);
}

#[tokio::test]
async fn groups_of_our_own_have_services_too() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let apps = get(&admin, &format!("{API_SERVICES}/v1.apps")).await.expect("an APIService");
    assert_eq!(apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!((&apps["spec"]["groupPriorityMinimum"], &apps["spec"]["versionPriority"]), (&json!(17800), &json!(15)));
    assert_eq!(condition(&apps), "True Local");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "tabs.stable.example.com"}, "spec": {"group": "stable.example.com", "scope": "Namespaced",
        "names": {"plural": "tabs", "kind": "Tab"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    call(&admin, Method::POST, path, &definition).await.expect("a definition");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while get(&admin, &format!("{API_SERVICES}/v1.stable.example.com")).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no APIService");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = until(&admin, "v1.stable.example.com", "True Local").await;
    assert_eq!(found["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    assert_eq!(
        (&found["spec"]["groupPriorityMinimum"], &found["spec"]["versionPriority"]),
        (&json!(1000), &json!(100))
    );
    call(&admin, Method::DELETE, &format!("{path}/tabs.stable.example.com"), &json!({})).await.expect("deleted");
    while get(&admin, &format!("{API_SERVICES}/v1.stable.example.com")).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the APIService stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let map = get(&admin, "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    let data = map.expect("a map")["data"].clone();
    assert_eq!(data["requestheader-allowed-names"], json!([FRONT_PROXY]).to_string());
    assert_eq!(data["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    assert!(data["requestheader-client-ca-file"].as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
}
