//! What every request meets whatever it is about: priority and fairness, limits, health, metrics, the end.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Cluster;
use coracle_api_meta::UserInfo;
use coracle_client::{Body, HttpTransport, Kubeconfig, Transport};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const FLOWS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(transport: &dyn Transport, method: Method, path: &str, body: impl Into<Bytes>) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    transport.send(request.body(body.into()).expect("request")).await.expect("sent")
}

async fn text(response: Response<Body>) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.expect("body").to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

async fn get(transport: &dyn Transport, path: &str) -> (u16, String) {
    text(send(transport, Method::GET, path, Bytes::new()).await).await
}

async fn make(transport: &dyn Transport, path: &str, object: Value) -> Value {
    let (code, body) = text(send(transport, Method::POST, path, object.to_string()).await).await;
    assert_eq!(code, 201, "{body}");
    serde_json::from_str(&body).expect("json")
}

async fn allow(admin: &dyn Transport, user: &str) {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    make(admin, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name}, "spec": {
        "matchingPrecedence": 10, "priorityLevelConfiguration": {"name": level}, "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]}]}})
}

fn level(name: &str, shares: u32, response: Value) -> Value {
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": {"name": name},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "borrowingLimitPercent": 0,
            "limitResponse": response}}})
}

fn dangling(schema: &str) -> (Value, Value) {
    let schema: Value = serde_json::from_str(schema).expect("json");
    let all = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = all.into_iter().find(|own| own["type"] == "Dangling").unwrap_or_default();
    (condition["status"].clone(), condition["reason"].clone())
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: it does not happen");
}

#[tokio::test]
async fn flow_schemas_decide_about_requests() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    let eve = cluster.server.in_process(UserInfo::authenticated("eve", &[]));
    let (_, usual) = get(&admin, &format!("{FLOWS}/global-default")).await;
    assert_eq!(dangling(&usual), (json!("False"), json!("Found")));
    let usual: Value = serde_json::from_str(&usual).expect("json");
    let answer = send(&eve, Method::GET, "/api/v1/nodes/none", Bytes::new()).await;
    assert_eq!(answer.headers()["x-kubernetes-pf-flowschema-uid"], usual["metadata"]["uid"].as_str().expect("uid"));

    let made = make(&admin, FLOWS, schema("strict", "strict", "eve")).await;
    let path = format!("{FLOWS}/strict");
    let shows = async |wanted: &str| dangling(&get(&admin, &path).await.1).0 == wanted;
    until("its level does not exist", || shows("True")).await;
    // Schemas without a level are passed over, even by those that take part in everything.
    assert_eq!(get(&eve, "/api/v1/nodes/none").await.0, 403);
    let level = make(&admin, LEVELS, level("strict", 0, json!({"type": "Reject"}))).await;
    until("its level exists", || shows("False")).await;

    let answer = send(&eve, Method::GET, "/api/v1/nodes/none", Bytes::new()).await;
    let uid = |object: &Value| object["metadata"]["uid"].as_str().expect("uid").to_owned();
    assert_eq!(answer.headers()["x-kubernetes-pf-flowschema-uid"], uid(&made).as_str());
    assert_eq!(answer.headers()["x-kubernetes-pf-prioritylevel-uid"], uid(&level).as_str());
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(text(answer).await, (429, "Too many requests, please try again later.\n".to_owned()));
    assert_eq!(get(&admin, "/api/v1/nodes/none").await.0, 404);
    let metrics = get(&admin, "/metrics").await.1;
    let rejected = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"strict\",priority_level=\"strict\",reason=\"concurrency-limit\"} 1\n";
    assert!(metrics.contains(rejected), "{metrics}");
    let dump = get(&admin, "/debug/api_priority_and_fairness/dump_priority_levels").await.1;
    assert!(dump.starts_with("PriorityLevelName,") && dump.contains("\nstrict,"), "{dump}");
}

