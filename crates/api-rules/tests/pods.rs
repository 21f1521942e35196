//! Pods: what defaulting makes of them, and upstream's words for bad ones.

use coracle_api_meta::{FieldError, Gvk, Value};
use coracle_api_rules::{Strategy, strategy};
use expect_test::{Expect, expect};
use serde_json::json;

fn rules() -> &'static dyn Strategy {
    strategy(&Gvk::new("", "v1", "Pod"))
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "1"},
        "spec": {"containers": [{"name": "a", "image": "nginx"}]}})
}

fn created(mut pod: Value) -> Value {
    rules().default(&mut pod);
    rules().prepare_for_create(&mut pod);
    pod
}

fn text(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

/// Changes a good pod, and shows what is said about it.
fn bad(change: impl FnOnce(&mut Value), expected: Expect) {
    let mut pod = pod();
    change(&mut pod);
    expected.assert_eq(&text(&rules().validate_create(&created(pod))));
}

fn container(fields: Value, expected: Expect) {
    bad(
        |pod| {
            let container = pod["spec"]["containers"][0].as_object_mut().expect("a container");
            container.extend(fields.as_object().expect("fields").clone());
        },
        expected,
    );
}

fn spec(fields: Value, expected: Expect) {
    bad(
        |pod| pod["spec"].as_object_mut().expect("a spec").extend(fields.as_object().expect("fields").clone()),
        expected,
    );
}

#[test]
fn defaults() {
    let mut full = pod();
    full["spec"]["containers"][0] = json!({"name": "a", "image": "nginx:1", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}},
        "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {"httpGet": {"port": 80}}, "livenessProbe": {"grpc": {"port": 1}}});
    full["spec"]["volumes"] = json!([{"name": "e"}, {"name": "c", "configMap": {"name": "x"}},
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]);
    full["spec"]["serviceAccount"] = "sa".into();
    let made = created(full);
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": "1",
            "generation": 1
          },
          "spec": {
            "containers": [
              {
                "name": "a",
                "image": "nginx:1",
                "ports": [
                  {
                    "containerPort": 80,
                    "protocol": "TCP"
                  }
                ],
                "resources": {
                  "limits": {
                    "cpu": "1",
                    "memory": "1Gi"
                  },
                  "requests": {
                    "cpu": "1",
                    "memory": "1Gi"
                  }
                },
                "env": [
                  {
                    "name": "N",
                    "valueFrom": {
                      "fieldRef": {
                        "fieldPath": "metadata.name",
                        "apiVersion": "v1"
                      }
                    }
                  }
                ],
                "readinessProbe": {
                  "httpGet": {
                    "port": 80,
                    "path": "/",
                    "scheme": "HTTP"
                  },
                  "timeoutSeconds": 1,
                  "periodSeconds": 10,
                  "successThreshold": 1,
                  "failureThreshold": 3
                },
                "livenessProbe": {
                  "grpc": {
                    "port": 1,
                    "service": ""
                  },
                  "timeoutSeconds": 1,
                  "periodSeconds": 10,
                  "successThreshold": 1,
                  "failureThreshold": 3
                },
                "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              }
            ],
            "volumes": [
              {
                "name": "e",
                "emptyDir": {}
              },
              {
                "name": "c",
                "configMap": {
                  "name": "x",
                  "defaultMode": 420
                }
              },
              {
                "name": "p",
                "projected": {
                  "sources": [
                    {
                      "serviceAccountToken": {
                        "path": "token",
                        "expirationSeconds": 3600
                      }
                    }
                  ],
                  "defaultMode": 420
                }
              }
            ],
            "serviceAccount": "sa",
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "schedulerName": "default-scheduler",
            "serviceAccountName": "sa",
            "enableServiceLinks": true
          },
          "status": {
            "phase": "Pending",
            "qosClass": "Guaranteed"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&made).expect("json"));
    let mut again = made.clone();
    rules().default(&mut again);
    assert_eq!(again, made, "defaulting twice changes nothing");
    assert_eq!(text(&rules().validate_create(&made)), "");
}

