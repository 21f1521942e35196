//! Who may do what: webhooks in the chain, nodes, reviews, and the words of refusals.

mod common;

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::Cluster;
use common::tls::{Handler, TlsServer};
use coracle_api_meta::UserInfo;
use coracle_apiserver::Authorization;
use coracle_client::{Client, ClientConfig, full_body};
use futures::FutureExt;
use http::{Method, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

/// A server that is asked whether requests are allowed, and what it was asked.
struct Judge {
    server: TlsServer,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Judge {
    async fn start() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let handler: Handler = Arc::new(move |request| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect().await.expect("body").to_bytes();
                let review: Value = serde_json::from_slice(&body).expect("a review");
                let attributes = &review["spec"]["resourceAttributes"];
                let status = match attributes["resource"].as_str() {
                    Some("configmaps") => json!({"allowed": true, "reason": "maps are free"}),
                    Some("secrets") => json!({"allowed": false, "denied": true, "reason": "never secrets"}),
                    _ => json!({"allowed": false, "reason": "not mine"}),
                };
                log.lock().expect("lock").push(review["spec"].clone());
                let answer =
                    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status});
                Response::new(full_body(answer.to_string()))
            }
            .boxed()
        });
        Self { server: TlsServer::start(&["127.0.0.1"], handler).await, asked }
    }

    fn config(&self) -> ClientConfig {
        ClientConfig {
            server: format!("https://{}/authorize", self.server.address),
            ca_pem: Some(STANDARD.decode(&self.server.bundle).expect("bundle")),
            ..ClientConfig::default()
        }
    }

    fn count(&self) -> usize {
        self.asked.lock().expect("lock").len()
    }
}

fn configuration(server: &ClientConfig, webhook: Value) -> Authorization {
    let mut webhook = webhook;
    webhook["subjectAccessReviewVersion"] = "v1".into();
    webhook["matchConditionSubjectAccessReviewVersion"] = "v1".into();
    webhook["connectionInfo"] = json!({"type": "KubeConfigFile", "kubeConfigFile": "/webhook"});
    let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": [{"type": "Webhook", "name": "judge", "webhook": webhook}, {"type": "Node", "name": "node"},
            {"type": "RBAC", "name": "rbac"}]});
    let servers = |_: &std::path::Path| Ok(server.clone());
    Authorization::parse(&config.to_string(), &servers).expect("a configuration")
}

async fn call(client: &Client, method: Method, path: &str, object: &Value) -> Result<Value, (u16, String)> {
    match client.call(method, path, "application/json", object.to_string().into_bytes()).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).expect("JSON")),
        Err(error) => {
            let status = error.status().expect("a status");
            Err((status.code, status.message.clone()))
        }
    }
}

