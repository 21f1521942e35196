//! What the audit log says of requests, under a policy and by default.

mod common;

use std::path::Path;
use std::time::Duration;

use common::Cluster;
use coracle_api_meta::UserInfo;
use coracle_apiserver::{AuditConfig, AuditPolicy};
use coracle_client::Client;
use http::{Method, Request};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: RequestResponse, resources: [{group: "", resources: [configmaps]}], omitManagedFields: true}
- {level: Request, resources: [{group: "", resources: [pods]}], omitStages: [RequestReceived]}
- {level: Metadata, resources: [{group: "", resources: [namespaces]}], omitStages: [RequestReceived]}
- {level: Metadata, resources: [{group: "", resources: [services]}]}
- {level: Metadata, nonResourceURLs: [/version], omitStages: [RequestReceived]}
"#;

async fn start(policy: Option<&str>) -> (Cluster, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let policy = policy.map(|text| AuditPolicy::parse(text).expect("a policy"));
    let config = AuditConfig { policy, ..AuditConfig::new(folder.path().join("audit.log")) };
    (Cluster::start_with("127.0.0.1:0", |own| own.audit = Some(config)).await, folder)
}

/// The events so far that match, at least so many.
async fn events(folder: &Path, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let read = || {
        let text = std::fs::read_to_string(folder.join("audit.log")).unwrap_or_default();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|event| wanted(event)).collect::<Vec<_>>()
    };
    let enough = async {
        loop {
            let found = read();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), enough).await.unwrap_or_else(|_| panic!("only {:#?}", read()))
}

