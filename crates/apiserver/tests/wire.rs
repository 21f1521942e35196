//! The server over TLS: certificates, tokens, upgrades, protobuf, stock kubectl.

mod common;

use std::process::Stdio;

use bytes::Bytes;
use common::Cluster;
use coracle_api_schema::{Limits, builtin, proto};
use coracle_client::{HttpTransport, Kubeconfig, Transport};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn transport(cluster: &Cluster, context: &str) -> HttpTransport {
    let config = Kubeconfig::load(&cluster.kubeconfig).expect("kubeconfig");
    HttpTransport::new(config.client_config(Some(context), cluster.folder.path()).expect("config")).expect("transport")
}

async fn text(response: http::Response<coracle_client::Body>) -> (u16, Bytes) {
    let code = response.status().as_u16();
    (code, response.into_body().collect().await.expect("body").to_bytes())
}

async fn make_pod(cluster: &Cluster) {
    let admin = cluster.admin();
    let post = async |path: &str, body: Value| {
        admin.call(http::Method::POST, path, "application/json", body.to_string().into_bytes()).await.expect("created")
    };
    post("/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "i"}]}});
    post("/api/v1/namespaces/default/pods", pod).await;
}

#[tokio::test]
async fn kubelets_are_reached_through_the_server() {
    let cluster = Cluster::start().await;
    make_pod(&cluster).await;
    let transport = transport(&cluster, "test");
    let log = Request::get("/api/v1/namespaces/default/pods/p/log?tailLines=5&follow=false")
        .body(Bytes::new())
        .expect("request");
    let (code, body) = text(transport.send(log).await.expect("sent")).await;
    assert_eq!((code, &body[..]), (200, &b"/containerLogs/default/p/a?follow=false&tailLines=5"[..]));
    let exec = Request::post(
        "/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&stdin=true&stdout=true&container=a",
    )
    .header("connection", "Upgrade")
    .header("upgrade", "SPDY/3.1")
    .body(Bytes::new())
    .expect("request");
    let mut response = transport.send_upgrade(exec).await.expect("upgraded");
    assert_eq!((response.status().as_u16(), response.headers()["upgrade"].as_bytes()), (101, &b"echo"[..]));
    let upgrade = response.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().expect("upgrade");
    let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.expect("stream"));
    stream.write_all(b"ping").await.expect("write");
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.expect("read");
    assert_eq!(&back, b"ping");
    let wrong = Request::get("/api/v1/namespaces/default/pods/p/log?container=x").body(Bytes::new()).expect("request");
    assert_eq!(text(transport.send(wrong).await.expect("sent")).await.0, 400);
}

#[tokio::test]
async fn callers_are_who_they_prove_to_be() {
    let cluster = Cluster::start().await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = || {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
        Request::post(path).header("content-type", "application/json").body(Bytes::from(body)).expect("request")
    };
    for (context, wanted) in [("test", "admin"), ("viewer", "viewer")] {
        let (code, body) = text(transport(&cluster, context).send(review()).await.expect("sent")).await;
        let answer: Value = serde_json::from_slice(&body).expect("json");
        assert_eq!((code, answer["status"]["userInfo"]["username"].as_str()), (201, Some(wanted)));
    }
    let config = Kubeconfig::load(&cluster.kubeconfig).expect("kubeconfig");
    let mut config = config.client_config(Some("viewer"), cluster.folder.path()).expect("config");
    config.token = Some("wrong".to_owned());
    let (code, body) = text(HttpTransport::new(config).expect("transport").send(review()).await.expect("sent")).await;
    let status: Value = serde_json::from_slice(&body).expect("json");
    assert_eq!((code, status["reason"].as_str()), (401, Some("Unauthorized")));
}

#[tokio::test]
async fn protobuf_goes_in_and_out() {
    let cluster = Cluster::start().await;
    let transport = transport(&cluster, "test");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let body = proto::encode(&object, builtin()).expect("encoded");
    let path = "/api/v1/namespaces/default/configmaps";
    let post = Request::post(path).header("content-type", PROTOBUF).header("accept", PROTOBUF).body(body.into());
    let response = transport.send(post.expect("request")).await.expect("sent");
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let (code, body) = text(response).await;
    let made = proto::decode(&body, Limits::default(), builtin()).expect("decoded");
    assert_eq!((code, &made["data"]["k"]), (201, &json!("v")));
    let list = Request::get(path).header("accept", format!("{PROTOBUF},application/json")).body(Bytes::new());
    let response = transport.send(list.expect("request")).await.expect("sent");
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let list = proto::decode(&text(response).await.1, Limits::default(), builtin()).expect("list");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    let only = Request::get("/apis/apps/v1/deployments").header("accept", PROTOBUF).body(Bytes::new());
    assert_eq!(transport.send(only.expect("request")).await.expect("sent").status(), 200);
    let cbor = Request::post(path).header("content-type", "application/cbor").body(Bytes::from_static(b"x"));
    assert_eq!(transport.send(cbor.expect("request")).await.expect("sent").status(), 415);
    let watch = format!("{path}?watch=1&timeoutSeconds=1&resourceVersion=0");
    let watch = Request::get(watch).header("accept", format!("{PROTOBUF};stream=watch")).body(Bytes::new());
    let (_, frames) = text(transport.send(watch.expect("request")).await.expect("sent")).await;
    let length = u32::from_be_bytes(frames[..4].try_into().expect("length"));
    assert_eq!(length as usize, frames.len() - 4, "one frame");
}

