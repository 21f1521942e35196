//! Every endpoint, with nobody, the wrong user and bodies that are none: a Status each time, never a panic.

mod common;

use bytes::Bytes;
use common::Cluster;
use coracle_api_meta::UserInfo;
use coracle_api_types::catalogue::{CATALOGUE, Resource};
use coracle_client::Transport;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;

async fn send(transport: &dyn Transport, method: &str, path: &str, kind: &str, body: Bytes) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body).expect("request");
    let response = transport.send(request).await.expect("sent");
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("body").to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Method and path of everything that the row serves, watches aside.
fn endpoints(row: &Resource) -> Vec<(&'static str, String)> {
    let root = row.gvr().root_path();
    let scope = if row.namespaced { "/namespaces/default" } else { "" };
    let all = format!("{root}{scope}/{}", row.plural);
    let mut endpoints = Vec::new();
    let mut add = |verbs: &[&str], one: &str, many: &str| {
        for verb in verbs {
            endpoints.push(match *verb {
                "get" => ("GET", one.to_owned()),
                "list" => ("GET", many.to_owned()),
                "create" => ("POST", many.to_owned()),
                "update" => ("PUT", one.to_owned()),
                "patch" => ("PATCH", one.to_owned()),
                "delete" => ("DELETE", one.to_owned()),
                "deletecollection" => ("DELETE", many.to_owned()),
                _ => continue,
            });
        }
    };
    add(row.verbs, &format!("{all}/x"), &all);
    for sub in row.subresources {
        let path = format!("{all}/x/{}", sub.name);
        add(sub.verbs, &path, &path);
    }
    endpoints
}

fn served() -> impl Iterator<Item = (&'static str, String)> {
    CATALOGUE.iter().filter(|row| row.served_by_default).flat_map(endpoints)
}

fn is_public(path: &str) -> bool {
    path.contains("/selfsubject")
}

#[tokio::test]
async fn nobody_and_the_wrong_user_get_nothing() {
    let cluster = Cluster::start().await;
    for user in [UserInfo::anonymous(), UserInfo::authenticated("eve", &[])] {
        let transport = cluster.server.in_process(user.clone());
        for (method, path) in served().filter(|(_, path)| !is_public(path)) {
            let (code, status) = send(&transport, method, &path, "application/json", Bytes::from_static(b"{}")).await;
            assert_eq!((code, status["kind"].as_str()), (403, Some("Status")), "{method} {path} as {}", user.username);
            assert_eq!(status["reason"], "Forbidden", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    let deep = Bytes::from("[".repeat(200_000));
    let deep_yaml = Bytes::from("a: [".repeat(50_000));
    let bomb: String =
        (0..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n.max(1) - 1); 9].join(","))).collect();
    let bodies = [
        ("application/json", Bytes::from_static(b"{\"kind\":")),
        ("application/json", Bytes::from_static(b"null")),
        ("application/json", Bytes::from_static(b"[1]")),
        ("application/json", deep.clone()),
        ("application/yaml", deep_yaml),
        ("application/yaml", Bytes::from(bomb)),
        ("application/vnd.kubernetes.protobuf", Bytes::from_static(b"k8s\0\xff\xff\xff\xff\xff")),
        ("application/merge-patch+json", deep.clone()),
        ("application/strategic-merge-patch+json", Bytes::from_static(b"{\"metadata\":7,\"spec\":[]}")),
        ("application/json-patch+json", Bytes::from_static(b"[{\"op\":\"add\",\"path\":\"/x/y/z\",\"value\":1}]")),
        ("application/apply-patch+yaml", Bytes::from_static(b"\xff\xfe")),
        ("application/json", Bytes::from(vec![b' '; 4 << 20])),
        ("image/png", Bytes::from_static(b"x")),
    ];
    for (method, path) in served().filter(|(method, _)| matches!(*method, "POST" | "PUT" | "PATCH")) {
        for (kind, body) in &bodies {
            let (code, status) = send(&admin, method, &path, kind, body.clone()).await;
            assert!((400..500).contains(&code), "{method} {path} with {kind} ({} bytes): {code} {status}", body.len());
            assert_eq!(status["kind"], "Status", "{method} {path}");
        }
    }
}

