//! Against the tables of the built-in kinds: what upstream records when objects are created and changed.

use coracle_api_merge::{
    FieldFilter, FieldManager, FieldSet, OneShape, ScaleMapping, scale_to_parent, scale_to_subresource,
    strategic_merge_patch,
};
use coracle_api_meta::object::ObjectExt;
use coracle_api_schema::builtin;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn with<T>(object: &Value, subresource: &str, filter: &FieldFilter, work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
    let schemas = builtin();
    let gvk = object.gvk().expect("has a kind");
    let ty = schemas.kind(&gvk);
    assert!(ty.is_some(), "{gvk}");
    let versions = OneShape { schemas, ty };
    work(&FieldManager {
        schemas,
        ty,
        gvk: &gvk,
        subresource,
        filter,
        versions: &versions,
        time: "2026-01-01T00:00:00Z",
    })
}

fn created(object: &Value, manager: &str) -> Value {
    let mut new = object.clone();
    let filter = FieldFilter::Except(FieldSet::of_fields(&[&["status"]]));
    with(object, "", &filter, |fields| fields.update(None, &mut new, manager));
    new["metadata"]["uid"] = json!("u");
    new
}

fn check_created(object: Value, expected: Expect) {
    let created = created(&object, "m");
    let entry = &created["metadata"]["managedFields"][0]["fieldsV1"];
    expected.assert_eq(&serde_json::to_string_pretty(entry).expect("string keys").replace("  ", " "));
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{
                        "image": "nginx", "imagePullPolicy": "Always", "name": "nginx", "resources": {},
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    }],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                    "securityContext": {}, "terminationGracePeriodSeconds": 30,
                },
            },
        },
        "status": {},
    })
}