#[tokio::test]
async fn long_lists_come_in_pieces() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let path = "/api/v1/namespaces/default/configmaps";
    let filler = "x".repeat(3000);
    let post = |number: usize| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{number:03}")},
            "data": {"k": filler}});
        admin.call(http::Method::POST, path, "application/json", object.to_string().into_bytes())
    };
    futures::future::try_join_all((0..100).map(post)).await.expect("created");
    let transport = transport(&cluster, "test");
    for gzip in [false, true] {
        let mut request = Request::get(path);
        if gzip {
            request = request.header("accept-encoding", "gzip");
        }
        let response = transport.send(request.body(Bytes::new()).expect("request")).await.expect("sent");
        assert_eq!(response.headers().contains_key("content-encoding"), gzip);
        let (_, body) = text(response).await;
        let mut plain = Vec::new();
        if gzip {
            std::io::copy(&mut flate2::read::GzDecoder::new(&body[..]), &mut plain).expect("unpacked");
        } else {
            plain = body.to_vec();
        }
        let list: Value = serde_json::from_slice(&plain).expect("json");
        let items = list["items"].as_array().expect("items");
        assert_eq!((items.len(), items[99]["metadata"]["name"].as_str()), (100, Some("m099")));
    }
    let get = async |accept: &str| {
        let request = Request::get(path).header("accept", accept).body(Bytes::new()).expect("request");
        let response = transport.send(request).await.expect("sent");
        assert!(response.headers().get("content-length").is_none(), "it is made while it is sent");
        text(response).await.1
    };
    let list = proto::decode(&get(PROTOBUF).await, Limits::default(), builtin()).expect("a list");
    let items = list["items"].as_array().expect("items");
    assert_eq!((items.len(), &items[99]["metadata"]["name"]), (100, &json!("m099")));
    assert!(list["metadata"]["resourceVersion"].is_string());
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table: Value = serde_json::from_slice(&get(table).await).expect("json");
    let rows = table["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[99]["cells"][0]), (100, &json!("m099")));
    assert_eq!(rows[7]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial: Value = serde_json::from_slice(&get(partial).await).expect("json");
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][99]["metadata"]["name"], "m099");
}

async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let child = tokio::process::Command::new("kubectl")
        .args(arguments)
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("HOME", cluster.folder.path())
        .stdin(Stdio::null())
        .output();
    let output = child.await.expect("kubectl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_kubectl_works() {
    let cluster = Cluster::start().await;
    let manifest = cluster.folder.path().join("map.yaml");
    let write = |value: &str| {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{k: {value}}}\n");
        std::fs::write(&manifest, text).expect("manifest");
    };
    let path = manifest.to_str().expect("path");
    write("one");
    assert_eq!(kubectl(&cluster, &["apply", "-f", path]).await, "configmap/a created\n");
    assert_eq!(kubectl(&cluster, &["apply", "-f", path]).await, "configmap/a unchanged\n");
    write("two");
    assert_eq!(kubectl(&cluster, &["apply", "-f", path]).await, "configmap/a configured\n");
    assert_eq!(kubectl(&cluster, &["get", "cm", "a", "-o", "jsonpath={.data.k}"]).await, "two");
    let table = kubectl(&cluster, &["get", "cm", "-A"]).await;
    assert!(table.starts_with("NAMESPACE") && table.contains("DATA   AGE"), "{table}");
    assert_eq!(kubectl(&cluster, &["create", "deployment", "web", "--image=x"]).await, "deployment.apps/web created\n");
    assert_eq!(kubectl(&cluster, &["scale", "deploy/web", "--replicas=3"]).await, "deployment.apps/web scaled\n");
    let explained = kubectl(&cluster, &["explain", "deployment.spec.replicas"]).await;
    assert!(explained.contains("FIELD: replicas <integer>"), "{explained}");
    assert!(
        kubectl(&cluster, &["get", "nothing"]).await.contains("the server doesn't have a resource type \"nothing\"")
    );
    assert_eq!(kubectl(&cluster, &["delete", "deploy,cm", "--all"]).await.lines().count(), 2);
}

/// Asks for a WebSocket by hand and gives back the messages.
async fn messages(
    cluster: &Cluster,
    path: &str,
) -> coracle_streams::ws::Reader<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut stream = cluster.dial_as_admin().await;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("send");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("answer"));
    }
    let answer = String::from_utf8(answer).expect("text").to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    coracle_streams::ws::Reader::new(stream)
}

#[tokio::test]
async fn watches_come_as_messages() {
    let cluster = Cluster::start_on("127.0.0.1:0").await;
    let mut messages =
        messages(&cluster, "/api/v1/namespaces?watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dlate").await;
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late"}}).to_string().into_bytes();
    cluster.admin().call(http::Method::POST, "/api/v1/namespaces", "application/json", body).await.expect("made");
    let next = tokio::time::timeout(std::time::Duration::from_secs(10), messages.next()).await.expect("in time");
    let Ok(Some(coracle_streams::ws::Message::Text(event))) = next else { panic!("{next:?}") };
    let event: Value = serde_json::from_slice(&event).expect("event");
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("late")));
}
