//! Where pods go, and why not, as data.

use std::sync::Arc;

use coracle_api_types::Object;
use coracle_plan_core::rng::Rng;
use coracle_plan_scheduler::{Cluster, Decision, Happening, Nomination, PodInfo, Queue, schedule};
use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

fn node(name: &str, extra: &Value) -> Arc<Node> {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
    });
    merge(&mut node, extra);
    Arc::new(Node::from_value(&node).expect("node"))
}

fn pod(name: &str, extra: &Value) -> Arc<Pod> {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name.split('-').next()}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
    });
    merge(&mut pod, extra);
    Arc::new(Pod::from_value(&pod).expect("pod"))
}

fn merge(into: &mut Value, patch: &Value) {
    match patch.as_object() {
        Some(fields) if into.is_object() => {
            for (name, value) in fields {
                merge(&mut into[name.as_str()], value);
            }
        }
        Some(fields) if fields.is_empty() => {}
        _ => *into = patch.clone(),
    }
}

fn cpu(amount: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}})
}

fn on(node: &str, extra: &Value) -> Value {
    let mut on = json!({"spec": {"nodeName": node}});
    merge(&mut on, extra);
    on
}

fn cluster(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.iter().for_each(|node| cluster.set_node(node.clone()));
    pods.iter().for_each(|pod| cluster.set_pod(pod));
    cluster
}

fn decide(cluster: &Cluster, pod: &Arc<Pod>) -> String {
    match schedule(cluster, &Arc::new(PodInfo::new(pod.clone())), &mut Rng::new(1)) {
        Decision::Bind { node, .. } => format!("bind to {node}"),
        Decision::Reject(refusal) => {
            let victims = match &refusal.nomination {
                Nomination::Free(preemption) => {
                    let names: Vec<&str> = preemption.victims.iter().map(|victim| victim.pod.name()).collect();
                    format!(" [end {} on {}]", names.join(", "), preemption.node)
                }
                _ => String::new(),
            };
            format!("{}{victims}", refusal.message)
        }
    }
}

fn check(cluster: &Cluster, pod: &Arc<Pod>, expected: &Expect) {
    expected.assert_eq(&decide(cluster, pod));
}

#[test]
fn refusals_are_worded_as_upstream_words_them() {
    let three = cluster(&[node("a", &json!({})), node("b", &json!({})), node("c", &json!({}))], &[]);
    check(&cluster(&[], &[]), &pod("p", &json!({})), &expect!["no nodes available to schedule pods"]);
    check(
        &three,
        &pod("p", &cpu("30")),
        &expect![
            "0/3 nodes are available: 3 Insufficient cpu. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        ],
    );
    check(
        &three,
        &pod("p", &json!({"spec": {"nodeSelector": {"a": "b"}}})),
        &expect![
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        ],
    );
    let full = cluster(&[node("a", &json!({}))], &[pod("x", &on("a", &cpu("1900m")))]);
    check(
        &full,
        &pod("p", &cpu("1")),
        &expect![
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ],
    );
    let mixed = cluster(
        &[
            node("a", &json!({"spec": {"unschedulable": true}})),
            node("b", &json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})),
            node("c", &json!({"status": {"allocatable": {"pods": "0"}}})),
        ],
        &[],
    );
    check(
        &mixed,
        &pod("p", &json!({})),
        &expect![
            "0/3 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
        ],
    );
    let claim = json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    check(
        &three,
        &pod("p", &claim),
        &expect![[
            r#"0/3 nodes are available: persistentvolumeclaim "data" not found. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."#
        ]],
    );
}

#[test]
fn ports_taints_and_affinity_of_nodes() {
    let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let taken = cluster(&[node("a", &json!({})), node("b", &json!({}))], &[pod("x", &on("a", &port))]);
    check(&taken, &pod("p", &port), &expect!["bind to b"]);
    let tainted =
        cluster(&[node("a", &json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}}))], &[]);
    let tolerant = json!({"spec": {"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}]}});
    check(&tainted, &pod("p", &tolerant), &expect!["bind to a"]);
    let labelled = cluster(&[node("a", &json!({"metadata": {"labels": {"disk": "ssd"}}})), node("b", &json!({}))], &[]);
    let wants = json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}}}});
    check(&labelled, &pod("p", &wants), &expect!["bind to a"]);
    let named = json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["z"]}]}]}}}}});
    check(
        &labelled,
        &pod("p", &named),
        &expect![
            "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        ],
    );
}