#[test]
fn a_created_deployment() {
    check_created(
        deployment(),
        expect![[r#"
        {
         "f:metadata": {
          "f:labels": {
           ".": {},
           "f:app": {}
          }
         },
         "f:spec": {
          "f:progressDeadlineSeconds": {},
          "f:replicas": {},
          "f:revisionHistoryLimit": {},
          "f:selector": {},
          "f:strategy": {
           "f:rollingUpdate": {
            ".": {},
            "f:maxSurge": {},
            "f:maxUnavailable": {}
           },
           "f:type": {}
          },
          "f:template": {
           "f:metadata": {
            "f:labels": {
             ".": {},
             "f:app": {}
            }
           },
           "f:spec": {
            "f:containers": {
             "k:{\"name\":\"nginx\"}": {
              ".": {},
              "f:image": {},
              "f:imagePullPolicy": {},
              "f:name": {},
              "f:ports": {
               ".": {},
               "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                ".": {},
                "f:containerPort": {},
                "f:protocol": {}
               }
              },
              "f:resources": {},
              "f:terminationMessagePath": {},
              "f:terminationMessagePolicy": {}
             }
            },
            "f:dnsPolicy": {},
            "f:restartPolicy": {},
            "f:schedulerName": {},
            "f:securityContext": {},
            "f:terminationGracePeriodSeconds": {}
           }
          }
         }
        }"#]],
    );
}

#[test]
fn a_created_service() {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
            "selector": {"app": "web"}, "sessionAffinity": "None", "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    });
    check_created(
        service,
        expect![[r#"
        {
         "f:spec": {
          "f:clusterIP": {},
          "f:clusterIPs": {},
          "f:internalTrafficPolicy": {},
          "f:ipFamilies": {},
          "f:ipFamilyPolicy": {},
          "f:ports": {
           ".": {},
           "k:{\"port\":80,\"protocol\":\"TCP\"}": {
            ".": {},
            "f:port": {},
            "f:protocol": {},
            "f:targetPort": {}
           }
          },
          "f:selector": {},
          "f:sessionAffinity": {},
          "f:type": {}
         }
        }"#]],
    );
}

#[test]
fn a_created_config_map_and_role() {
    check_created(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}}),
        expect![[r#"
        {
         "f:data": {
          ".": {},
          "f:k": {}
         }
        }"#]],
    );
    check_created(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": []}),
        expect![[r#"
            {
             "f:rules": {}
            }"#]],
    );
}

#[test]
fn a_pod_whose_status_is_patched() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {}}], "securityContext": {}},
        "status": {},
    });
    let live = created(&pod, "kubectl-run");
    let patch = json!({"status": {
        "$setElementOrder/conditions": [{"type": "Ready"}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "containerStatuses": [{"name": "c", "ready": true}], "phase": "Running", "podIP": "10.0.0.2",
        "podIPs": [{"ip": "10.0.0.2"}], "startTime": "2026-01-01T00:00:00Z",
    }});
    let ty = builtin().kind(&live.gvk().expect("a kind")).expect("a built-in kind");
    let mut new = strategic_merge_patch(builtin(), ty, live.clone(), &patch).expect("fits");
    let filter = FieldFilter::Except(FieldSet::of_fields(&[&["spec"], &["metadata", "deletionTimestamp"]]));
    with(&pod, "status", &filter, |fields| fields.update(Some(&live), &mut new, "kubelet"));
    expect![[r#"{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Ready\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:phase":{},"f:podIP":{},"f:podIPs":{".":{},"k:{\"ip\":\"10.0.0.2\"}":{".":{},"f:ip":{}}},"f:startTime":{}}},"subresource":"status"}"#]].assert_eq(&new["metadata"]["managedFields"][1].to_string());
}

#[test]
fn a_custom_resource_without_a_schema_has_typed_metadata() {
    let gvk = coracle_api_meta::Gvk::new("example.com", "v1", "Thing");
    let versions = OneShape { schemas: builtin(), ty: None };
    let filter = FieldFilter::All;
    let time = "2026-01-01T00:00:00Z";
    let fields = FieldManager {
        schemas: builtin(),
        ty: None,
        gvk: &gvk,
        subresource: "",
        filter: &filter,
        versions: &versions,
        time,
    };
    let thing = |finalizer: &str| {
        json!({"apiVersion": "example.com/v1", "kind": "Thing",
        "metadata": {"name": "t", "finalizers": [finalizer], "ownerReferences": [{"uid": finalizer, "name": "o"}]}})
    };
    let live = fields.apply(None, &thing("a"), "a", false).expect("creates");
    let both = fields.apply(Some(&live), &thing("b"), "b", false).expect("disjoint");
    expect![[r#"["a","b"]"#]].assert_eq(&both["metadata"]["finalizers"].to_string());
    expect![[r#"{"f:metadata":{"f:finalizers":{"v:\"b\"":{}},"f:ownerReferences":{"k:{\"uid\":\"b\"}":{}}}}"#]]
        .assert_eq(&both["metadata"]["managedFields"][1]["fieldsV1"].to_string());
}

#[test]
fn scaling_moves_the_replicas() {
    let mapping = [ScaleMapping { api_version: "apps/v1", path: &["spec", "replicas"] }];
    let created = created(&deployment(), "kubectl-create");
    let parent = created.at(&["metadata", "managedFields"]);
    let shown = scale_to_subresource(parent, &mapping).expect("well formed").expect("an owner");
    expect![[r#"[{"manager":"kubectl-create","operation":"Update","apiVersion":"autoscaling/v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}}}]"#]]
        .assert_eq(&shown.to_string());
    let same = scale_to_parent(parent, Some(&shown), "apps/v1", &mapping).expect("well formed");
    assert_eq!(same.as_ref(), parent);
    let scale = |replicas: u8, entries: &Value| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "web", "uid": "u", "managedFields": entries}, "spec": {"replicas": replicas}})
    };
    let (before, mut after) = (scale(1, &shown), scale(3, &shown));
    with(&before, "scale", &FieldFilter::All, |fields| fields.update(Some(&before), &mut after, "autoscaler"));
    let moved = scale_to_parent(parent, after.at(&["metadata", "managedFields"]), "apps/v1", &mapping);
    let moved = moved.expect("well formed").expect("entries");
    expect![[r#"{"manager":"autoscaler","operation":"Update","apiVersion":"apps/v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}},"subresource":"scale"}"#]]
        .assert_eq(&moved[0].to_string());
    assert!(moved[1]["fieldsV1"]["f:spec"].get("f:replicas").is_none());
}
