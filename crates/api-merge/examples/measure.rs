//! CPU of patches and of keeping track of owners, on a pod as a cluster holds it.
//!
//! `cargo run --profile fast -p coracle-api-merge --example measure`

use std::hint::black_box;
use std::time::Instant;

use coracle_api_merge::{
    FieldFilter, FieldManager, FieldSet, OneShape, json_patch, merge_patch, strategic_merge_patch,
};
use coracle_api_meta::Gvk;
use coracle_api_schema::builtin;
use serde_json::{Value, json};

const RUNS: u32 = 2_000;

fn main() {
    let schemas = builtin();
    let gvk = Gvk::new("", "v1", "Pod");
    let ty = schemas.kind(&gvk);
    let versions = OneShape { schemas, ty };
    let filter = FieldFilter::Except(FieldSet::of_fields(&[&["status"]]));
    let status_filter = FieldFilter::Except(FieldSet::of_fields(&[&["spec"]]));
    let time = "2026-01-01T00:00:00Z";
    let manager = FieldManager { schemas, ty, gvk: &gvk, subresource: "", filter: &filter, versions: &versions, time };
    let status_manager = FieldManager { subresource: "status", filter: &status_filter, ..manager };

    let config = pod();
    let created = manager.apply(None, &config, "applier", false).expect("creates");
    let mut live = created.clone();
    live["status"] = status("True");
    status_manager.update(Some(&created), &mut live, "kubelet");
    let mut other = config.clone();
    other["spec"]["containers"][0]["image"] = json!("registry.example/app:2");
    other["metadata"]["labels"].as_object_mut().map(|labels| labels.shift_remove("tier"));

    println!("live pod: {} bytes", live.to_string().len());
    measure("clone", || drop(black_box(live.clone())));
    let json = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "x"}, {"op": "add", "path": "/metadata/labels/a", "value": "b"}]);
    measure("json patch", || drop(black_box(json_patch(live.clone(), &json))));
    let merge = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Failed"}});
    measure("merge patch", || drop(black_box(merge_patch(live.clone(), &merge))));
    let strategic = json!({"status": {"$setElementOrder/conditions": [{"type": "Ready"}, {"type": "Initialized"}],
        "conditions": [{"type": "Ready", "status": "False"}]}});
    let ty = ty.expect("a built-in kind");
    measure("strategic merge patch", || drop(black_box(strategic_merge_patch(schemas, ty, live.clone(), &strategic))));
    measure("apply, creating", || drop(black_box(manager.apply(None, &config, "applier", false))));
    measure("apply, changing nothing", || drop(black_box(manager.apply(Some(&live), &config, "applier", false))));
    measure("apply, changing and pruning", || drop(black_box(manager.apply(Some(&live), &other, "applier", false))));
    let changed = Value::Object({
        let mut object = live.clone();
        object["status"] = status("False");
        object.as_object().cloned().unwrap_or_default()
    });
    measure("update of status", || {
        let mut new = changed.clone();
        status_manager.update(Some(&live), &mut new, "kubelet");
        drop(black_box(new));
    });
}

fn measure(what: &str, mut work: impl FnMut()) {
    for _ in 0..RUNS / 10 {
        work();
    }
    let start = Instant::now();
    for _ in 0..RUNS {
        work();
    }
    println!("{what:30} {:8.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS));
}

fn pod() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example/app:1", "imagePullPolicy": "IfNotPresent",
            "command": ["/app"], "args": ["--verbose", "--port=8080"],
            "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}, {"containerPort": 9090, "name": "metrics", "protocol": "TCP"}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http", "scheme": "HTTP"}, "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
            "securityContext": {"runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "data", "mountPath": "/data"}]})
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-5d9c7", "namespace": "default",
            "labels": {"app": "web", "tier": "front", "pod-template-hash": "5d9c7"}, "annotations": {"a": "b", "c": "d"}},
        "spec": {
            "containers": [container("app"), container("sidecar")], "dnsPolicy": "ClusterFirst", "enableServiceLinks": true,
            "nodeName": "node-1", "preemptionPolicy": "PreemptLowerPriority", "priority": 0, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {"fsGroup": 1000}, "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 30,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "volumes": [{"name": "config", "configMap": {"name": "web", "defaultMode": 420}}, {"name": "data", "emptyDir": {}}],
        },
    })
}

fn status(ready: &str) -> Value {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({
        "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}], "qosClass": "Burstable",
        "startTime": "2026-01-01T00:00:00Z",
        "conditions": [condition("Initialized", "True"), condition("Ready", ready), condition("ContainersReady", ready), condition("PodScheduled", "True")],
        "containerStatuses": [{"name": "app", "image": "registry.example/app:1", "imageID": "sha256:1", "containerID": "x://1", "ready": true, "restartCount": 0, "started": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": {}}],
    })
}
