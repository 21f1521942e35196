//! The server through its own client, without sockets.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Cluster;
use coracle_api_meta::UserInfo;
use coracle_api_meta::object::ObjectExt;
use coracle_client::{Client, Error};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

async fn call(client: &Client, method: Method, path: &str, kind: &str, body: Value) -> Result<Value, (u16, String)> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    match client.call(method, path, kind, body).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
        Err(Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(other) => panic!("{other:?}"),
    }
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": value}}, "data": {"k": value}})
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn objects_live_and_die() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let made = call(&admin, Method::POST, MAPS, JSON, config_map("a", "1")).await.expect("created");
    assert!(!made.uid().is_empty() && made.resource_version().parse::<u64>().is_ok());
    let again = call(&admin, Method::POST, MAPS, JSON, config_map("a", "1")).await;
    assert_eq!(again, Err((409, "configmaps \"a\" already exists".to_owned())));
    let path = format!("{MAPS}/a");
    assert_eq!(call(&admin, Method::GET, &path, "", Value::Null).await.as_ref(), Ok(&made));
    let same = call(&admin, Method::PATCH, &path, MERGE, json!({"data": {"k": "1"}})).await.expect("patched");
    assert_eq!(same.resource_version(), made.resource_version(), "a write that changes nothing is none");
    let patched = call(&admin, Method::PATCH, &path, MERGE, json!({"data": {"k": "2"}})).await.expect("patched");
    assert!(
        patched.resource_version().parse::<u64>().expect("number") > made.resource_version().parse().expect("number")
    );
    let mut stale = made.clone();
    stale["data"]["k"] = "3".into();
    let refused = call(&admin, Method::PUT, &path, JSON, stale.clone()).await;
    assert_eq!(refused.expect_err("stale").0, 409);
    stale.remove_meta("resourceVersion");
    let forced = call(&admin, Method::PUT, &path, JSON, stale).await.expect("unconditional");
    assert_eq!(forced["data"]["k"], "3");
    let dry = call(&admin, Method::DELETE, &format!("{path}?dryRun=All"), "", Value::Null).await.expect("dry");
    assert_eq!(dry["status"], "Success");
    let gone = call(&admin, Method::DELETE, &path, "", Value::Null).await.expect("deleted");
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    let missing = call(&admin, Method::GET, &path, "", Value::Null).await;
    assert_eq!(missing, Err((404, "configmaps \"a\" not found".to_owned())));
}

#[tokio::test]
async fn bad_input_is_answered_as_upstream_does() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let post = async |body: Value, query: &str| {
        call(&admin, Method::POST, &format!("{MAPS}{query}"), JSON, body).await.expect_err("refused")
    };
    let strict = post(
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "dat": {}}),
        "?fieldValidation=Strict",
    )
    .await;
    assert_eq!(strict, (400, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\"".to_owned()));
    assert_eq!(post(config_map("Bad_Name", "x"), "").await.0, 422);
    assert_eq!(post(json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}), "").await.0, 400);
    let mut elsewhere = config_map("a", "x");
    elsewhere.set_meta("namespace", "other");
    assert_eq!(
        post(elsewhere, "").await.1,
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let lost = call(&admin, Method::POST, "/api/v1/namespaces/nowhere/configmaps", JSON, config_map("a", "x")).await;
    assert_eq!(lost, Err((404, "namespaces \"nowhere\" not found".to_owned())));
    for path in ["/api/v1/nonsense", "/apis/none/v1/things", "/nowhere", "/api/v1/pods/x"] {
        assert_eq!(call(&admin, Method::GET, path, "", Value::Null).await.expect_err(path).0, 404, "{path}");
    }
    let broken = admin.call(Method::POST, MAPS, JSON, b"{\"kind\":".to_vec()).await;
    assert!(matches!(broken, Err(Error::Api(status)) if status.code == 400));
    let big = admin.call(Method::POST, MAPS, JSON, vec![b' '; 4 << 20]).await;
    assert!(matches!(big, Err(Error::Api(status)) if status.code == 413));
    let image = admin.call(Method::POST, MAPS, "image/png", b"x".to_vec()).await;
    assert!(matches!(image, Err(Error::Api(status)) if status.code == 415));
}