#[tokio::test]
async fn requests_wait_for_their_turn_in_queues() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    let queue = json!({"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 200}});
    make(&admin, LEVELS, level("slow", 1, queue)).await;
    make(&admin, FLOWS, schema("slow", "slow", "bob")).await;
    let shown = async || dangling(&get(&admin, &format!("{FLOWS}/slow")).await.1).0 == "False";
    until("the level is known", shown).await;
    allow(&admin, "bob").await;
    let bob = cluster.server.in_process(UserInfo::authenticated("bob", &[]));
    let object = |number: usize| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{number}")}}).to_string()
    };
    let all = (0..100).map(|number| send(&bob, Method::POST, MAPS, object(number)));
    let codes: Vec<u16> = futures::future::join_all(all).await.iter().map(|answer| answer.status().as_u16()).collect();
    assert!(codes.iter().all(|code| *code == 201), "{codes:?}");
    let metrics = get(&admin, "/metrics").await.1;
    let value = |name: &str| {
        let start = format!("apiserver_flowcontrol_{name}{{flow_schema=\"slow\",priority_level=\"slow\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
    };
    assert_eq!(value("dispatched_requests_total").as_deref(), Some("100"), "{metrics}");
    assert_eq!(value("current_executing_requests").as_deref(), Some("0"));
    assert_eq!(value("current_inqueue_requests").as_deref(), Some("0"));
}

#[tokio::test]
async fn health_says_what_is_wrong() {
    let cluster = Cluster::start().await;
    let nobody = cluster.server.in_process(UserInfo::anonymous());
    for endpoint in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(get(&nobody, endpoint).await, (200, "ok".to_owned()));
        let (_, verbose) = get(&nobody, &format!("{endpoint}?verbose&exclude=ping&exclude=nothing")).await;
        assert!(verbose.starts_with("[+]ping excluded: ok\n[+]log ok\n"), "{verbose}");
        let end = format!("no matches for \"nothing\"\n{} check passed\n", &endpoint[1..]);
        assert!(verbose.ends_with(&end), "{verbose}");
    }
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    assert_eq!(get(&nobody, "/readyz/etcd").await.0, 403);
    assert_eq!(get(&admin, "/readyz/etcd").await, (200, "ok".to_owned()));
    assert_eq!(get(&admin, "/livez/etcd").await.0, 404);
    assert_eq!(get(&admin, "/readyz/none").await, (404, "404 page not found\n".to_owned()));
    cluster.server.stop();
    let (code, why) = get(&nobody, "/readyz").await;
    assert_eq!(code, 500);
    assert!(why.contains("[-]shutdown failed: reason withheld\n") && why.ends_with("readyz check failed\n"), "{why}");
    assert_eq!(get(&nobody, "/livez").await.0, 200);
}

#[tokio::test]
async fn metrics_have_the_names_of_the_objectives() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    make(&admin, MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})).await;
    let watch = send(&admin, Method::GET, &format!("{MAPS}?watch=1"), Bytes::new()).await;
    let (_, metrics) = get(&admin, "/metrics").await;
    for line in [
        "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1",
        "apiserver_longrunning_requests{component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} 1",
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0",
        "apiserver_storage_objects{resource=\"configmaps\"} 2",
        "etcd_request_duration_seconds_count{operation=\"create\",type=\"configmaps\"} 2",
        "apiserver_admission_step_admission_duration_seconds_bucket{type=\"admit\",operation=\"CREATE\",le=\"10\"}",
        "apiserver_request_duration_seconds_bucket{component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\",le=\"60\"} 1",
        "apiserver_response_sizes_count{",
        "apiserver_flowcontrol_current_limit_seats{priority_level=\"exempt\"}",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(&format!("\n{line}")), "{line} is not in {metrics}");
    }
    drop(watch);
    let (_, metrics) = get(&admin, "/metrics").await;
    assert!(!metrics.contains("\napiserver_longrunning_requests{"), "the watch has ended");
}

#[tokio::test]
async fn requests_have_a_time_limit() {
    let cluster = Cluster::start().await;
    let admin = cluster.server.in_process(UserInfo::authenticated("admin", &["system:masters"]));
    let (code, status) = get(&admin, "/api/v1/pods?timeout=soon").await;
    assert!(
        code == 400 && status.contains("invalid timeout specified in the request URL - time: invalid duration"),
        "{status}"
    );
    allow(&admin, "viewer").await;
    let endless = futures::stream::pending::<Result<http_body::Frame<Bytes>, coracle_client::BoxError>>();
    let request = Request::post(format!("{MAPS}?timeout=50ms"))
        .header("authorization", "Bearer viewer-token")
        .body(http_body_util::StreamBody::new(endless).boxed_unsync());
    let (code, status) = text(cluster.server.handle(request.expect("request")).await).await;
    let status: Value = serde_json::from_str(&status).expect("status");
    assert_eq!((code, status["reason"].as_str()), (504, Some("Timeout")), "{status}");
    assert_eq!(status["message"], "Timeout: request did not complete within the allotted timeout");
    assert_eq!(get(&admin, "/api/v1/pods?timeout=30s").await.0, 200);
}

fn over_tls(cluster: &Cluster) -> HttpTransport {
    let config = Kubeconfig::load(&cluster.kubeconfig).expect("kubeconfig");
    HttpTransport::new(config.client_config(Some("test"), cluster.folder.path()).expect("config")).expect("transport")
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_far_over_the_limit_get_an_answer() {
    let cluster = Cluster::start().await;
    let transport = over_tls(&cluster);
    let (code, status) = text(send(&transport, Method::POST, MAPS, vec![b' '; 20 << 20]).await).await;
    let status: Value = serde_json::from_str(&status).expect("status");
    assert_eq!((code, status["reason"].as_str()), (413, Some("RequestEntityTooLarge")), "{status}");
    // The connection is still good.
    assert_eq!(get(&transport, "/version").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_watches_cleanly() {
    let cluster = Cluster::start().await;
    let transport = over_tls(&cluster);
    let watch = send(&transport, Method::GET, "/api/v1/configmaps?watch=1", Bytes::new()).await;
    let mut body = watch.into_body();
    assert!(body.frame().await.expect("initial objects").is_ok());
    cluster.server.stop();
    while let Some(frame) = body.frame().await {
        frame.expect("no broken stream");
    }
}
