//! Nodes that fall silent, taints that follow from conditions, and pods that must leave tainted nodes.
//! Source: `pkg/controller/{nodelifecycle,tainteviction}`.

use std::time::Duration;

use coracle_api_types::Object;
use coracle_plan_core::node::tolerates_one;
use coracle_plan_core::time::{from_seconds, left, seconds};
use coracle_plan_core::{Action, EventKind, Plan, pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint, Toleration};
use serde_json::json;

/// A node that says nothing for so long is not known to be ready.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// The same for a node that has not said anything yet.
const START_MAX: Duration = Duration::from_secs(60);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions of the kubelet, the status that is bad, and its taint.
const CONDITIONS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that a silent node's kubelet would have posted.
const POSTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What is known about one node.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub node: &'a Node,
    /// When its lease or its heartbeat was last seen to change.
    pub heard: Timestamp,
    /// Pods on the node.
    pub pods: &'a [std::sync::Arc<Pod>],
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn status<'a>(node: &'a Node, kind: &str) -> &'a str {
    condition(node, kind).map_or("", |condition| &condition.status)
}

#[must_use]
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if view.node.is_deleting() {
        return plan;
    }
    let max = if condition(view.node, "Ready").is_some() { SILENCE_MAX } else { START_MAX };
    match left(view.heard, max, now) {
        Some(left) => plan.requeue(left + Duration::from_millis(10)),
        None if status(view.node, "Ready") != "Unknown" => {
            mark_silent(view, now, &mut plan);
            return plan;
        }
        None => {}
    }
    sync_taints(view.node, now, &mut plan);
    if matches!(status(view.node, "Ready"), "False" | "Unknown") {
        mark_pods(view, now, &mut plan);
    }
    plan
}

fn mark_silent(view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    let mut node = view.node.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in POSTED {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("Kubelet stopped posting node status.".to_owned());
                known.last_transition_time = Some(seconds(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(seconds(now)),
            }),
        }
    }
    plan.because("mark the node unknown", format!("nothing was heard of it since {}", view.heard));
    plan.push(Action::update_status(&node));
    if status(view.node, "Ready") == "True" {
        plan.push(not_ready_event(view.node));
    }
}

fn not_ready_event(node: &Node) -> Action {
    let message = format!("Node {} status is now: NodeNotReady", node.name());
    Action::event(node, EventKind::Normal, "NodeNotReady", message)
}

/// The taints that the node's conditions ask for.
fn wanted_taints(node: &Node) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    match status(node, "Ready") {
        "False" => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        "Unknown" => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        "" => wanted.push((NOT_READY, "NoSchedule")),
        _ => {}
    }
    for (kind, bad, key) in CONDITIONS {
        if status(node, kind) == bad {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = CONDITIONS.iter().any(|(_, _, key)| *key == taint.key) || taint.key == UNSCHEDULABLE;
    let by_readiness = taint.key == NOT_READY || taint.key == UNREACHABLE;
    match taint.effect.as_str() {
        "NoSchedule" => by_condition || by_readiness,
        "NoExecute" => by_readiness,
        _ => false,
    }
}

fn sync_taints(node: &Node, now: Timestamp, plan: &mut Plan) {
    let before = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let wanted = wanted_taints(node);
    let mut taints: Vec<Taint> = before
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(seconds(now)),
                value: None,
            });
        }
    }
    if taints == before {
        return;
    }
    let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
    let patch = json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints}});
    plan.because("change taints", "conditions of the node changed");
    plan.push(Action::merge(node, "", patch));
}

/// Pods that became ready before their node ceased to be are not ready either. What a kubelet says later stands.
fn mark_pods(view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    let ceased = condition(view.node, "Ready").and_then(|own| own.last_transition_time.as_ref().map(|time| time.0));
    let earlier = |pod: &Pod| pod::ready_since(pod) <= ceased;
    let ready = view.pods.iter().filter(|pod| pod::is_ready(pod) && !pod::is_finished(pod));
    for pod in ready.filter(|pod| earlier(pod)) {
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
            "type": "Ready",
            "status": "False",
            "observedGeneration": pod.metadata.generation,
            "lastTransitionTime": seconds(now),
        }]}});
        plan.push(Action::strategic(&**pod, "status", patch));
        plan.push(Action::event(&**pod, EventKind::Warning, "NodeNotReady", "Node is not ready"));
    }
}

