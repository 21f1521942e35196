//! Admission webhooks, asked by a running server over TLS.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::Cluster;
use common::tls::TlsServer;
use coracle_client::{Body, Client, full_body};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

/// A server of hooks, and the authority that it is to be known by, in base64.
struct Hooks {
    address: SocketAddr,
    bundle: String,
    server: TlsServer,
}

/// What a hook says of a request; null: nothing, ever.
fn judge(path: &str, request: &Value) -> Value {
    let uid = &request["uid"];
    let patch = |operations: Value| json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())});
    match path {
        "/deny" => {
            json!({"uid": uid, "allowed": false, "status": {"message": "the configmap contains unwanted key and value"}})
        }
        "/first" => patch(json!([{"op": "add", "path": "/data/first", "value": "yes"}])),
        "/second" if request["object"]["data"]["first"] == "yes" => {
            patch(json!([{"op": "add", "path": "/data/second", "value": "yes"}]))
        }
        "/odd" => patch(
            json!([{"op": "add", "path": "/nothing", "value": 1}, {"op": "add", "path": "/data/odd", "value": "yes"}]),
        ),
        "/attach" if request["object"]["kind"] == "PodAttachOptions" && request["name"] == "p" => {
            json!({"uid": uid, "allowed": false, "status": {"message": "attaching to pod 'p' is not allowed"}})
        }
        "/keep" if request["operation"] == "DELETE" && request["oldObject"]["metadata"]["name"] == "kept" => {
            json!({"uid": uid, "allowed": false, "status": {"message": "it is kept", "code": 403, "reason": "Forbidden"}})
        }
        "/hang" => Value::Null,
        _ => json!({"uid": uid, "allowed": true, "warnings": ["seen"]}),
    }
}

async fn answer(request: Request<hyper::body::Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let response = judge(&path, &review["request"]);
    if response.is_null() {
        std::future::pending::<()>().await;
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::new(full_body(review.to_string()))
}

impl Hooks {
    async fn start() -> Self {
        Self::start_with(&["h2", "http/1.1"]).await
    }

    async fn start_with(protocols: &[&str]) -> Self {
        let handler = Arc::new(|request| answer(request).boxed() as BoxFuture<'static, Response<Body>>);
        let names = ["127.0.0.1", "localhost", "hook.default.svc"];
        let server = TlsServer::start_with(&names, handler, None, protocols).await;
        Self { address: server.address, bundle: server.bundle.clone(), server }
    }

    fn url(&self, path: &str) -> Value {
        json!({"url": format!("https://{}{path}", self.address), "caBundle": self.bundle})
    }
}

fn hook(name: &str, operations: Value, client: Value) -> Value {
    json!({"name": format!("{name}.example.com"), "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        "rules": [{"operations": operations, "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]})
}

async fn call(client: &Client, method: Method, path: &str, object: &Value) -> Result<Value, String> {
    match client.call(method, path, "application/json", object.to_string().into_bytes()).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).expect("an object")),
        Err(error) => Err(error
            .status()
            .map_or_else(|| error.to_string(), |status| format!("{} {}", status.code, status.message))),
    }
}

/// Registers hooks of one kind, `Validating` or `Mutating`.
async fn register(client: &Client, kind: &str, name: &str, hooks: Value) {
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": hooks});
    let plural = format!("{}webhookconfigurations", kind.to_lowercase());
    let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
    call(client, Method::POST, &path, &object).await.expect("a configuration");
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(client: &Client, path: &str, name: &str) -> Result<Value, String> {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}});
    call(client, Method::POST, path, &map).await
}

#[tokio::test]
async fn hooks_refuse_where_their_selectors_say() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    register(&admin, "Validating", "v", json!([hook("deny", json!(["CREATE"]), hooks.url("/deny"))])).await;
    assert_eq!(
        create(&admin, MAPS, "a").await.expect_err("refused"),
        r#"400 admission webhook "deny.example.com" denied the request: the configmap contains unwanted key and value"#
    );
    create(&admin, "/api/v1/namespaces/kube-system/configmaps", "a").await.expect("another namespace");
}