#[tokio::test]
async fn lists_come_in_pages_and_selections() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    for number in 0..5 {
        let name = format!("m{number}");
        call(&admin, Method::POST, MAPS, JSON, config_map(&name, &(number % 2).to_string())).await.expect("created");
    }
    let names = |list: &Value| {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item.name().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let get = async |query: &str| call(&admin, Method::GET, &format!("{MAPS}?{query}"), "", Value::Null).await;
    let first = get("limit=2").await.expect("page");
    assert_eq!((names(&first).as_str(), &first["metadata"]["remainingItemCount"]), ("m0 m1", &json!(3)));
    call(&admin, Method::DELETE, &format!("{MAPS}/m2"), "", Value::Null).await.expect("deleted");
    let token = first["metadata"]["continue"].as_str().expect("token");
    let second = get(&format!("limit=2&continue={token}")).await.expect("page");
    assert_eq!(names(&second), "m2 m3", "pages show one moment");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    cluster.store.compact(cluster.store.local_revision()).await.expect("compact");
    let Err(Error::Api(expired)) =
        admin.call(Method::GET, &format!("{MAPS}?limit=2&continue={token}"), "", Vec::new()).await
    else {
        panic!("the token is too old")
    };
    assert_eq!(expired.code, 410);
    let again = get(&format!("limit=1&continue={}", expired.metadata.continue_)).await.expect("goes on");
    call(&admin, Method::POST, MAPS, JSON, config_map("z", "2")).await.expect("created");
    let token = again["metadata"]["continue"].as_str().expect("token");
    let rest = get(&format!("limit=9&continue={token}")).await.expect("page");
    assert_eq!((names(&again).as_str(), names(&rest).as_str()), ("m3", "m4"), "again pages show one moment");
    assert_eq!(again["metadata"]["resourceVersion"], rest["metadata"]["resourceVersion"]);
    assert_eq!(names(&get("labelSelector=app%3D1").await.expect("list")), "m1 m3");
    assert_eq!(names(&get("labelSelector=app+notin+(1)&limit=1").await.expect("list")), "m0");
    assert_eq!(names(&get("fieldSelector=metadata.name%3Dm3").await.expect("list")), "m3");
    assert_eq!(get("fieldSelector=a%3Db").await.expect_err("unknown").1, "field label not supported: a");
    let ahead = get("resourceVersion=99999999").await.expect_err("future");
    assert_eq!(ahead.0, 504);
    let removed = call(&admin, Method::DELETE, &format!("{MAPS}?labelSelector=app%3D1"), "", Value::Null).await;
    assert_eq!(names(&removed.expect("deleted")), "m1 m3");
}

/// Reads watch events until `count` have come.
async fn events(client: &Client, path: &str, count: usize) -> Vec<String> {
    let request = Request::get(path).body(Bytes::new()).expect("request");
    let mut body = client.send(request).await.expect("watch").into_body();
    let mut text = String::new();
    while text.lines().count() < count {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("in time");
        let Some(frame) = frame else { break };
        text.push_str(std::str::from_utf8(&frame.expect("frame").into_data().expect("data")).expect("utf-8"));
    }
    let short = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("event");
        let object = &event["object"];
        let end = object["metadata"]["annotations"]["k8s.io/initial-events-end"].as_str().unwrap_or_default();
        format!("{} {}{end}", event["type"].as_str().unwrap_or_default(), object.name())
    };
    text.lines().map(short).collect()
}

#[tokio::test]
async fn watches_see_everything_in_order() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let first = call(&admin, Method::POST, MAPS, JSON, config_map("a", "1")).await.expect("created");
    let since = first.resource_version().to_owned();
    call(&admin, Method::POST, MAPS, JSON, config_map("b", "2")).await.expect("created");
    let relabel = json!({"metadata": {"labels": {"app": "2"}}});
    call(&admin, Method::PATCH, &format!("{MAPS}/a"), MERGE, relabel).await.expect("patched");
    call(&admin, Method::DELETE, &format!("{MAPS}/b"), "", Value::Null).await.expect("deleted");
    let watch = |query: &str| format!("{MAPS}?watch=1&{query}");
    assert_eq!(
        events(&admin, &watch(&format!("resourceVersion={since}")), 3).await,
        ["ADDED b", "MODIFIED a", "DELETED b"]
    );
    let selected = events(&admin, &watch(&format!("resourceVersion={since}&labelSelector=app%3D1")), 1).await;
    assert_eq!(selected, ["DELETED a"], "an object that no longer matches is gone for the watcher");
    assert_eq!(events(&admin, &watch(""), 1).await, ["ADDED a"]);
    let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    assert_eq!(events(&admin, &watch(list), 2).await, ["ADDED a", "BOOKMARK true"]);
    assert_eq!(events(&admin, &watch("timeoutSeconds=1&resourceVersion=0"), 9).await, ["ADDED a"], "ends in time");
}

