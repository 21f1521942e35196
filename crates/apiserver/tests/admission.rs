//! The built-in admission of a running server.

mod common;

use common::Cluster;
use coracle_client::Client;
use http::Method;
use serde_json::{Value, json};

async fn call(client: &Client, method: Method, path: &str, object: &Value) -> Result<Value, String> {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    match client.call(method, path, kind, object.to_string().into_bytes()).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).expect("an object")),
        Err(error) => Err(error
            .status()
            .map_or_else(|| error.to_string(), |status| format!("{} {}", status.code, status.message))),
    }
}

async fn create(client: &Client, path: &str, object: Value) -> Result<Value, String> {
    call(client, Method::POST, path, &object).await
}

/// A namespace with its account.
async fn namespace(client: &Client, name: &str, labels: Value) -> String {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    create(client, "/api/v1/namespaces", object).await.expect("a namespace");
    let base = format!("/api/v1/namespaces/{name}");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    create(client, &format!("{base}/serviceaccounts"), account).await.expect("an account");
    base
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

#[tokio::test]
async fn pods_get_accounts_tolerations_and_priorities() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let base = namespace(&admin, "one", json!({})).await;
    let pod = create(&admin, &format!("{base}/pods"), pod("p", json!({}))).await.expect("a pod");
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert!(spec["volumes"][0]["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-")), "{spec}");
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
}

#[tokio::test]
async fn refusals_are_worded_as_upstream() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let base = namespace(&admin, "two", json!({"pod-security.kubernetes.io/enforce": "baseline"})).await;
    let pods = format!("{base}/pods");
    let mut host = pod("p", json!({}));
    host["spec"]["hostPID"] = true.into();
    assert_eq!(
        create(&admin, &pods, host).await.expect_err("refused"),
        r#"403 pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)"#
    );
    let mut account = pod("p", json!({}));
    account["spec"]["serviceAccountName"] = "none".into();
    assert_eq!(
        create(&admin, &pods, account).await.expect_err("refused"),
        r#"403 pods "p" is forbidden: error looking up service account two/none: serviceaccount "none" not found"#
    );
    let lost = create(&admin, "/api/v1/namespaces/lost/pods", pod("p", json!({}))).await;
    assert_eq!(lost.expect_err("refused"), r#"404 namespaces "lost" not found"#);
    let gone = call(&admin, Method::DELETE, "/api/v1/namespaces/kube-system", &json!({})).await;
    assert_eq!(
        gone.expect_err("refused"),
        r#"403 namespaces "kube-system" is forbidden: this namespace may not be deleted"#
    );
}

#[tokio::test]
async fn limits_are_given_and_kept() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let base = namespace(&admin, "three", json!({})).await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m"}, "default": {"cpu": "300m"}, "defaultRequest": {"cpu": "100m"}}]}});
    create(&admin, &format!("{base}/limitranges"), range).await.expect("a range");
    let pods = format!("{base}/pods");
    let given = create(&admin, &pods, pod("p", json!({}))).await.expect("a pod");
    assert_eq!(
        given["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "300m"}, "requests": {"cpu": "100m"}})
    );
    // A limit alone is the request too, before defaults are given.
    let limited = create(&admin, &pods, pod("q", json!({"limits": {"cpu": "300m"}}))).await.expect("a pod");
    assert_eq!(limited["spec"]["containers"][0]["resources"]["requests"]["cpu"], "300m");
    let low = create(&admin, &pods, pod("r", json!({"requests": {"cpu": "10m"}}))).await;
    assert_eq!(
        low.expect_err("refused"),
        r#"403 pods "r" is forbidden: minimum cpu usage per Container is 50m, but request is 10m"#
    );
}

