//! Custom resources: conversion by webhooks, defaults of what was stored before, names, and the end of definitions.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::Cluster;
use common::tls::TlsServer;
use coracle_client::{Body, Client, full_body};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const PATIENCE: Duration = Duration::from_secs(20);

async fn call(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, (u16, String)> {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    match client.call(method, path, kind, body).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
        Err(error) => {
            Err(error.status().map_or((0, error.to_string()), |status| (status.code, status.message.clone())))
        }
    }
}

async fn get(client: &Client, path: &str) -> Result<Value, (u16, String)> {
    call(client, Method::GET, path, &Value::Null).await
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `hostPort: a:1` in v1 is `host: a, port: 1` in v2.
fn convert(object: &Value, wanted: &str) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = wanted.into();
    let fields = object.as_object_mut().expect("an object");
    if wanted.ends_with("/v2") {
        let text = fields.shift_remove("hostPort").unwrap_or_default();
        let (host, port) = text.as_str().and_then(|text| text.split_once(':')).unwrap_or_default();
        fields.insert("host".to_owned(), host.into());
        fields.insert("port".to_owned(), port.into());
    } else {
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        let (host, port) = (text(fields.shift_remove("host")), text(fields.shift_remove("port")));
        fields.insert("hostPort".to_owned(), format!("{host}:{port}").into());
    }
    object
}

struct Converter {
    server: TlsServer,
    reviews: Arc<AtomicUsize>,
}

async fn answer(request: Request<Incoming>, reviews: Arc<AtomicUsize>) -> Response<Body> {
    reviews.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review");
    let wanted = review["request"]["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = review["request"]["objects"].as_array().cloned().unwrap_or_default();
    let mut converted: Vec<Value> = objects.iter().map(|object| convert(object, wanted)).collect();
    let mut result = json!({"status": "Success"});
    match path.as_str() {
        "/fails" => result = json!({"status": "Failure", "message": "it cannot be done"}),
        "/renames" => converted.iter_mut().for_each(|object| object["metadata"]["name"] = "other".into()),
        "/loses" => converted.clear(),
        _ => converted.iter_mut().for_each(|object| object["metadata"]["labels"]["seen"] = "yes".into()),
    }
    let answer = json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": review["request"]["uid"], "convertedObjects": converted, "result": result}});
    Response::new(full_body(answer.to_string()))
}

impl Converter {
    async fn start() -> Self {
        let reviews = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reviews);
        let handler = Arc::new(move |request: Request<Incoming>| {
            answer(request, Arc::clone(&counter)).boxed() as BoxFuture<'static, Response<Body>>
        });
        Self { server: TlsServer::start(&["localhost"], handler).await, reviews }
    }

    fn conversion(&self, path: &str) -> Value {
        let url = format!("https://localhost:{}{path}", self.server.address.port());
        json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1", "v1beta1"],
            "clientConfig": {"url": url, "caBundle": self.server.bundle}}})
    }

    fn count(&self) -> usize {
        self.reviews.swap(0, Ordering::SeqCst)
    }
}

fn version(name: &str, storage: bool, fields: &[&str]) -> Value {
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|&field| (field.to_owned(), json!({"type": "string"}))).collect();
    json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
}

fn definition(plural: &str, kind: &str, versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.stable.example.com")},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": versions}})
}

async fn make(client: &Client, definition: &Value) {
    call(client, Method::POST, CRDS, definition).await.expect("a definition");
}

fn path(version: &str) -> String {
    format!("/apis/stable.example.com/{version}/namespaces/default/hosts")
}

async fn with_hosts(converter: &Converter, at: &str) -> (Cluster, Client) {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let versions = json!([version("v1", true, &["hostPort"]), version("v2", false, &["host", "port"])]);
    let mut hosts = definition("hosts", "Host", versions);
    hosts["spec"]["conversion"] = converter.conversion(at);
    make(&admin, &hosts).await;
    (cluster, admin)
}