#[test]
fn pods_near_and_away_from_pods() {
    let nodes = [node("a", &json!({})), node("b", &json!({}))];
    let away = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]}}}});
    let near = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]}}}});
    let one = cluster(&nodes, &[pod("web-1", &on("a", &json!({})))]);
    check(&one, &pod("x", &away), &expect!["bind to b"]);
    check(&one, &pod("x", &near), &expect!["bind to a"]);
    check(&cluster(&nodes[..1], &[]), &pod("web-1", &near), &expect!["bind to a"]);
    let guarded = cluster(&nodes[..1], &[pod("guard", &on("a", &away))]);
    check(
        &guarded,
        &pod("web-1", &json!({})),
        &expect![
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ],
    );
    let spread = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    check(&one, &pod("web-2", &spread), &expect!["bind to b"]);
}

#[test]
fn the_least_important_pods_make_room() {
    let priority = |value: i32, extra: &Value| {
        let mut priority = json!({"spec": {"priority": value}});
        merge(&mut priority, extra);
        priority
    };
    let pods = [
        pod("low-1", &on("a", &priority(1, &cpu("900m")))),
        pod("mid-1", &on("a", &priority(5, &cpu("900m")))),
        pod("mid-2", &on("b", &priority(5, &cpu("900m")))),
        pod("mid-3", &on("b", &priority(5, &cpu("900m")))),
    ];
    let mut cluster = cluster(&[node("a", &json!({})), node("b", &json!({}))], &pods);
    let high = pod("high", &priority(10, &cpu("1")));
    check(&cluster, &high, &expect!["0/2 nodes are available: 2 Insufficient cpu. [end low-1 on a]"]);
    let never = pod(
        "high",
        &priority(
            10,
            &json!({"spec": {"preemptionPolicy": "Never", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}),
        ),
    );
    check(
        &cluster,
        &never,
        &expect![
            "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
        ],
    );
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default", "uid": "b"},
        "spec": {"selector": {"matchLabels": {"app": "low"}}}, "status": {"disruptionsAllowed": 0}});
    let budget = Arc::new(PodDisruptionBudget::from_value(&budget).expect("budget"));
    cluster.budgets.insert(coracle_api_meta::ObjectKey::new("default", "b"), budget);
    check(&cluster, &high, &expect!["0/2 nodes are available: 2 Insufficient cpu. [end mid-1 on a]"]);
}

#[test]
fn the_emptier_node_is_preferred_and_ties_follow_the_seed() {
    let nodes = [node("a", &json!({})), node("b", &json!({}))];
    check(&cluster(&nodes, &[pod("x", &on("a", &cpu("1")))]), &pod("p", &json!({})), &expect!["bind to b"]);
    let empty = cluster(&nodes, &[]);
    let place = |seed| match schedule(&empty, &Arc::new(PodInfo::new(pod("p", &json!({})))), &mut Rng::new(seed)) {
        Decision::Bind { node, .. } => node,
        Decision::Reject(refusal) => refusal.message,
    };
    assert_eq!((0..50).map(place).collect::<Vec<_>>(), (0..50).map(place).collect::<Vec<_>>());
    assert!((0..50).map(place).any(|name| name == "a") && (0..50).map(place).any(|name| name == "b"));
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("time")
}

#[test]
fn the_queue_orders_by_priority_and_wakes_those_concerned() {
    let info = |name: &str, priority: i32| Arc::new(PodInfo::new(pod(name, &json!({"spec": {"priority": priority}}))));
    let mut queue = Queue::default();
    queue.set(info("low", 0), at(0));
    queue.set(info("high", 9), at(1));
    queue.set(Arc::new(PodInfo::new(pod("gated", &json!({"spec": {"schedulingGates": [{"name": "g"}]}})))), at(0));
    let pop = |queue: &mut Queue, now| queue.pop(now).map(|pod| pod.pod.name().to_owned());
    assert_eq!(pop(&mut queue, at(2)).as_deref(), Some("high"));
    queue.failed("high", ["NodeResourcesFit"].into(), at(2));
    assert_eq!(pop(&mut queue, at(2)).as_deref(), Some("low"));
    queue.failed("low", ["NodeAffinity"].into(), at(2));
    queue.happened(Happening::PodGone, at(10));
    assert_eq!(pop(&mut queue, at(10)).as_deref(), Some("high"));
    assert_eq!(pop(&mut queue, at(10)), None);
    queue.set(info("gated", 0), at(11));
    assert_eq!(pop(&mut queue, at(11)).as_deref(), Some("gated"));
    queue.failed("high", ["NodeResourcesFit"].into(), at(11));
    queue.happened(Happening::Node, at(11));
    assert_eq!(pop(&mut queue, at(11)).as_deref(), Some("low"));
    assert_eq!(pop(&mut queue, at(12)), None, "in its backoff");
    assert_eq!(queue.next_due(), Some(at(13)));
    assert_eq!(pop(&mut queue, at(13)).as_deref(), Some("high"));
}