#[tokio::test]
async fn rights_are_checked() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let user = cluster.client(UserInfo::authenticated("jane", &["devs"]));
    let refused = call(&user, Method::GET, MAPS, "", Value::Null).await;
    let text = "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"";
    assert_eq!(refused, Err((403, text.to_owned())));
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "devs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "devs"}]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    call(&admin, Method::POST, bindings, JSON, binding.clone()).await.expect("bound");
    call(&user, Method::GET, MAPS, "", Value::Null).await.expect("allowed now");
    let mut more = binding;
    more.set_meta("name", "more");
    more["roleRef"]["name"] = "admin".into();
    assert_eq!(call(&user, Method::POST, bindings, JSON, more).await.expect_err("escalation").0, 403);
    let nobody = cluster.client(UserInfo::anonymous());
    assert_eq!(call(&nobody, Method::GET, "/version", "", Value::Null).await.expect("public")["minor"], "36");
    assert_eq!(call(&nobody, Method::GET, "/metrics", "", Value::Null).await.expect_err("closed").0, 403);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(call(&user, Method::POST, path, JSON, review).await.expect("review")["status"]["allowed"], true);
}

#[tokio::test]
async fn tokens_speak_for_accounts() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    call(&admin, Method::POST, accounts, JSON, account).await.expect("account");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let made = call(&admin, Method::POST, &format!("{accounts}/robot/token"), JSON, request).await.expect("token");
    let token = made["status"]["token"].as_str().expect("token").to_owned();
    let review = async || {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        call(&admin, Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", JSON, review).await.expect("review")
    };
    let answer = review().await;
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:robot");
    call(&admin, Method::DELETE, &format!("{accounts}/robot"), "", Value::Null).await.expect("deleted");
    assert!(review().await["status"]["authenticated"].is_null(), "the token dies with its account");
}

#[tokio::test]
async fn services_get_addresses_and_ports() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, extra: Value| {
        let mut spec = json!({"ports": [{"port": 80}], "selector": {"a": "b"}});
        spec.as_object_mut().expect("map").extend(extra.as_object().cloned().expect("map"));
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    };
    let a =
        call(&admin, Method::POST, services, JSON, service("a", json!({"type": "NodePort"}))).await.expect("service");
    let address = a["spec"]["clusterIP"].as_str().expect("address").to_owned();
    assert!(address.starts_with("10.96.") && a["spec"]["clusterIPs"][0] == address.as_str());
    let port = a["spec"]["ports"][0]["nodePort"].as_u64().expect("port");
    assert!((30000..=32767).contains(&port));
    let taken = call(&admin, Method::POST, services, JSON, service("b", json!({"clusterIP": address}))).await;
    let text = format!(
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: provided IP is already allocated"
    );
    assert_eq!(taken, Err((422, text)));
    call(&admin, Method::DELETE, &format!("{services}/a"), "", Value::Null).await.expect("deleted");
    call(&admin, Method::POST, services, JSON, service("b", json!({"clusterIP": address}))).await.expect("free again");
    let headless =
        call(&admin, Method::POST, services, JSON, service("c", json!({"clusterIP": "None"}))).await.expect("headless");
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn pods_are_admitted_bound_and_deleted() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    let refused = call(&admin, Method::POST, pods, JSON, pod.clone()).await;
    let text = "pods \"p\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found";
    assert_eq!(refused, Err((403, text.to_owned())));
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    call(&admin, Method::POST, "/api/v1/namespaces/default/serviceaccounts", JSON, account).await.expect("account");
    let made = call(&admin, Method::POST, pods, JSON, pod).await.expect("pod");
    let volume = made["spec"]["volumes"][0]["name"].as_str().expect("volume");
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(made["spec"]["tolerations"][0]["tolerationSeconds"], 300);
    assert_eq!((&made["spec"]["priority"], &made["status"]["phase"]), (&json!(0), &json!("Pending")));
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let path = format!("{pods}/p/binding");
    call(&admin, Method::POST, &path, JSON, binding.clone()).await.expect("bound");
    assert_eq!(call(&admin, Method::POST, &path, JSON, binding).await.expect_err("once").0, 409);
    let bound = call(&admin, Method::GET, &format!("{pods}/p"), "", Value::Null).await.expect("pod");
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let status = json!({"status": {"phase": "Running"}, "spec": {"nodeName": "other"}});
    let patched = call(&admin, Method::PATCH, &format!("{pods}/p/status"), MERGE, status).await.expect("status");
    assert_eq!((&patched["status"]["phase"], &patched["spec"]["nodeName"]), (&json!("Running"), &json!("n")));
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    call(&admin, Method::POST, &format!("{pods}/p/eviction"), JSON, eviction).await.expect("evicted");
    let deleting = call(&admin, Method::GET, &format!("{pods}/p"), "", Value::Null).await.expect("marked");
    assert_eq!(deleting["metadata"]["deletionGracePeriodSeconds"], 30);
    let conditions = deleting["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let target = conditions.iter().find(|own| own["type"] == "DisruptionTarget").expect("condition");
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    call(&admin, Method::DELETE, &format!("{pods}/p?gracePeriodSeconds=0"), "", Value::Null).await.expect("gone");
    assert_eq!(call(&admin, Method::GET, &format!("{pods}/p"), "", Value::Null).await.expect_err("gone").0, 404);
}