/// What `NoExecute` taints mean for a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    Forever,
    /// From the moment at which the taints were seen.
    For(Duration),
}

/// How long the pod may stay on the node.
#[must_use]
pub fn stay(pod: &Pod, node: &Node) -> Stay {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut stay = Stay::Forever;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let used: Vec<&Toleration> = tolerations.iter().filter(|own| tolerates_one(own, taint)).collect();
        if used.is_empty() {
            return Stay::For(Duration::ZERO);
        }
        for seconds in used.iter().filter_map(|own| own.toleration_seconds) {
            let span = from_seconds(seconds);
            stay = match stay {
                Stay::For(before) => Stay::For(before.min(span)),
                Stay::Forever => Stay::For(span),
            };
        }
    }
    stay
}

/// The plan for a pod on a node with `NoExecute` taints that were first seen at `since`.
#[must_use]
pub fn plan_eviction(pod: &Pod, node: &Node, since: Timestamp, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if pod.is_deleting() {
        return plan;
    }
    let Stay::For(span) = stay(pod, node) else { return plan };
    if let Some(left) = left(since, span, now) {
        plan.requeue(left);
        return plan;
    }
    let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
    plan.because("delete the pod", "its node has a taint that it does not tolerate any longer");
    plan.push(Action::event(pod, EventKind::Normal, "TaintManagerEviction", message));
    plan.push(Action::strategic(
        pod,
        "status",
        json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "observedGeneration": pod.metadata.generation,
            "lastTransitionTime": seconds(now),
        }]}}),
    ));
    plan.push(Action::delete(pod));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn node(status: &str, taints: &Value) -> Node {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "resourceVersion": "7"},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        Node::from_value(&node).expect("node")
    }

    fn at(second: i64) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        start + from_seconds(second)
    }

    fn check(node: &Node, heard: i64, now: i64, expected: &expect_test::Expect) {
        expected.assert_eq(&plan(&View { node, heard: at(heard), pods: &[] }, at(now)).to_string());
    }

    #[test]
    fn silence_makes_a_node_unknown_and_conditions_make_taints() {
        check(
            &node("True", &json!([])),
            0,
            30,
            &expect_test::expect![[r"
            again after 10.01s
        "]],
        );
        let text = plan(&View { node: &node("True", &json!([])), heard: at(0), pods: &[] }, at(41)).to_string();
        assert!(text.contains("Kubelet stopped posting node status.") && text.contains("NodeNotReady"), "{text}");
        check(
            &node("Unknown", &json!([])),
            0,
            41,
            &expect_test::expect![[r#"
            patch nodes n  {"metadata":{"resourceVersion":"7"},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T00:00:41Z"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T00:00:41Z"}]}}
            because change taints: conditions of the node changed
        "#]],
        );
        let tainted =
            node("True", &json!([{"key": "mine", "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]));
        check(
            &tainted,
            0,
            1,
            &expect_test::expect![[r#"
            patch nodes n  {"metadata":{"resourceVersion":"7"},"spec":{"taints":[{"effect":"NoSchedule","key":"mine"}]}}
            again after 39.01s
            because change taints: conditions of the node changed
        "#]],
        );
    }

    #[test]
    fn tolerations_say_how_long_a_pod_may_stay() {
        let node = node("True", &json!([{"key": "k", "effect": "NoExecute"}, {"key": "l", "effect": "NoExecute"}]));
        let pod = |tolerations: Value| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"},
                "spec": {"containers": [], "tolerations": tolerations}});
            Pod::from_value(&pod).expect("pod")
        };
        let all = json!({"operator": "Exists"});
        assert_eq!(stay(&pod(json!([])), &node), Stay::For(Duration::ZERO));
        assert_eq!(stay(&pod(json!([all])), &node), Stay::Forever);
        let limited = json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 9}, all]);
        assert_eq!(stay(&pod(limited.clone()), &node), Stay::For(Duration::from_secs(9)));
        let pod = pod(limited);
        assert_eq!(plan_eviction(&pod, &node, at(0), at(4)).requeue_after, Some(Duration::from_secs(5)));
        let plan = plan_eviction(&pod, &node, at(0), at(9)).to_string();
        assert!(
            plan.contains("TaintManagerEviction: Marking for deletion Pod d/p") && plan.contains("delete pods d/p"),
            "{plan}"
        );
    }
}
