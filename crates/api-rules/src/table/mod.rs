//! Server-side tables: what `kubectl get` shows. Columns, cells and their wording are upstream's
//! (`pkg/printers/internalversion/printers.go`). Custom resources have their columns in their definitions; the ages of
//! those are made with [`duration::age`].

mod admission;
pub mod duration;
mod other;
mod pod;
mod rows;
mod storage;
mod workloads;

use coracle_api_meta::{Gvk, Value};
use jiff::Timestamp;

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer` or `boolean`.
    pub kind: &'static str,
    /// `name` for the column that names the object, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// The columns of a kind. Kinds without a printer have `Name` and `Age`.
#[must_use]
pub fn columns(gvk: &Gvk) -> &'static [Column] {
    rows::printer(gvk).0
}

/// The cells of an object, one for each column.
#[must_use]
pub fn row(gvk: &Gvk, object: &Value, now: Timestamp) -> Vec<Value> {
    rows::printer(gvk).1(object, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    /// A row as `kubectl get -o wide --no-headers` shows it.
    fn check(api_version: &str, kind: &str, mut object: Value, expected: Expect) {
        let group_version = coracle_api_meta::GroupVersion::parse(api_version).expect("an API version");
        let gvk = Gvk::new(group_version.group, group_version.version, kind);
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let cells = row(&gvk, &object, "2026-01-01T00:05:00Z".parse().expect("a time"));
        assert_eq!(cells.len(), columns(&gvk).len());
        let cells: Vec<String> =
            cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect();
        expected.assert_eq(&cells.join(" | "));
    }

    fn pod(spec: Value, status: Value, expected: Expect) {
        check("v1", "Pod", json!({"metadata": {"name": "web"}, "spec": spec, "status": status}), expected);
    }

    #[test]
    fn pods() {
        let one = json!({"containers": [{"name": "a"}], "nodeName": "n"});
        pod(
            one.clone(),
            json!({"phase": "Pending"}),
            expect!["web | 0/1 | Pending | 0 | 5m | <none> | n | <none> | <none>"],
        );
        let running = json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 3, "state": {"running": {}},
             "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:01:00Z"}}}]});
        pod(one.clone(), running, expect!["web | 1/1 | Running | 3 (4m ago) | 5m | 10.0.0.2 | n | <none> | <none>"]);
        let waiting = json!({"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        pod(one.clone(), waiting, expect!["web | 0/1 | CrashLoopBackOff | 1 | 5m | <none> | n | <none> | <none>"]);
        let done = json!({"phase": "Succeeded", "containerStatuses": [
            {"name": "a", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
        pod(one.clone(), done, expect!["web | 0/1 | Completed | 0 | 5m | <none> | n | <none> | <none>"]);
        let failed = json!({"phase": "Failed", "containerStatuses": [
            {"name": "a", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 2}}}]});
        pod(one.clone(), failed, expect!["web | 0/1 | ExitCode:2 | 0 | 5m | <none> | n | <none> | <none>"]);
        let initializing = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let status = json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "s", "state": {"waiting": {"reason": "PodInitializing"}}}]});
        pod(initializing, status, expect!["web | 0/2 | Init:1/2 | 0 | 5m | <none> | <none> | <none> | <none>"]);
        check(
            "v1",
            "Pod",
            json!({"metadata": {"name": "web", "deletionTimestamp": "2026-01-01T00:04:00Z"}, "spec": one,
            "status": {"phase": "Running"}}),
            expect!["web | 0/1 | Terminating | 0 | 5m | <none> | n | <none> | <none>"],
        );
        pod(
            json!({"containers": [], "readinessGates": [{"conditionType": "g"}], "schedulingGates": [{"name": "x"}]}),
            json!({"phase": "Pending", "conditions": [{"type": "g", "status": "True"},
                {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            expect!["web | 0/0 | SchedulingGated | 0 | 5m | <none> | <none> | <none> | 1/1"],
        );
    }

    #[test]
    fn workloads() {
        let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}});
        let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template});
        check(
            "apps/v1",
            "Deployment",
            json!({"metadata": {"name": "web"}, "spec": spec,
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}}),
            expect!["web | 2/3 | 3 | 2 | 5m | a,b | i:1,j | app=web"],
        );
        check(
            "apps/v1",
            "ReplicaSet",
            json!({"metadata": {"name": "web"}, "spec": spec, "status": {"replicas": 3}}),
            expect!["web | 3 | 3 | 0 | 5m | a,b | i:1,j | app=web"],
        );
        check(
            "batch/v1",
            "Job",
            json!({"metadata": {"name": "j"}, "spec": {"completions": 2}, "status": {"succeeded": 1,
            "startTime": "2026-01-01T00:01:00Z"}}),
            expect!["j | Running | 1/2 | 4m | 5m |  |  | <none>"],
        );
        check(
            "batch/v1",
            "CronJob",
            json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "suspend": false}}),
            expect!["c | * * * * * | <none> | False | 0 | <none> | 5m |  |  | <none>"],
        );
    }

    #[test]
    fn core_kinds() {
        check(
            "v1",
            "Service",
            json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIPs": ["10.96.0.1"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}}),
            expect!["s | NodePort | 10.96.0.1 | <none> | 80:30080/TCP,53/UDP | 5m | a=1,b=2"],
        );
        check(
            "v1",
            "Node",
            json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
            "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "Linux", "kernelVersion": "6.18", "architecture": "amd64", "containerRuntimeVersion": "coracle://0.1"}}}),
            expect![
                "n | Ready,SchedulingDisabled | control-plane | 5m | v1.36.2 | 1.2.3.4 | <none> | Linux | 6.18 (amd64) | coracle://0.1"
            ],
        );
        check(
            "v1",
            "Event",
            json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "message": "m\n", "count": 2,
            "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2026-01-01T00:01:00Z", "lastTimestamp": "2026-01-01T00:04:50Z"}),
            expect!["10s | Normal | Started | pod/p |  | kubelet, n | m | 4m | 2 | e"],
        );
        check(
            "v1",
            "Namespace",
            json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}}),
            expect!["d | Active | 5m"],
        );
        check(
            "v1",
            "Endpoints",
            json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}], "ports": [{"port": 80}, {"port": 81}]}]}),
            expect!["e | 1.1.1.1:80,[::1]:80,1.1.1.1:81 + 1 more... | 5m"],
        );
        check(
            "v1",
            "PersistentVolumeClaim",
            json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
            expect!["c | Bound | v | 1Gi | RWO,RWX |  | <unset> | 5m | Filesystem"],
        );
        check(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"metadata": {"name": "r"}}),
            expect!["r | 2026-01-01T00:00:00Z"],
        );
        check(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": null, "endpoints": null}),
            expect!["s | IPv4 | <unset> | <unset> | 5m"],
        );
        check(
            "apiregistration.k8s.io/v1",
            "APIService",
            json!({"metadata": {"name": "v1."}}),
            expect!["v1. | Local | Unknown | 5m"],
        );
    }
}
