//! Bootstrap objects of priority and fairness. Source: `k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`.

use coracle_api_meta::Value;
use serde_json::json;

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Name, shares, lendable percent, queues (0: reject), hand size.
const LEVELS: [(&str, i64, i64, i64, i64); 7] = [
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
    ("catch-all", 5, 0, 0, 0),
];

fn level(name: &str, shares: i64, lendable: i64, queues: i64, hand: i64) -> Value {
    let response = if queues == 0 {
        json!({"type": "Reject"})
    } else {
        json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}})
    };
    json!({"apiVersion": API_VERSION, "kind": "PriorityLevelConfiguration", "metadata": metadata(name), "spec": {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response},
    }})
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
}

fn resources(verbs: &[&str], groups: &[&str], resources: &[&str], namespaces: &[&str]) -> Value {
    let mut rule =
        json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "clusterScope": namespaces == ["*"]});
    rule["namespaces"] = json!(namespaces);
    rule
}

fn schema(name: &str, level: &str, precedence: i64, by: &str, rules: Value) -> Value {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence});
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    spec["rules"] = rules;
    json!({"apiVersion": API_VERSION, "kind": "FlowSchema", "metadata": metadata(name), "spec": spec})
}

fn everything(subjects: &[Value]) -> Value {
    json!([{"subjects": subjects, "resourceRules": [resources(&["*"], &["*"], &["*"], &["*"])],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}])
}

pub(super) fn objects() -> Vec<Value> {
    let mut objects =
        vec![json!({"apiVersion": API_VERSION, "kind": "PriorityLevelConfiguration", "metadata": metadata("exempt"),
        "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}})];
    objects.extend(LEVELS.map(|(name, shares, lendable, queues, hand)| level(name, shares, lendable, queues, hand)));
    let all = [group("system:unauthenticated"), group("system:authenticated")];
    let controllers =
        [user("system:kube-controller-manager"), user("system:kube-scheduler"), account("kube-system", "*")];
    let leases = resources(&["get", "create", "update"], &["coordination.k8s.io"], &["leases"], &["kube-system"]);
    let probes = json!([{"subjects": all, "nonResourceRules": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}]);
    let node_rules = json!([{"subjects": [group("system:nodes")], "resourceRules": [
        resources(&["*"], &[""], &["nodes", "nodes/status"], &["*"]),
        resources(&["*"], &["coordination.k8s.io"], &["leases"], &["*"])]}]);
    objects.extend([
        schema("exempt", "exempt", 1, "", everything(&[group("system:masters")])),
        schema("probes", "exempt", 2, "", probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            json!([{"subjects": controllers, "resourceRules": [leases]}]),
        ),
        schema("system-node-high", "node-high", 400, "ByUser", node_rules),
        schema("system-nodes", "system", 500, "ByUser", everything(&[group("system:nodes")])),
        schema("kube-controller-manager", "workload-high", 800, "ByNamespace", everything(&controllers[..1])),
        schema("kube-scheduler", "workload-high", 800, "ByNamespace", everything(&controllers[1..2])),
        schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", everything(&controllers[2..])),
        schema("service-accounts", "workload-low", 9000, "ByUser", everything(&[group("system:serviceaccounts")])),
        schema("global-default", "global-default", 9900, "ByUser", everything(&all)),
        schema("catch-all", "catch-all", 10000, "ByUser", everything(&all)),
    ]);
    objects
}
