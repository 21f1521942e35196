//! What the plugins make of writes.

use coracle_api_meta::Value;
use expect_test::{Expect, expect};
use serde_json::json;

use super::Operation;
use super::testing::{Cluster, Write};

fn check(value: &Value, wanted: Expect) {
    wanted.assert_eq(&value.to_string());
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
}

#[test]
fn a_pod_gets_what_every_pod_gets() {
    let create = Write::create("", "pods");
    let object = pod(json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}));
    let (admitted, notes) = create.run(&Cluster::with(&[]), &object).expect("admitted");
    assert!(notes.warnings.is_empty());
    check(
        &admitted["spec"],
        expect![[
            r#"{"containers":[{"name":"a","volumeMounts":[{"name":"kube-api-access-abcde","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}],"initContainers":[{"name":"i","volumeMounts":[{"name":"kube-api-access-abcde","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}],"serviceAccountName":"default","serviceAccount":"default","volumes":[{"name":"kube-api-access-abcde","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}]}}],"priority":0,"preemptionPolicy":"PreemptLowerPriority","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]}"#
        ]],
    );
}

#[test]
fn namespaces_come_first() {
    let create = Write::create("", "configmaps");
    let object = json!({"metadata": {"name": "c"}});
    let refusal = |phase: Value| create.refusal(&Cluster::with(&[("namespaces", phase)]), &object);
    let ending = json!({"metadata": {"name": "n"}, "status": {"phase": "Terminating"}});
    assert_eq!(
        refusal(ending),
        r#"403 configmaps "c" is forbidden: unable to create new content in namespace n because it is being terminated"#
    );
    assert_eq!(create.refusal(&Cluster::default(), &object), r#"404 namespaces "n" not found"#);
    let delete = Write { operation: Operation::Delete, ..Write::create("", "namespaces") };
    let old = json!({"metadata": {"name": "kube-system"}});
    let delete = Write { old: Some(old), ..delete };
    assert_eq!(
        delete.refusal(&Cluster::default(), &Value::Null),
        r#"403 namespaces "kube-system" is forbidden: this namespace may not be deleted"#
    );
}

#[test]
fn accounts_decide_about_tokens() {
    let create = Write::create("", "pods");
    let refusal = create.refusal(&Cluster::with(&[]), &pod(json!({"serviceAccountName": "x", "containers": []})));
    assert_eq!(
        refusal,
        r#"403 pods "p" is forbidden: error looking up service account n/x: serviceaccount "x" not found"#
    );
    let account = json!({"metadata": {"name": "default", "namespace": "n"}, "automountServiceAccountToken": false,
        "imagePullSecrets": [{"name": "s"}]});
    let cluster = Cluster::with(&[("serviceaccounts", account)]);
    let (admitted, _) = create.run(&cluster, &pod(json!({"containers": [{"name": "a"}]}))).expect("admitted");
    check(&admitted["spec"]["imagePullSecrets"], expect![[r#"[{"name":"s"}]"#]]);
    check(&admitted["spec"]["volumes"], expect!["null"]);
    let own = json!({"automountServiceAccountToken": true, "containers": [{"name": "a"}]});
    let (admitted, _) = create.run(&cluster, &pod(own)).expect("admitted");
    assert_eq!(admitted["spec"]["volumes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn priorities() {
    let classes = [
        ("priorityclasses", json!({"metadata": {"name": "high"}, "value": 10, "preemptionPolicy": "Never"})),
        (
            "priorityclasses",
            json!({"metadata": {"name": "usual"}, "value": 5, "globalDefault": true, "preemptionPolicy": "PreemptLowerPriority"}),
        ),
    ];
    let cluster = Cluster::with(&classes);
    let create = Write::create("", "pods");
    let of = |spec: Value| {
        create.run(&cluster, &pod(spec)).map(|(pod, _)| {
            let spec = &pod["spec"];
            json!([spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"]])
        })
    };
    check(&of(json!({"containers": []})).expect("admitted"), expect![[r#"["usual",5,"PreemptLowerPriority"]"#]]);
    check(&of(json!({"priorityClassName": "high"})).expect("admitted"), expect![[r#"["high",10,"Never"]"#]]);
    assert_eq!(
        create.refusal(&cluster, &pod(json!({"priorityClassName": "none"}))),
        r#"403 pods "p" is forbidden: no PriorityClass with name none was found"#
    );
    assert_eq!(
        create.refusal(&cluster, &pod(json!({"priority": 7}))),
        r#"403 pods "p" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 5 from the given PriorityClass name"#
    );
    let class = Write::create("scheduling.k8s.io", "priorityclasses");
    assert_eq!(
        class.refusal(&cluster, &json!({"metadata": {"name": "other"}, "value": 1, "globalDefault": true})),
        r#"403 priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"#
    );
}

#[test]
fn limit_ranges_fill_and_bound() {
    let range = json!({"metadata": {"name": "l", "namespace": "n"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
            "min": {"cpu": "50m"}, "max": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "5"}},
        {"type": "Pod", "max": {"cpu": "800m"}}, {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]}});
    let cluster = Cluster::with(&[("limitranges", range)]);
    let create = Write::create("", "pods");
    let (admitted, _) = create.run(&cluster, &pod(json!({"containers": [{"name": "a"}]}))).expect("admitted");
    check(
        &admitted["spec"]["containers"][0]["resources"],
        expect![[r#"{"requests":{"cpu":"100m","memory":"200Mi"},"limits":{"cpu":"500m"}}"#]],
    );
    check(
        &admitted["metadata"]["annotations"],
        expect![[
            r#"{"kubernetes.io/limit-ranger":"LimitRanger plugin set: cpu, memory request for container a; cpu limit for container a"}"#
        ]],
    );
    let bounded = |requests: &str, limits: &str| {
        let resources = json!({"requests": {"cpu": requests}, "limits": {"cpu": limits}});
        create.refusal(&cluster, &pod(json!({"containers": [{"name": "a", "resources": resources}]})))
    };
    expect![[r#"403 pods "p" is forbidden: minimum cpu usage per Container is 50m, but request is 10m"#]]
        .assert_eq(&bounded("10m", "50m"));
    expect![[r#"403 pods "p" is forbidden: [maximum cpu usage per Container is 500m, but limit is 600m, cpu max limit to request ratio per Container is 5, but provided ratio is 6.000000]"#]]
        .assert_eq(&bounded("100m", "600m"));
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    expect![[r#"403 pods "p" is forbidden: maximum cpu usage per Pod is 800m, but limit is 1"#]]
        .assert_eq(&create.refusal(&cluster, &pod(two)));
    let claim = |size: &str| {
        let claim = json!({"metadata": {"name": "v"}, "spec": {"resources": {"requests": {"storage": size}}}});
        Write::create("", "persistentvolumeclaims").refusal(&cluster, &claim)
    };
    expect![[r#"403 persistentvolumeclaims "v" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"#]]
        .assert_eq(&claim("3Gi"));
    expect!["admitted"].assert_eq(&claim("1Gi"));
}

#[test]
fn runtime_classes() {
    let class = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"nodeSelector": {"kind": "vm"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    let cluster = Cluster::with(&[("runtimeclasses", class)]);
    let create = Write::create("", "pods");
    let (admitted, _) = create.run(&cluster, &pod(json!({"runtimeClassName": "vm"}))).expect("admitted");
    check(&admitted["spec"]["overhead"], expect![[r#"{"cpu":"10m"}"#]]);
    check(&admitted["spec"]["nodeSelector"], expect![[r#"{"kind":"vm"}"#]]);
    assert_eq!(admitted["spec"]["tolerations"].as_array().map(Vec::len), Some(3));
    for (spec, why) in [
        (json!({"runtimeClassName": "no"}), "pod rejected: RuntimeClass \"no\" not found"),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"kind": "x"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[kind] = vm; pod.spec.nodeSelector[kind] = x",
        ),
    ] {
        assert_eq!(create.refusal(&cluster, &pod(spec)), format!("403 pods \"p\" is forbidden: {why}"));
    }
}

#[test]
fn storage_and_ingress_classes() {
    let default = |key: &str, name: &str, created: &str| json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {key: "true"}}});
    let key = "storageclass.kubernetes.io/is-default-class";
    let ingress = "ingressclass.kubernetes.io/is-default-class";
    let cluster = Cluster::with(&[
        ("storageclasses", default(key, "old", "2020-01-01T00:00:00Z")),
        ("storageclasses", default(key, "new", "2021-01-01T00:00:00Z")),
        ("ingressclasses", default(ingress, "web", "2021-01-01T00:00:00Z")),
    ]);
    let (claim, _) = Write::create("", "persistentvolumeclaims")
        .run(&cluster, &json!({"metadata": {"name": "c"}, "spec": {}}))
        .expect("admitted");
    check(
        &claim,
        expect![[
            r#"{"metadata":{"name":"c","finalizers":["kubernetes.io/pvc-protection"]},"spec":{"storageClassName":"new"}}"#
        ]],
    );
    let (ingress, _) = Write::create("networking.k8s.io", "ingresses")
        .run(&cluster, &json!({"metadata": {"name": "i"}, "spec": {}}))
        .expect("admitted");
    check(&ingress["spec"], expect![[r#"{"ingressClassName":"web"}"#]]);
    let claim = |size: &str, phase: &str| {
        json!({"metadata": {"name": "c"}, "status": {"phase": phase},
            "spec": {"storageClassName": "new", "resources": {"requests": {"storage": size}}}})
    };
    let grow = |phase| {
        Write::update("", "persistentvolumeclaims", claim("1Gi", phase)).refusal(&cluster, &claim("2Gi", phase))
    };
    expect![[r#"403 persistentvolumeclaims "c" is forbidden: Only bound persistent volume claims can be expanded"#]]
        .assert_eq(&grow("Pending"));
    expect![[r#"403 persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#]]
        .assert_eq(&grow("Bound"));
}

#[test]
fn nodes_touch_what_is_theirs() {
    let node = |labels: Value| json!({"metadata": {"name": "a", "labels": labels}});
    let cluster = Cluster::with(&[("nodes", json!({"metadata": {"name": "a", "uid": "u"}}))]);
    let create = Write::create("", "nodes").by_node("a");
    let (admitted, _) = create.run(&cluster, &node(json!({"kubernetes.io/hostname": "a"}))).expect("admitted");
    check(&admitted["spec"], expect![[r#"{"taints":[{"key":"node.kubernetes.io/not-ready","effect":"NoSchedule"}]}"#]]);
    expect![[r#"403 nodes "a" is forbidden: node "a" is not allowed to set the following labels: node-role.kubernetes.io/x, x.node-restriction.kubernetes.io/y"#]]
        .assert_eq(&create.refusal(&cluster, &node(json!({"x.node-restriction.kubernetes.io/y": "1", "node-role.kubernetes.io/x": "", "own": "1"}))));
    let update = Write::update("", "nodes", node(json!({}))).by_node("b");
    expect![[r#"403 nodes "a" is forbidden: node "b" is not allowed to modify node "a""#]]
        .assert_eq(&update.refusal(&cluster, &node(json!({}))));
    let mirror = |owner: Value| {
        json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]},
            "spec": {"nodeName": "a", "containers": []}})
    };
    let create = Write::create("", "pods").by_node("a");
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u", "controller": true});
    expect!["admitted"].assert_eq(&create.refusal(&cluster, &mirror(owner)));
    expect![[r#"403 pods "p" is forbidden: node "a" can only create pods with an owner reference set to itself"#]]
        .assert_eq(&create.refusal(&cluster, &mirror(json!({}))));
    expect![[r#"403 pods "p" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "a" can only create mirror pods"#]]
        .assert_eq(&create.refusal(&cluster, &pod(json!({"containers": []}))));
    let other = pod(json!({"nodeName": "b"}));
    let status = Write::update("", "pods", other.clone()).by_node("a").on("status");
    expect![[
        r#"403 pods "p" is forbidden: node "a" can only update pod status for pods with spec.nodeName set to itself"#
    ]]
    .assert_eq(&status.refusal(&cluster, &other));
    let token = Write::create("", "serviceaccounts").by_node("a").on("token");
    expect![[r#"403 serviceaccounts "s" is forbidden: node requested token not bound to a pod"#]]
        .assert_eq(&token.refusal(&cluster, &json!({"metadata": {"name": "s"}, "spec": {}})));
}
