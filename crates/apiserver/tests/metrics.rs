//! The objects of `metrics.k8s.io`, which are computed when they are asked for.

mod common;

use common::Cluster;
use coracle_api_meta::{UserInfo, Value};
use coracle_client::Error;

const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let text = |item: &Value, field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
    items.iter().map(|item| format!("{}/{}", text(item, "namespace"), text(item, "name"))).collect()
}

#[tokio::test]
async fn usage_is_served_like_any_resource() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let get = async |path: &str| admin.get_json(&format!("{ROOT}{path}")).await;
    let resources = get("").await.expect("discovery");
    let rows = resources["resources"].as_array().expect("rows").clone();
    let kinds: Vec<&str> = rows.iter().filter_map(|row| row["kind"].as_str()).collect();
    assert_eq!(kinds, ["NodeMetrics", "PodMetrics"]);
    assert_eq!(rows[1]["verbs"], serde_json::json!(["get", "list"]));
    let nodes = get("/nodes").await.expect("nodes");
    assert_eq!((nodes["kind"].as_str(), &nodes["items"][0]["usage"]["cpu"]), (Some("NodeMetricsList"), &"250m".into()));
    assert_eq!(names(&get("/pods").await.expect("all")), ["one/a", "one/b", "two/a"]);
    assert_eq!(names(&get("/namespaces/one/pods").await.expect("one")), ["one/a", "one/b"]);
    assert_eq!(names(&get("/pods?labelSelector=app%3Db").await.expect("selected")), ["one/b"]);
    assert_eq!(names(&get("/pods?fieldSelector=metadata.namespace%3Dtwo").await.expect("selected")), ["two/a"]);
    let one = get("/namespaces/one/pods/b").await.expect("one");
    assert_eq!(one["containers"][0]["usage"]["memory"], "10Mi");
    let refused = |error: Error| match error {
        Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    };
    let missing = get("/namespaces/one/pods/c").await.map_err(refused);
    assert_eq!(missing, Err((404, "pods.metrics.k8s.io \"c\" not found".to_owned())));
    assert_eq!(get("/pods?fieldSelector=spec.x%3Dy").await.map_err(refused).expect_err("field").0, 400);
    let watched = get("/pods?watch=true").await.map_err(refused).expect_err("no watch");
    assert_eq!(watched.0, 405);
    let viewer = cluster.client(UserInfo::authenticated("nobody", &[]));
    assert_eq!(viewer.get_json(&format!("{ROOT}/nodes")).await.map_err(refused).expect_err("no rights").0, 403);
    let view = admin.get_json("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").await.expect("role");
    assert!(view["rules"].to_string().contains("metrics.k8s.io"), "{view}");
    let openapi = admin.get_json("/openapi/v3/apis/metrics.k8s.io/v1beta1").await.expect("openapi");
    assert!(openapi.to_string().contains("NodeMetrics"));
}