#[tokio::test]
async fn custom_resources_are_served() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}});
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = call(&admin, Method::POST, crds, JSON, crd).await.expect("definition");
    assert_eq!(made["status"]["conditions"][1]["type"], "Established");
    let things = "/apis/example.com/v1/namespaces/default/things";
    let thing = |size: Value| json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": size, "no": 1}});
    assert_eq!(call(&admin, Method::POST, things, JSON, thing(json!("x"))).await.expect_err("type").0, 422);
    let made = call(&admin, Method::POST, things, JSON, thing(json!(5))).await.expect("thing");
    assert_eq!((&made["spec"], &made["metadata"]["generation"]), (&json!({"size": 5}), &json!(1)));
    let status = json!({"status": {"ok": true}});
    let patched = call(&admin, Method::PATCH, &format!("{things}/t/status"), MERGE, status).await.expect("status");
    assert_eq!(patched["status"]["ok"], true);
    let groups = call(&admin, Method::GET, "/apis/example.com/v1", "", Value::Null).await.expect("discovery");
    assert_eq!(groups["resources"][0]["kind"], "Thing");
    call(&admin, Method::DELETE, &format!("{crds}/things.example.com"), "", Value::Null).await.expect("deleting");
    let mut watch = cluster.store.changes("apiextensions.k8s.io/customresourcedefinitions");
    let gone = async {
        while cluster.store.local_count("apiextensions.k8s.io/customresourcedefinitions") > 0 {
            watch.changed().await.expect("change");
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("cleaned up");
    assert_eq!(call(&admin, Method::GET, things, "", Value::Null).await.expect_err("gone").0, 404);
    assert_eq!(cluster.store.local_count("example.com/things"), 0);
}

#[tokio::test]
async fn applies_own_fields() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let apply = async |manager: &str, value: &str, force: bool| {
        let path = format!("{MAPS}/a?fieldManager={manager}&force={force}");
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}});
        call(&admin, Method::PATCH, &path, "application/apply-patch+yaml", body).await
    };
    let made = apply("one", "1", false).await.expect("created");
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "one");
    let conflict = apply("two", "2", false).await.expect_err("conflict");
    assert_eq!(conflict, (409, "Apply failed with 1 conflict: conflict with \"one\": .data.k".to_owned()));
    let taken = apply("two", "2", true).await.expect("forced");
    assert_eq!(taken["data"]["k"], "2");
    let same = apply("two", "2", false).await.expect("same");
    assert_eq!(same.resource_version(), taken.resource_version());
}

#[tokio::test]
async fn applies_name_what_is_wrong() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let path = format!("{MAPS}/a?fieldManager=m&fieldValidation=Strict");
    let apply = async |body: &str| {
        let answer = admin.call(Method::PATCH, &path, "application/apply-patch+yaml", body.as_bytes().to_vec()).await;
        match answer {
            Err(Error::Api(status)) => (status.code, status.message.clone()),
            other => panic!("{other:?}"),
        }
    };
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
    let twice = apply(&format!("{head}data:\n  k: x\n  k: y\n")).await;
    let why = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"k\" already set in map";
    assert_eq!(twice, (400, why.to_owned()));
    let unknown = apply(&format!("{head}dato: {{}}\n")).await;
    assert!(unknown.1.ends_with(".dato: field not declared in schema"), "{unknown:?}");
}