#[test]
fn containers() {
    spec(
        json!({"containers": []}),
        expect![[r#"
        spec.containers: Required value
    "#]],
    );
    spec(
        json!({"containers": [{"name": "A_", "image": ""}, {"name": "b", "image": " x"}, {"name": "b", "image": "x"}]}),
        expect![[r#"
        spec.containers[0].name: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.containers[0].image: Required value
        spec.containers[2].name: Duplicate value: "b"
        spec.containers[1].image: Invalid value: " x": must not have leading or trailing whitespace
    "#]],
    );
    container(
        json!({"ports": [{"containerPort": 0, "name": "toolongforaportname"}, {"containerPort": 70000, "protocol": "X", "hostPort": 1}, {"containerPort": 1, "hostPort": 1, "protocol": "X"}]}),
        expect![[r#"
        spec.containers[0].ports[0].name: Invalid value: "toolongforaportname": must be no more than 15 characters
        spec.containers[0].ports[0].containerPort: Required value
        spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.containers[0].ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
        spec.containers[0].ports[2].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
        spec.containers[0].ports[2].hostPort: Duplicate value: "X//1"
    "#]],
    );
    container(
        json!({"env": [{"name": ""}, {"name": "a=b"}, {"name": "C", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}},
        {"name": "D", "valueFrom": {}}, {"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]}),
        expect![[r#"
        spec.containers[0].env[0].name: Required value
        spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
        spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
        spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
        spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
        spec.containers[0].env[4].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
    "#]],
    );
    container(
        json!({"resources": {"requests": {"cpu": "2", "nvidia.com/gpu": "1", "x": "1"}, "limits": {"cpu": "1", "memory": "-1"}}}),
        expect![[r#"
        spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0
        spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
        spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
        spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
        spec.containers[0].resources.requests[x]: Invalid value: "x": must be a standard resource type or fully qualified
        spec.containers[0].resources.requests[x]: Invalid value: "x": must be a standard resource for containers
    "#]],
    );
    container(
        json!({"livenessProbe": {"successThreshold": 2, "periodSeconds": -1}, "lifecycle": {"preStop": {"exec": {}, "sleep": {"seconds": 1}}, "postStart": {"sleep": {"seconds": 99}}}}),
        expect![[r#"
        spec.containers[0].lifecycle.postStart.sleep: Invalid value: 99: must be non-negative and less than terminationGracePeriodSeconds (30)
        spec.containers[0].lifecycle.preStop.exec.command: Required value
        spec.containers[0].lifecycle.preStop.sleep: Forbidden: may not specify more than 1 handler type
        spec.containers[0].livenessProbe: Required value: must specify a handler type
        spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
        spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
    "#]],
    );
    container(
        json!({"imagePullPolicy": "Sometimes", "terminationMessagePolicy": "X", "securityContext": {"runAsUser": -1, "allowPrivilegeEscalation": false, "privileged": true}}),
        expect![[r#"
        spec.containers[0].terminationMessagePolicy: Unsupported value: "X": supported values: "FallbackToLogsOnError", "File"
        spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"
        spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
        spec.containers[0].securityContext: Invalid value: {"runAsUser":-1,"allowPrivilegeEscalation":false,"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
    "#]],
    );
    spec(
        json!({"initContainers": [{"name": "a", "image": "x", "readinessProbe": {"exec": {"command": ["x"]}}}]}),
        expect![[r#"
        spec.initContainers[0].name: Duplicate value: "a"
        spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
    "#]],
    );
    spec(
        json!({"ephemeralContainers": [{"name": "e", "image": "x", "ports": [{"containerPort": 1}], "targetContainerName": "z"}]}),
        expect![[r#"
        spec.ephemeralContainers[0].targetContainerName: Not found: "z"
        spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container
        spec.ephemeralContainers: Forbidden: cannot be set on create
    "#]],
    );
}

#[test]
fn volumes() {
    bad(
        |pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/a/../b"}}, {"name": "w", "emptyDir": {}, "secret": {"secretName": "x"}},
                {"name": "k", "configMap": {"name": "c", "items": [{"key": "a", "path": "../x", "mode": 1000}]}}, {"name": "n", "nfs": {"server": "s", "path": "rel"}}]);
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": "v", "mountPath": "/v"}, {"name": "zz", "mountPath": "/v", "subPath": "/abs"}]);
        },
        expect![[r#"
            spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'
            spec.volumes[1].secret: Forbidden: may not specify more than 1 volume type
            spec.volumes[2].configMap.items[0].path: Invalid value: "../x": must not contain '..'
            spec.volumes[2].configMap.items[0].mode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[3].nfs.path: Invalid value: "rel": must be an absolute path
            spec.containers[0].volumeMounts[0].name: Not found: "v"
            spec.containers[0].volumeMounts[1].name: Not found: "zz"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/v": must be unique
            spec.containers[0].volumeMounts.subPath: Invalid value: "/abs": must be a relative path
        "#]],
    );
}

#[test]
fn places() {
    spec(
        json!({"restartPolicy": "Maybe", "dnsPolicy": "None", "nodeSelector": {"a": "-"}, "activeDeadlineSeconds": 0, "hostname": "A.b",
        "tolerations": [{"operator": "Equal", "value": "x"}, {"key": "k", "operator": "Exists", "value": "v", "tolerationSeconds": 1, "effect": "NoSchedule"}],
        "hostAliases": [{"ip": "x"}], "schedulingGates": [{"name": "g"}, {"name": "g"}], "nodeName": "n"}),
        expect![[r#"
        spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"
        spec.nodeSelector: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
        spec.schedulingGates[1]: Duplicate value: "g"
        spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
        spec.hostname: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
        spec.tolerations[1].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set
        spec.tolerations[1].operator: Invalid value: "v": value must be empty when `operator` is 'Exists'
        spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
    "#]],
    );
    spec(
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]}},
        "topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "X"}]}),
        expect![[r#"
        spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
        spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
        spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
        spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
        spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
        spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "X": supported values: "DoNotSchedule", "ScheduleAnyway"
    "#]],
    );
    spec(
        json!({"securityContext": {"sysctls": [{"name": "net.core.somaxconn"}, {"name": "A"}], "fsGroup": -1, "seccompProfile": {"type": "Localhost"}}, "hostNetwork": true}),
        expect![[r#"
        spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive
        spec.securityContext.sysctls[0].name: Invalid value: "net.core.somaxconn": may not be specified when 'hostNetwork' is true
        spec.securityContext.sysctls[1].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
        spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
    "#]],
    );
}

fn changed(change: impl FnOnce(&mut Value), expected: Expect) {
    let old = created(pod());
    let mut new = old.clone();
    change(&mut new);
    rules().prepare_for_update(&mut new, &old);
    expected.assert_eq(&text(&rules().validate_update(&new, &old)));
}

#[test]
fn updates() {
    changed(|pod| pod["spec"]["containers"][0]["image"] = "nginx:2".into(), expect![""]);
    changed(|pod| pod["metadata"]["labels"] = json!({"a": "b"}), expect![""]);
    changed(|pod| pod["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]), expect![""]);
    changed(
        |pod| pod["spec"]["hostname"] = "x".into(),
        expect![[r#"
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            @@ -11,6 +11,7 @@
              ],
              "dnsPolicy": "ClusterFirst",
              "enableServiceLinks": true,
            + "hostname": "x",
              "restartPolicy": "Always",
              "schedulerName": "default-scheduler",
              "securityContext": {},

        "#]],
    );
    changed(
        |pod| pod["spec"]["containers"] = json!([]),
        expect![[r#"
        spec.containers: Required value
        spec.containers: Forbidden: pod updates may not add or remove containers
    "#]],
    );
    let old = created(pod());
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "nginx:2".into();
    rules().prepare_for_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn statuses() {
    let mut old = created(pod());
    old["spec"]["restartPolicy"] = "Never".into();
    old["status"]["containerStatuses"] = json!([{"name": "a", "state": {"terminated": {"exitCode": 0}}}]);
    let mut new = old.clone();
    new["spec"]["nodeName"] = "elsewhere".into();
    new["metadata"]["labels"] = json!({"kept": "yes"});
    new["metadata"]["ownerReferences"] = json!([{"uid": "x"}]);
    new["status"] = json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": {"running": {}}}]});
    rules().prepare_for_status_update(&mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["metadata"]["labels"]["kept"], "yes");
    assert!(new["metadata"].get("ownerReferences").is_none());
    assert_eq!(new["status"]["qosClass"], "BestEffort");
    expect![[r#"
        status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
    "#]]
    .assert_eq(&text(&rules().validate_status_update(&new, &old)));
}

#[test]
fn resizes() {
    let mut old = pod();
    old["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    let old = created(old);
    let mut new = old.clone();
    new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
    new["spec"]["hostname"] = "ignored".into();
    rules().prepare_for_subresource_update("resize", &mut new, &old);
    assert_eq!(text(&rules().validate_subresource_update("resize", &new, &old)), "");
    assert_eq!(new["metadata"]["generation"], 2);
    assert!(new["spec"].get("hostname").is_none());
    new["spec"]["containers"][0]["resources"] = json!({});
    expect![[r#"
        spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing
        spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed
    "#]]
    .assert_eq(&text(&rules().validate_subresource_update("resize", &new, &old)));
}