/// Methods that the path of an endpoint does not serve, with the path.
fn not_served() -> Vec<(&'static str, String)> {
    let mut by_path = std::collections::BTreeMap::<String, Vec<&str>>::new();
    for (method, path) in served() {
        by_path.entry(path).or_default().push(method);
    }
    let wrong = |(path, own): (String, Vec<&str>)| {
        let others = ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().filter(move |method| !own.contains(method));
        others.map(move |method| (method, path.clone())).collect::<Vec<_>>()
    };
    by_path.into_iter().flat_map(wrong).collect()
}

#[tokio::test]
async fn wrong_methods_are_refused() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    for (method, path) in not_served() {
        // What passes a request on takes every method.
        if path.ends_with("/proxy") {
            continue;
        }
        let (code, status) = send(&admin, method, &path, "application/json", Bytes::from_static(b"{}")).await;
        // A patch of a whole collection is refused for what it is sent as, first of all.
        let refused = matches!(code, 404 | 405) || (method == "PATCH" && code == 415);
        assert!(refused, "{method} {path}: {code} {status}");
        assert_eq!(status["kind"], "Status", "{method} {path}");
    }
}

#[tokio::test]
async fn bodies_that_break_off_are_refused() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    let binding = serde_json::json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "viewer"}, "subjects": [{"kind": "User", "name": "viewer", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}});
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(send(&admin, "POST", path, "application/json", binding.to_string().into()).await.0, 201);
    for (method, path) in served().filter(|(method, _)| matches!(*method, "POST" | "PUT" | "PATCH")) {
        let start = http_body::Frame::data(Bytes::from_static(b"{\"kind\": \"x\", \"metadata\""));
        let pieces = [Ok(start), Err(coracle_client::BoxError::from("the connection is gone"))];
        let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(&path).header("content-type", kind);
        let request = request.header("authorization", "Bearer viewer-token").body(body.boxed_unsync());
        let response = cluster.server.handle(request.expect("request")).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("body").to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        assert!((400..500).contains(&code) && status["kind"] == "Status", "{method} {path}: {code} {status}");
    }
}

#[tokio::test]
async fn paths_and_queries_of_all_sorts_are_answered() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    let paths = [
        "/",
        "/api",
        "/api/",
        "/api/v1",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/version",
        "/healthz",
        "/livez?verbose",
        "/readyz/ping",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api/v1",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
        "//api//v1",
        "/api/v1/namespaces/%2e%2e/pods",
        "/api/v1/%00",
        "/api/v1/pods/%ff/log",
        "/api/v1/pods?limit=-1",
        "/api/v1/pods?limit=99999999999999999999",
        "/api/v1/pods?continue=x",
        "/api/v1/pods?continue=e30",
        "/api/v1/pods?labelSelector=%28",
        "/api/v1/pods?fieldSelector=%3D",
        "/api/v1/pods?resourceVersion=-1",
        "/api/v1/pods?resourceVersion=x&resourceVersionMatch=Exact",
        "/api/v1/pods?resourceVersionMatch=Exact",
        "/api/v1/pods?sendInitialEvents=true",
        "/api/v1/pods?watch=1&sendInitialEvents=true",
        "/api/v1/componentstatuses",
        "/api/v1/namespaces/default/services/kubernetes:https/proxy/",
        "/api/v1/nodes/none/proxy/x",
        "/api/v1/watch/nothing",
    ];
    for path in paths {
        let (code, _) = send(&admin, "GET", path, "", Bytes::new()).await;
        assert!(code < 500 || code == 503, "{path}: {code}");
    }
    let (code, _) = send(&admin, "BREW", "/api/v1/pods", "", Bytes::new()).await;
    assert!((400..500).contains(&code));
}