#[tokio::test]
async fn hooks_change_objects_one_after_the_other() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let all = json!(["CREATE"]);
    let two = json!([hook("first", all.clone(), hooks.url("/first")), hook("second", all, hooks.url("/second"))]);
    register(&admin, "Mutating", "m", two).await;
    let made = create(&admin, MAPS, "a").await.expect("a map");
    assert_eq!(made["data"], json!({"k": "v", "first": "yes", "second": "yes"}));
}

#[tokio::test]
async fn deletions_are_asked_about() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    for name in ["kept", "free"] {
        create(&admin, MAPS, name).await.expect("a map");
    }
    register(&admin, "Validating", "v", json!([hook("keep", json!(["DELETE"]), hooks.url("/keep"))])).await;
    let delete = |name: &str| format!("{MAPS}/{name}");
    assert_eq!(
        call(&admin, Method::DELETE, &delete("kept"), &json!({})).await.expect_err("refused"),
        r#"403 admission webhook "keep.example.com" denied the request: it is kept"#
    );
    call(&admin, Method::DELETE, &delete("free"), &json!({})).await.expect("deleted");
}

#[tokio::test]
async fn failures_are_told_or_ignored() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let ignoring = |mut hook: Value| {
        hook["failurePolicy"] = "Ignore".into();
        hook
    };
    let hang = hook("hang", json!(["CREATE"]), hooks.url("/hang"));
    register(&admin, "Validating", "ignored", json!([ignoring(hang.clone())])).await;
    create(&admin, MAPS, "a").await.expect("ignored");
    register(&admin, "Validating", "counted", json!([hang])).await;
    let url = format!("https://{}/hang?timeout=1s", hooks.address);
    assert_eq!(
        create(&admin, MAPS, "b").await.expect_err("refused"),
        format!(
            "500 Internal error occurred: failed calling webhook \"hang.example.com\": failed to call webhook: Post \"{url}\": context deadline exceeded"
        )
    );
}

#[tokio::test]
async fn strangers_are_not_trusted() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let mut client = hooks.url("/x");
    client.as_object_mut().expect("fields").shift_remove("caBundle");
    register(&admin, "Validating", "v", json!([hook("x", json!(["CREATE"]), client)])).await;
    let url = format!("https://{}/x?timeout=1s", hooks.address);
    assert_eq!(
        create(&admin, MAPS, "a").await.expect_err("refused"),
        format!(
            "500 Internal error occurred: failed calling webhook \"x.example.com\": failed to call webhook: Post \"{url}\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
        )
    );
}

#[tokio::test]
async fn services_lead_to_their_endpoints() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": {"ports": [{"port": 8443, "targetPort": hooks.address.port()}]}});
    call(&admin, Method::POST, "/api/v1/namespaces/default/services", &service).await.expect("a service");
    let client = json!({"service": {"namespace": "default", "name": "hook", "path": "/deny", "port": 8443}, "caBundle": hooks.bundle});
    register(&admin, "Validating", "v", json!([hook("deny", json!(["CREATE"]), client)])).await;
    assert_eq!(
        create(&admin, MAPS, "a").await.expect_err("refused"),
        "500 Internal error occurred: failed calling webhook \"deny.example.com\": failed to call webhook: Post \"https://hook.default.svc:8443/deny?timeout=1s\": no endpoints available for service \"hook\""
    );
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}], "ports": [{"name": "", "port": hooks.address.port(), "protocol": "TCP"}]});
    let store = &cluster.store;
    // Slices do not lead to loopback by the API; the store takes them.
    let content = coracle_store::Content { bytes: slice.to_string().into(), revision_at: None };
    let key = coracle_store::Key::new("discovery.k8s.io/endpointslices", "default/hook-1");
    let transaction = coracle_store::Transaction {
        expect: Vec::new(),
        writes: vec![coracle_store::Write::Put { key, content, ttl: None }],
        durability: coracle_store::Durability::Relaxed,
    };
    store.commit(transaction).await.expect("a slice");
    assert!(create(&admin, MAPS, "a").await.expect_err("refused").contains("denied the request"));
}