async fn get(client: &Client, path: &str) -> Result<Value, (u16, String)> {
    match client.call(Method::GET, path, "", Vec::new()).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) => {
            let status = error.status().expect("a status");
            Err((status.code, status.message.clone()))
        }
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_decides_first() {
    let judge = Judge::start().await;
    let conditions = json!([{"expression": "has(request.resourceAttributes)"},
        {"expression": "request.user == 'jane'"}]);
    let chain = configuration(
        &judge.config(),
        json!({"timeout": "3s", "failurePolicy": "Deny", "matchConditions": conditions}),
    );
    let cluster = Cluster::start_with("127.0.0.1:0", |config| config.access.authorization = chain).await;
    let jane = cluster.client(UserInfo::authenticated("jane", &["ops"]));
    get(&jane, &format!("{MAPS}?fieldSelector=metadata.name%3Da&labelSelector=x%20in%20(b,c),!z"))
        .await
        .expect("allowed");
    let asked = judge.asked.lock().expect("lock")[0].clone();
    assert_eq!(
        asked,
        json!({"resourceAttributes": {"namespace": "default", "verb": "list", "version": "v1", "resource": "configmaps",
                "name": "a",
                "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]},
                "labelSelector": {"requirements": [{"key": "x", "operator": "In", "values": ["b", "c"]},
                    {"key": "z", "operator": "DoesNotExist"}]}},
            "user": "jane", "groups": ["ops", "system:authenticated"]})
    );
    assert_eq!(
        get(&jane, SECRETS).await.expect_err("denied"),
        (403, r#"secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" in the namespace "default": never secrets"#.to_owned())
    );
    assert_eq!(
        get(&jane, "/api/v1/namespaces/default/pods").await.expect_err("no opinion"),
        (403, r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default": not mine"#.to_owned())
    );
    let before = judge.count();
    get(&jane, SECRETS).await.expect_err("denied again");
    get(&jane, "/healthz").await.ok();
    let other = cluster.client(UserInfo::authenticated("other", &[]));
    get(&other, SECRETS).await.expect_err("not asked about");
    get(&cluster.admin(), SECRETS).await.expect("masters are not asked about");
    assert_eq!(judge.count(), before, "remembered, or no matter of the webhook");
    // Reviews ask the same chain.
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "jane",
        "groups": ["system:authenticated"], "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": "x"}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = call(&cluster.admin(), Method::POST, path, &review).await.expect("a review");
    assert_eq!(answer["status"], json!({"allowed": false, "denied": true, "reason": "never secrets"}));
    let own = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let answer = call(&jane, Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &own).await;
    // Asking what one may do is a right that RBAC gives.
    assert_eq!(answer.expect("rules")["status"]["incomplete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_webhook_fails_as_its_policy_says() {
    let nobody =
        ClientConfig { server: "https://127.0.0.1:1/".to_owned(), ca_pem: Some(Vec::new()), ..ClientConfig::default() };
    for (policy, code) in [("Deny", 403), ("NoOpinion", 500)] {
        let chain = configuration(&nobody, json!({"timeout": "1s", "failurePolicy": policy}));
        let cluster = Cluster::start_with("127.0.0.1:0", |config| config.access.authorization = chain).await;
        let jane = cluster.client(UserInfo::authenticated("jane", &[]));
        assert_eq!(get(&jane, MAPS).await.expect_err("refused").0, code, "{policy}");
        // What RBAC allows is not asked for after a refusal, but after no opinion.
        let node = cluster.client(UserInfo::authenticated("jane", &["system:masters"]));
        get(&node, MAPS).await.expect("masters");
        cluster.server.configure_authorization(&Authorization::default()).expect("configured");
        assert_eq!(get(&jane, MAPS).await.expect_err("RBAC").0, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_reach_what_their_pods_name() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let post = |path: &'static str, object: Value| {
        let admin = admin.clone();
        async move { call(&admin, Method::POST, path, &object).await.expect("made") }
    };
    for name in ["a", "b"] {
        post("/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
    }
    post(
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
    )
    .await;
    for name in ["mine", "other"] {
        post(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})).await;
    }
    post(
        "/api/v1/persistentvolumes",
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}),
    )
    .await;
    post(
        "/api/v1/namespaces/default/persistentvolumeclaims",
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c"}, "spec": {"volumeName": "pv", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}),
    )
    .await;
    let pod = |name: &str, node: &str, secret: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": node,
            "containers": [{"name": "a", "image": "i", "envFrom": [{"secretRef": {"name": secret}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}})
    };
    post("/api/v1/namespaces/default/pods", pod("p", "a", "mine")).await;
    let node = cluster.client(UserInfo::authenticated("system:node:a", &["system:nodes"]));
    let allowed = [
        "/api/v1/nodes/a",
        "/api/v1/namespaces/default/secrets/mine",
        "/api/v1/namespaces/default/pods/p",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Da",
        "/api/v1/persistentvolumes/pv",
        "/api/v1/services",
        "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dmine",
    ];
    for path in allowed {
        get(&node, path).await.unwrap_or_else(|refused| panic!("{path}: {refused:?}"));
    }
    for (path, why) in [
        ("/api/v1/nodes/b", "node 'a' cannot read 'b', only its own Node object"),
        ("/api/v1/nodes", "node 'a' cannot read all nodes, only its own Node object"),
        ("/api/v1/namespaces/default/secrets/other", "no relationship found between node 'a' and this object"),
        ("/api/v1/namespaces/default/secrets", "No Object name found"),
        ("/api/v1/pods", "can only list/watch pods with spec.nodeName field selector"),
    ] {
        let (code, message) = get(&node, path).await.expect_err("refused");
        assert!(code == 403 && message.ends_with(why), "{path}: {message}");
    }
    // A pod that goes takes its paths along.
    call(&admin, Method::DELETE, "/api/v1/namespaces/default/pods/p", &json!({"gracePeriodSeconds": 0}))
        .await
        .expect("deleted");
    assert_eq!(get(&node, "/api/v1/namespaces/default/secrets/mine").await.expect_err("gone").0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_take_selectors_and_tell_what_is_missing() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let review = |selector: Value| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "system:node:a",
            "groups": ["system:nodes"], "resourceAttributes": {"verb": "list", "resource": "pods", "version": "v1",
            "fieldSelector": selector}}})
    };
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (selector, allowed) in [
        (json!({"rawSelector": "spec.nodeName=a"}), true),
        (json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]}), true),
        (json!({"rawSelector": "spec.nodeName=b"}), false),
        (json!({"rawSelector": "spec.nodeName!=a"}), false),
    ] {
        let answer = call(&admin, Method::POST, path, &review(selector.clone())).await.expect("a review");
        assert_eq!(answer["status"]["allowed"], allowed, "{selector}");
    }
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "late"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "late"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gone"}});
    call(&admin, Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
        .await
        .expect("bound");
    let late = cluster.client(UserInfo::authenticated("late", &[]));
    let (_, message) = get(&late, MAPS).await.expect_err("refused");
    assert!(message.ends_with(r#": RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#), "{message}");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "gone"},
        "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]});
    call(&admin, Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await.expect("a role");
    get(&late, MAPS).await.expect("allowed now");
    let asked = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "late", "resourceAttributes": {"verb": "list", "resource": "configmaps"}}});
    let answer = call(&admin, Method::POST, path, &asked).await.expect("a review");
    assert_eq!(
        answer["status"],
        json!({"allowed": true, "reason": r#"RBAC: allowed by ClusterRoleBinding "late" of ClusterRole "gone" to User "late""#})
    );
}