#[tokio::test]
async fn patches_of_many_never_conflict() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    call(&admin, Method::POST, MAPS, JSON, config_map("a", "1")).await.expect("created");
    let path = format!("{MAPS}/a");
    let patches =
        (0..32).map(|index| call(&admin, Method::PATCH, &path, MERGE, json!({"data": {(format!("k{index}")): "v"}})));
    for answer in futures::future::join_all(patches).await {
        answer.expect("patched");
    }
    let whole = call(&admin, Method::GET, &path, "", Value::Null).await.expect("map");
    assert_eq!(whole["data"].as_object().map(|data| data.len()), Some(33));
}

#[tokio::test]
async fn reviews_are_no_tables() {
    let cluster = Cluster::start().await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let ask = async |accept: &str| {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header("content-type", JSON)
            .header("accept", accept)
            .body(Bytes::from(review.to_string()))
            .expect("request");
        cluster.admin().transport().send(request).await.expect("answer").status().as_u16()
    };
    assert_eq!(ask("application/json;as=Table;v=v1;g=meta.k8s.io").await, 406);
    assert_eq!(ask("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await, 201);
}

#[tokio::test]
async fn kinds_of_several_versions_are_converted() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    call(&admin, Method::POST, &path("v2"), JSON, scaler).await.expect("created");
    let old = call(&admin, Method::GET, &format!("{}/a", path("v1")), "", Value::Null).await.expect("read");
    assert_eq!((old.api_version(), &old["spec"]["targetCPUUtilizationPercentage"]), ("autoscaling/v1", &json!(50)));
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 60}});
    call(&admin, Method::PATCH, &format!("{}/a", path("v1")), MERGE, patch).await.expect("patched");
    let new = call(&admin, Method::GET, &format!("{}/a", path("v2")), "", Value::Null).await.expect("read");
    assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    let list = call(&admin, Method::GET, &path("v1"), "", Value::Null).await.expect("list");
    assert_eq!((list.api_version(), list["items"][0].api_version()), ("autoscaling/v1", "autoscaling/v1"));
}

#[tokio::test]
async fn the_first_objects_are_there() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let services =
        call(&admin, Method::GET, "/apis/apiregistration.k8s.io/v1/apiservices", "", Value::Null).await.expect("list");
    for service in services["items"].as_array().expect("items") {
        assert_eq!(service["status"]["conditions"][0]["status"], "True", "{}", service.name());
    }
    for path in [
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
        "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
    ] {
        call(&admin, Method::GET, path, "", Value::Null).await.expect(path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watchers_lose_no_event() {
    const WATCHERS: usize = 200;
    const OBJECTS: usize = 50;
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let since = cluster.store.local_revision();
    let watch = format!("{MAPS}?watch=1&resourceVersion={since}");
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| {
            let (admin, watch) = (admin.clone(), watch.clone());
            tokio::spawn(async move { events(&admin, &watch, OBJECTS).await })
        })
        .collect();
    for number in 0..OBJECTS {
        call(&admin, Method::POST, MAPS, JSON, config_map(&format!("m{number:02}"), "x")).await.expect("created");
    }
    let wanted: Vec<String> = (0..OBJECTS).map(|number| format!("ADDED m{number:02}")).collect();
    for watcher in watchers {
        assert_eq!(watcher.await.expect("watcher"), wanted);
    }
}

#[tokio::test]
async fn a_second_start_changes_nothing() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    call(&admin, Method::POST, MAPS, JSON, config_map("a", "1")).await.expect("created");
    let before = cluster.store.local_revision();
    cluster.server.stop();
    let again = coracle_apiserver::Server::new(cluster.config.clone(), cluster.store.clone()).await.expect("server");
    assert_eq!(cluster.store.local_revision(), before);
    let mut moved = cluster.config.clone();
    moved.advertise = "192.0.2.7:7443".parse().expect("address");
    again.stop();
    let again = coracle_apiserver::Server::new(moved, cluster.store.clone()).await.expect("server");
    let admin = Client::new(
        std::sync::Arc::new(again.in_process(UserInfo::authenticated("admin", &["system:masters"]))),
        "test/1",
    );
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = call(&admin, Method::GET, path, "", Value::Null).await.expect("slice");
    assert_eq!(
        (&slice["endpoints"][0]["addresses"][0], &slice["ports"][0]["port"]),
        (&json!("192.0.2.7"), &json!(7443))
    );
}