#[tokio::test]
async fn what_is_only_tried_needs_hooks_without_side_effects() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let mut some = hook("some", json!(["CREATE"]), hooks.url("/allow"));
    some["sideEffects"] = "Some".into();
    some["admissionReviewVersions"] = json!(["v1"]);
    let none = hook("none", json!(["CREATE"]), hooks.url("/allow"));
    register(&admin, "Validating", "none", json!([none])).await;
    create(&admin, &format!("{MAPS}?dryRun=All"), "a").await.expect("tried");
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "some"}, "webhooks": [some]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    // Only NoneOnDryRun and None are accepted since v1.
    assert!(call(&admin, Method::POST, path, &object).await.expect_err("refused").starts_with("422 "));
}

#[tokio::test]
async fn conditions_decide_who_is_asked() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let mut deny = hook("deny", json!(["CREATE"]), hooks.url("/deny"));
    deny["matchConditions"] = json!([{"name": "skip", "expression": "object.metadata.name != 'skip-me'"}]);
    register(&admin, "Validating", "v", json!([deny])).await;
    create(&admin, MAPS, "skip-me").await.expect("not asked");
    assert!(create(&admin, MAPS, "a").await.expect_err("refused").contains("denied the request"));
}

#[tokio::test]
async fn what_hooks_add_is_read_as_if_a_client_had_sent_it() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    register(&admin, "Mutating", "m", json!([hook("odd", json!(["CREATE"]), hooks.url("/odd"))])).await;
    let made = create(&admin, MAPS, "a").await.expect("a map");
    assert_eq!((&made["data"]["odd"], made.get("nothing")), (&json!("yes"), None));
}

#[tokio::test]
async fn connections_are_asked_about() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let mut attach = hook("attach", json!(["CONNECT"]), hooks.url("/attach"));
    attach["rules"][0]["resources"] = json!(["pods/attach"]);
    register(&admin, "Validating", "v", json!([attach])).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    call(&admin, Method::POST, accounts, &account).await.expect("an account");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    call(&admin, Method::POST, "/api/v1/namespaces/default/pods", &pod).await.expect("a pod");
    let refused = call(&admin, Method::POST, "/api/v1/namespaces/default/pods/p/attach?stdin=true", &json!({})).await;
    assert_eq!(
        refused.expect_err("refused"),
        r#"400 admission webhook "attach.example.com" denied the request: attaching to pod 'p' is not allowed"#
    );
}

#[tokio::test]
async fn connections_to_hooks_are_used_again() {
    for protocols in [&["h2"], &["http/1.1"]] {
        let (cluster, hooks) = (Cluster::start().await, Hooks::start_with(protocols).await);
        let admin = cluster.admin();
        register(&admin, "Validating", "v", json!([hook("allow", json!(["CREATE"]), hooks.url("/allow"))])).await;
        for name in ["a", "b", "c"] {
            create(&admin, MAPS, name).await.expect("a map");
        }
        assert_eq!(hooks.server.count(), 1, "{protocols:?}");
    }
}

#[tokio::test]
async fn hosts_are_found_by_name() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let url =
        |host: &str| json!({"url": format!("https://{host}:{}/deny", hooks.address.port()), "caBundle": hooks.bundle});
    register(&admin, "Validating", "v", json!([hook("deny", json!(["CREATE"]), url("localhost"))])).await;
    assert!(create(&admin, MAPS, "a").await.expect_err("refused").contains("denied the request"));
}

#[tokio::test]
async fn certificates_must_be_for_the_service() {
    let (cluster, hooks) = (Cluster::start().await, Hooks::start().await);
    let admin = cluster.admin();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    call(&admin, Method::POST, "/api/v1/namespaces/default/services", &service).await.expect("a service");
    let client = json!({"service": {"namespace": "default", "name": "other", "port": hooks.address.port()}, "caBundle": hooks.bundle});
    register(&admin, "Validating", "v", json!([hook("deny", json!(["CREATE"]), client)])).await;
    let refused = create(&admin, MAPS, "a").await.expect_err("refused");
    let expected = "tls: failed to verify certificate: x509: certificate is valid for localhost, hook.default.svc, not other.default.svc";
    assert!(refused.ends_with(expected), "{refused}");
}