fn host(version: &str, name: &str, fields: Value) -> Value {
    let mut object =
        json!({"apiVersion": format!("stable.example.com/{version}"), "kind": "Host", "metadata": {"name": name}});
    for (field, value) in fields.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

#[tokio::test]
async fn objects_are_served_in_every_version() {
    let converter = Converter::start().await;
    let (_cluster, admin) = with_hosts(&converter, "/").await;
    call(&admin, Method::POST, &path("v1"), &host("v1", "a", json!({"hostPort": "h:1"}))).await.expect("created");
    assert_eq!(converter.count(), 0, "stored as it came");
    let second = call(&admin, Method::POST, &path("v2"), &host("v2", "b", json!({"host": "h", "port": "2"})))
        .await
        .expect("created");
    assert_eq!((&second["host"], &second["apiVersion"]), (&json!("h"), &json!("stable.example.com/v2")));
    assert_eq!(get(&admin, &format!("{}/b", path("v1"))).await.expect("b")["hostPort"], "h:2");
    let first = get(&admin, &format!("{}/a", path("v2"))).await.expect("a");
    assert_eq!(
        (&first["host"], &first["port"], &first["metadata"]["labels"]["seen"]),
        (&json!("h"), &json!("1"), &json!("yes"))
    );
    let list = get(&admin, &path("v2")).await.expect("a list");
    let ports: Vec<&str> =
        list["items"].as_array().into_iter().flatten().filter_map(|own| own["port"].as_str()).collect();
    assert_eq!(ports, ["1", "2"]);
    assert_eq!(list["apiVersion"], "stable.example.com/v2");
    // What was converted once is kept.
    converter.count();
    get(&admin, &path("v2")).await.expect("a list");
    assert_eq!(converter.count(), 0);
    let patched =
        call(&admin, Method::PATCH, &format!("{}/a", path("v2")), &json!({"port": "9"})).await.expect("patched");
    assert_eq!(patched["port"], "9");
    assert_eq!(get(&admin, &format!("{}/a", path("v1"))).await.expect("a")["hostPort"], "h:9");
    call(&admin, Method::DELETE, &format!("{}/a", path("v2")), &json!({})).await.expect("deleted");
    assert_eq!(get(&admin, &format!("{}/a", path("v1"))).await.expect_err("gone").0, 404);
}

#[tokio::test]
async fn lists_are_converted_together() {
    let converter = Converter::start().await;
    let (_cluster, admin) = with_hosts(&converter, "/").await;
    for number in 0..20 {
        let object = host("v1", &format!("h{number}"), json!({"hostPort": format!("h:{number}")}));
        call(&admin, Method::POST, &path("v1"), &object).await.expect("created");
    }
    assert_eq!(get(&admin, &path("v2")).await.expect("a list")["items"].as_array().map(Vec::len), Some(20));
    assert_eq!(converter.count(), 1);
}

#[tokio::test]
async fn watches_show_the_version_that_they_ask_for() {
    let converter = Converter::start().await;
    let (_cluster, admin) = with_hosts(&converter, "/").await;
    let request = Request::get(format!("{}?watch=true", path("v2"))).body(bytes::Bytes::new()).expect("request");
    let mut body = admin.send(request).await.expect("a watch").into_body();
    call(&admin, Method::POST, &path("v1"), &host("v1", "a", json!({"hostPort": "h:1"}))).await.expect("created");
    call(&admin, Method::DELETE, &format!("{}/a", path("v1")), &json!({})).await.expect("deleted");
    let mut seen = Vec::new();
    while seen.iter().filter(|byte| **byte == b'\n').count() < 2 {
        let frame =
            tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time").expect("a frame").expect("good");
        seen.extend_from_slice(&frame.into_data().expect("data"));
    }
    let events: Vec<Value> = seen
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("json"))
        .collect();
    let shown: Vec<String> = events
        .iter()
        .map(|event| format!("{} {} {}", event["type"], event["object"]["apiVersion"], event["object"]["port"]))
        .collect();
    assert_eq!(shown, [r#""ADDED" "stable.example.com/v2" "1""#, r#""DELETED" "stable.example.com/v2" "1""#]);
    let version = |event: &Value| {
        event["object"]["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok())
    };
    assert!(version(&events[1]) > version(&events[0]), "a deletion shows its own revision");
}

#[tokio::test]
async fn the_stored_version_may_change() {
    let converter = Converter::start().await;
    let (cluster, admin) = with_hosts(&converter, "/").await;
    call(&admin, Method::POST, &path("v1"), &host("v1", "a", json!({"hostPort": "h:1"}))).await.expect("created");
    let change =
        json!({"spec": {"versions": [version("v1", false, &["hostPort"]), version("v2", true, &["host", "port"])]}});
    let changed =
        call(&admin, Method::PATCH, &format!("{CRDS}/hosts.stable.example.com"), &change).await.expect("changed");
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    // Stored before, in the version of that time.
    assert_eq!(get(&admin, &format!("{}/a", path("v1"))).await.expect("a")["hostPort"], "h:1");
    assert_eq!(get(&admin, &format!("{}/a", path("v2"))).await.expect("a")["port"], "1");
    let stored = || {
        let entry = cluster.store.local_get(&coracle_store::Key::new("stable.example.com/hosts", "default/a"));
        serde_json::from_slice::<Value>(&entry.expect("an entry").value).expect("json")["apiVersion"].clone()
    };
    assert_eq!(stored(), "stable.example.com/v1");
    // A write that changes nothing stores it anew.
    call(&admin, Method::PATCH, &format!("{}/a", path("v1")), &json!({})).await.expect("patched");
    assert_eq!(stored(), "stable.example.com/v2");
}

#[tokio::test]
async fn bad_conversions_are_told() {
    let converter = Converter::start().await;
    let (_cluster, admin) = with_hosts(&converter, "/").await;
    call(&admin, Method::POST, &path("v1"), &host("v1", "a", json!({"hostPort": "h:1"}))).await.expect("created");
    let start = "conversion webhook for stable.example.com/v1, Kind=Host";
    for (at, told) in [
        ("/fails", format!("{start} failed: it cannot be done")),
        ("/renames", format!("{start} returned invalid object: must have the same name: a != other")),
        ("/loses", format!("{start} returned 0 objects, expected 1")),
    ] {
        let change = json!({"spec": {"conversion": converter.conversion(at)}});
        call(&admin, Method::PATCH, &format!("{CRDS}/hosts.stable.example.com"), &change).await.expect("changed");
        assert_eq!(get(&admin, &format!("{}/a", path("v2"))).await.expect_err("refused"), (500, told));
    }
}

#[tokio::test]
async fn defaults_reach_what_was_stored_before() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    make(&admin, &definition("hosts", "Host", json!([version("v1", true, &["a", "b"])]))).await;
    call(&admin, Method::POST, &path("v1"), &host("v1", "x", json!({"a": "1", "b": "2"}))).await.expect("created");
    let mut versions = json!([version("v1", true, &["a", "c"])]);
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["c"]["default"] = "3".into();
    let crd = format!("{CRDS}/hosts.stable.example.com");
    call(&admin, Method::PATCH, &crd, &json!({"spec": {"versions": versions}})).await.expect("changed");
    let found = get(&admin, &format!("{}/x", path("v1"))).await.expect("x");
    assert_eq!((&found["a"], found.get("b"), &found["c"]), (&json!("1"), None, &json!("3")));
    let list = get(&admin, &path("v1")).await.expect("a list");
    assert_eq!(list["items"][0]["c"], "3");
}

#[tokio::test]
async fn definitions_wait_for_their_objects() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    make(&admin, &definition("hosts", "Host", json!([version("v1", true, &["a"])]))).await;
    let mut kept = host("v1", "kept", json!({}));
    kept["metadata"]["finalizers"] = json!(["example.com/wait"]);
    for object in [kept, host("v1", "free", json!({}))] {
        call(&admin, Method::POST, &path("v1"), &object).await.expect("created");
    }
    let crd = format!("{CRDS}/hosts.stable.example.com");
    call(&admin, Method::DELETE, &crd, &json!({})).await.expect("marked");
    until("the free object stays", async || get(&admin, &format!("{}/free", path("v1"))).await.is_err()).await;
    let found = get(&admin, &crd).await.expect("still there");
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let own = conditions.iter().find(|own| own["type"] == "Terminating").expect("a condition");
    assert_eq!((&own["status"], &own["reason"]), (&json!("True"), &json!("InstanceDeletionInProgress")));
    let refused = call(&admin, Method::POST, &path("v1"), &host("v1", "late", json!({}))).await.expect_err("refused");
    assert_eq!(refused, (405, "create not allowed while custom resource definition is terminating".to_owned()));
    let free = json!({"metadata": {"finalizers": null}});
    call(&admin, Method::PATCH, &format!("{}/kept", path("v1")), &free).await.expect("freed");
    until("the definition stays", async || get(&admin, &crd).await.is_err()).await;
}

#[tokio::test]
async fn names_go_to_who_waits_for_them() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    make(&admin, &definition("hosts", "Host", json!([version("v1", true, &["a"])]))).await;
    make(&admin, &definition("others", "Host", json!([version("v1", true, &["a"])]))).await;
    let crd = format!("{CRDS}/others.stable.example.com");
    let condition = async |kind: &str| {
        let found = get(&admin, &crd).await.expect("a definition");
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let own = conditions.into_iter().find(|own| own["type"] == kind).unwrap_or_default();
        format!("{} {}", own["status"].as_str().unwrap_or_default(), own["reason"].as_str().unwrap_or_default())
    };
    assert_eq!(condition("NamesAccepted").await, "False ListKindConflict");
    assert_eq!(condition("Established").await, "False NotAccepted");
    let others = "/apis/stable.example.com/v1/namespaces/default/others";
    assert_eq!(get(&admin, others).await.expect_err("not served").0, 404);
    call(&admin, Method::DELETE, &format!("{CRDS}/hosts.stable.example.com"), &json!({})).await.expect("deleted");
    until("the name stays taken", async || condition("Established").await.starts_with("True")).await;
    get(&admin, others).await.expect("served");
}