async fn call(client: &Client, method: Method, path: &str, kind: &str, object: &Value) -> Result<Value, u16> {
    match client.call(method, path, kind, object.to_string().into_bytes()).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) => Err(error.status().map_or(0, |status| status.code)),
    }
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_says_how_much_is_told() {
    let (cluster, folder) = start(Some(POLICY)).await;
    let admin = cluster.admin();
    call(&admin, Method::POST, MAPS, JSON, &map("a")).await.expect("made");
    let merge = "application/merge-patch+json";
    call(&admin, Method::PATCH, &format!("{MAPS}/a"), merge, &json!({"data": {"k": "w"}})).await.expect("patched");
    let of_maps =
        |event: &Value| event["objectRef"]["resource"] == "configmaps" && event["user"]["username"] == "admin";
    let found = events(folder.path(), 4, of_maps).await;
    let stages: Vec<&str> = found.iter().filter_map(|event| event["stage"].as_str()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete", "RequestReceived", "ResponseComplete"]);
    let made = &found[1];
    assert_eq!(
        (&made["kind"], &made["apiVersion"], &made["level"], &made["verb"], &made["requestURI"]),
        (&json!("Event"), &json!("audit.k8s.io/v1"), &json!("RequestResponse"), &json!("create"), &json!(MAPS))
    );
    assert_eq!(
        made["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(made["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(made["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(made["responseObject"]["data"], json!({"k": "v"}));
    assert!(made["responseObject"]["metadata"]["uid"].is_string());
    assert!(made["responseObject"]["metadata"]["managedFields"].is_null(), "omitted");
    assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(found[3]["requestObject"], json!({"data": {"k": "w"}}));
    assert_eq!(found[0]["auditID"], made["auditID"]);
    // Refusals say why.
    let jane = cluster.client(UserInfo::authenticated("jane", &[]));
    assert_eq!(call(&jane, Method::POST, MAPS, JSON, &map("b")).await, Err(403));
    let of_jane = |event: &Value| event["user"]["username"] == "jane" && event["stage"] == "ResponseComplete";
    let refused = &events(folder.path(), 1, of_jane).await[0];
    assert_eq!(
        (&refused["responseStatus"]["code"], &refused["responseStatus"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    // What no rule names is not told.
    call(
        &admin,
        Method::POST,
        "/api/v1/namespaces/default/secrets",
        JSON,
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hidden"}}),
    )
    .await
    .expect("made");
    call(&admin, Method::GET, "/version", "", &Value::Null).await.expect("told");
    let version = &events(folder.path(), 1, |event| event["requestURI"] == "/version").await[0];
    assert_eq!((&version["stage"], &version["objectRef"]), (&json!("ResponseComplete"), &Value::Null));
    let text = std::fs::read_to_string(folder.path().join("audit.log")).expect("log");
    assert!(!text.contains("secrets") && !text.contains("hidden"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_begin_and_end() {
    let (cluster, folder) = start(Some(POLICY)).await;
    let admin = cluster.admin();
    let watch =
        Request::get("/api/v1/services?watch=true&timeoutSeconds=1").body(bytes::Bytes::new()).expect("request");
    let answer = admin.send(watch).await.expect("an answer");
    use http_body_util::BodyExt;
    answer.into_body().collect().await.expect("an end");
    let of_watch = |event: &Value| event["verb"] == "watch" && event["user"]["username"] == "admin";
    let found = events(folder.path(), 3, of_watch).await;
    let stages: Vec<&str> = found.iter().filter_map(|event| event["stage"].as_str()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_as_whom_is_told() {
    let (cluster, folder) = start(Some(POLICY)).await;
    let request = Request::get(MAPS).header("impersonate-user", "jane").body(bytes::Bytes::new()).expect("request");
    assert!(cluster.admin().send(request).await.is_err(), "jane may not");
    let of_jane =
        |event: &Value| event["impersonatedUser"]["username"] == "jane" && event["stage"] == "ResponseComplete";
    let event = &events(folder.path(), 1, of_jane).await[0];
    assert_eq!((&event["user"]["username"], &event["responseStatus"]["code"]), (&json!("admin"), &json!(403)));
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_leaves_its_notes() {
    let (cluster, folder) = start(Some(POLICY)).await;
    let admin = cluster.admin();
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "object.metadata.name != 'odd'", "message": "odd"}],
            "auditAnnotations": [{"key": "name", "valueExpression": "'called ' + object.metadata.name"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Audit"]}});
    let group = "/apis/admissionregistration.k8s.io/v1";
    call(&admin, Method::POST, &format!("{group}/validatingadmissionpolicies"), JSON, &policy).await.expect("a policy");
    call(&admin, Method::POST, &format!("{group}/validatingadmissionpolicybindings"), JSON, &binding)
        .await
        .expect("bound");
    call(&admin, Method::POST, MAPS, JSON, &map("odd")).await.expect("only written down");
    let complete = |event: &Value| event["objectRef"]["name"] == "odd" && event["stage"] == "ResponseComplete";
    let annotations = &events(folder.path(), 1, complete).await[0]["annotations"];
    assert_eq!(annotations["p/name"], "called odd");
    let failure: Value = serde_json::from_str(
        annotations["validation.policy.admission.k8s.io/validation_failure"].as_str().expect("text"),
    )
    .expect("JSON");
    assert_eq!(
        failure,
        json!([{"message": "odd", "policy": "p", "binding": "b", "expressionIndex": 0, "validationActions": ["Audit"]}])
    );
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "safe", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    call(&admin, Method::POST, "/api/v1/namespaces", JSON, &namespace).await.expect("a namespace");
    call(&admin, Method::POST, "/api/v1/namespaces/safe/serviceaccounts", JSON, &account).await.expect("an account");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "free"},
        "spec": {"containers": [{"name": "a", "image": "i"}]}});
    call(&admin, Method::POST, "/api/v1/namespaces/safe/pods", JSON, &pod).await.expect("a pod");
    let of_pod = |event: &Value| event["objectRef"]["resource"] == "pods" && event["verb"] == "create";
    let event = &events(folder.path(), 1, of_pod).await[0];
    assert_eq!(event["annotations"]["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
    assert!(event["requestObject"]["spec"].is_object() && event["responseObject"].is_null(), "level Request");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_contents_are_not_told() {
    let (cluster, folder) = start(None).await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
    let path = "/api/v1/namespaces/default/secrets";
    call(&cluster.admin(), Method::POST, path, JSON, &secret).await.expect("made");
    let of_secret = |event: &Value| event["objectRef"]["resource"] == "secrets" && event["user"]["username"] == "admin";
    let found = events(folder.path(), 1, of_secret).await;
    assert_eq!(
        (found.len(), &found[0]["level"], &found[0]["stage"]),
        (1, &json!("Metadata"), &json!("ResponseComplete"))
    );
    let text = std::fs::read_to_string(folder.path().join("audit.log")).expect("log");
    assert!(!text.contains("hidden") && !text.contains("requestObject"));
    // Nobody who shows a bad token is told of as such.
    let config = coracle_client::ClientConfig {
        server: format!("https://{}", cluster.address),
        ca_pem: Some(cluster.config.cluster_ca_pem.clone().into_bytes()),
        token: Some("bad-token".to_owned()),
        ..coracle_client::ClientConfig::default()
    };
    let transport = coracle_client::HttpTransport::new(config).expect("transport");
    use coracle_client::Transport;
    let request = Request::get(path).body(bytes::Bytes::new()).expect("request");
    assert_eq!(transport.send(request).await.expect("an answer").status(), 401);
    let refused = &events(folder.path(), 1, |event| event["responseStatus"]["code"] == 401).await[0];
    assert_eq!(refused["responseStatus"]["message"], "Authentication failed, attempted: bearer");
    assert!(refused["sourceIPs"][0] == "127.0.0.1");
}