#[tokio::test]
async fn quotas_are_reserved_at_once() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let base = namespace(&admin, "four", json!({})).await;
    let hard = json!({"pods": "3", "configmaps": "1"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    create(&admin, &format!("{base}/resourcequotas"), quota).await.expect("a quota");
    let path = format!("{base}/resourcequotas/q");
    let status = json!({"status": {"hard": hard, "used": {"pods": "0", "configmaps": "1"}}});
    call(&admin, Method::PATCH, &format!("{path}/status"), &status).await.expect("a status");
    let pods = format!("{base}/pods");
    let names = ["a", "b", "c", "d", "e"].map(|name| create(&admin, &pods, pod(name, json!({}))));
    let answers = futures::future::join_all(names).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3, "{answers:?}");
    let refused = answers.into_iter().find_map(Result::err).expect("one too many");
    assert!(
        refused.ends_with("is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"),
        "{refused}"
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    assert_eq!(
        create(&admin, &format!("{base}/configmaps"), map).await.expect_err("refused"),
        r#"403 configmaps "m" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1"#
    );
    let quota = admin.get_json(&path).await.expect("the quota");
    assert_eq!(quota["status"]["used"], json!({"configmaps": "1", "pods": "3"}));
}

#[tokio::test]
async fn nodes_keep_to_themselves() {
    let cluster = Cluster::start().await;
    let user =
        |name: &str| coracle_api_meta::UserInfo::authenticated(&format!("system:node:{name}"), &["system:nodes"]);
    let own = cluster.client(user("a"));
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}});
    let made = create(&own, "/api/v1/nodes", node.clone()).await.expect("a node");
    assert_eq!(made["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let mut other = node;
    other["metadata"]["name"] = "b".into();
    assert_eq!(
        create(&own, "/api/v1/nodes", other).await.expect_err("refused"),
        r#"403 nodes "b" is forbidden: node "a" is not allowed to modify node "b""#
    );
}

#[tokio::test]
async fn nobody_gives_what_they_have_not() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let base = "/apis/rbac.authorization.k8s.io/v1";
    let role = |name: &str, verbs: Value, resources: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": ["", "rbac.authorization.k8s.io"], "resources": resources, "verbs": verbs}]})
    };
    let roles = format!("{base}/clusterroles");
    create(&admin, &roles, role("maker", json!(["create", "get"]), json!(["clusterroles", "pods"])))
        .await
        .expect("a role");
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "maker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]});
    create(&admin, &format!("{base}/clusterrolebindings"), binding).await.expect("a binding");
    let ann = cluster.client(coracle_api_meta::UserInfo::authenticated("ann", &[]));
    create(&ann, &roles, role("fine", json!(["get"]), json!(["pods"]))).await.expect("within bounds");
    let secrets = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "much"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    assert_eq!(
        create(&ann, &roles, secrets).await.expect_err("refused"),
        "403 clusterroles.rbac.authorization.k8s.io \"much\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
}

#[tokio::test]
async fn reviews_answer() {
    let cluster = Cluster::start().await;
    let viewer = cluster.client(coracle_api_meta::UserInfo::authenticated("viewer", &[]));
    let authorization = "/apis/authorization.k8s.io/v1";
    let ask = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let path = format!("{authorization}/selfsubjectaccessreviews");
    assert_eq!(create(&viewer, &path, ask.clone()).await.expect("a review")["status"]["allowed"], false);
    assert_eq!(create(&cluster.admin(), &path, ask).await.expect("a review")["status"]["allowed"], true);
    let own = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let review = create(&viewer, "/apis/authentication.k8s.io/v1/selfsubjectreviews", own).await.expect("a review");
    assert_eq!(review["status"]["userInfo"]["username"], "viewer");
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "viewer-token"}});
    let review =
        create(&cluster.admin(), "/apis/authentication.k8s.io/v1/tokenreviews", token).await.expect("a review");
    assert_eq!(review["status"]["user"]["username"], "viewer");
    let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let review = create(&viewer, &format!("{authorization}/selfsubjectrulesreviews"), rules).await.expect("a review");
    assert_eq!(review["status"]["incomplete"], false);
}
