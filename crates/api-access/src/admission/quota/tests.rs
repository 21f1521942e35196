//! What writes use, and when that is too much.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use expect_test::{Expect, expect};
use serde_json::json;

use super::super::testing::Write;
use super::{check, counted, evaluator, status};

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

/// What becomes of the quotas, or why the write is refused.
fn ask(write: &Write, object: &Value, quotas: &[Value], wanted: Expect) {
    let text = match check(&write.request(object), object, quotas) {
        Ok(changed) => {
            let used = |quota: &Value| quota.at(&["status", "used"]).map(Value::to_string).unwrap_or_default();
            changed.iter().map(used).collect::<Vec<_>>().join(" ")
        }
        Err(status) => format!("{} {}", status.code, status.message),
    };
    wanted.assert_eq(&text);
}

fn pod(resources: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

#[test]
fn pods_are_counted_and_refused() {
    let create = Write::create("", "pods");
    let free = json!({"pods": "2", "requests.cpu": "1"});
    let ask_with = |used: Value, object: &Value, wanted| ask(&create, object, &[quota(free.clone(), used)], wanted);
    let small = pod(json!({"requests": {"cpu": "500m"}}));
    ask_with(json!({"pods": "1", "requests.cpu": "0"}), &small, expect![[r#"{"pods":"2","requests.cpu":"500m"}"#]]);
    ask_with(
        json!({"pods": "2", "requests.cpu": "700m"}),
        &small,
        expect![[
            r#"403 pods "p" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=700m, limited: pods=2,requests.cpu=1"#
        ]],
    );
    ask_with(
        json!({"pods": "1", "requests.cpu": "0"}),
        &pod(json!({})),
        expect![[r#"403 pods "p" is forbidden: failed quota: q: must specify requests.cpu for: c"#]],
    );
    ask_with(
        json!({"pods": "1"}),
        &small,
        expect![[r#"403 pods "p" is forbidden: status unknown for quota: q, resources: pods,requests.cpu"#]],
    );
}

#[test]
fn extended_and_ephemeral_resources() {
    let hard = json!({"requests.example.com/dongle": "3", "ephemeral-storage": "50Gi", "count/pods": "5"});
    let used = json!({"requests.example.com/dongle": "2", "ephemeral-storage": "0", "count/pods": "0"});
    let of = |count: &str| {
        let list = json!({"example.com/dongle": count, "ephemeral-storage": "30Gi"});
        pod(json!({"requests": list, "limits": list}))
    };
    let create = Write::create("", "pods");
    ask(
        &create,
        &of("1"),
        &[quota(hard.clone(), used.clone())],
        expect![[r#"{"count/pods":"1","ephemeral-storage":"30Gi","requests.example.com/dongle":"3"}"#]],
    );
    ask(
        &create,
        &of("2"),
        &[quota(hard, used)],
        expect![[
            r#"403 pods "p" is forbidden: exceeded quota: q, requested: requests.example.com/dongle=2, used: requests.example.com/dongle=2, limited: requests.example.com/dongle=3"#
        ]],
    );
}

#[test]
fn services_change_what_they_use() {
    let service = |kind: &str| json!({"metadata": {"name": "s", "namespace": "n", "resourceVersion": "1"}, "spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}]}});
    let hard = json!({"services": "10", "services.nodeports": "2", "services.loadbalancers": "0"});
    let used = |ports: &str| json!({"services": "1", "services.nodeports": ports, "services.loadbalancers": "0"});
    let create = Write::create("", "services");
    ask(
        &create,
        &service("NodePort"),
        &[quota(hard.clone(), used("0"))],
        expect![[r#"{"services":"2","services.loadbalancers":"0","services.nodeports":"2"}"#]],
    );
    ask(
        &create,
        &service("LoadBalancer"),
        &[quota(hard.clone(), used("1"))],
        expect![[
            r#"403 services "s" is forbidden: exceeded quota: q, requested: services.loadbalancers=1,services.nodeports=2, used: services.loadbalancers=0,services.nodeports=1, limited: services.loadbalancers=0,services.nodeports=2"#
        ]],
    );
    let update = Write::update("", "services", service("ClusterIP"));
    ask(
        &update,
        &service("NodePort"),
        &[quota(hard.clone(), used("0"))],
        expect![[r#"{"services":"1","services.loadbalancers":"0","services.nodeports":"2"}"#]],
    );
    ask(&update, &service("ClusterIP"), &[quota(hard, used("0"))], expect![""]);
}

#[test]
fn claims_by_storage_class() {
    let claim = json!({"metadata": {"name": "v", "namespace": "n"}, "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "5Gi"}}}});
    let hard = json!({"requests.storage": "10Gi", "gold.storageclass.storage.k8s.io/requests.storage": "4Gi",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1"});
    let used = json!({"requests.storage": "0", "gold.storageclass.storage.k8s.io/requests.storage": "0",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "0"});
    ask(
        &Write::create("", "persistentvolumeclaims"),
        &claim,
        &[quota(hard, used)],
        expect![[
            r#"403 persistentvolumeclaims "v" is forbidden: exceeded quota: q, requested: gold.storageclass.storage.k8s.io/requests.storage=5Gi, used: gold.storageclass.storage.k8s.io/requests.storage=0, limited: gold.storageclass.storage.k8s.io/requests.storage=4Gi"#
        ]],
    );
}

#[test]
fn objects_are_counted_by_name() {
    let full = |name: &str| quota(json!({name: "1"}), json!({name: "1"}));
    let object = json!({"metadata": {"name": "o", "namespace": "n"}});
    ask(
        &Write::create("apps", "deployments"),
        &object,
        &[full("count/deployments.apps")],
        expect![[
            r#"403 deployments.apps "o" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1"#
        ]],
    );
    ask(
        &Write::create("", "configmaps"),
        &object,
        &[full("configmaps")],
        expect![[
            r#"403 configmaps "o" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1"#
        ]],
    );
    ask(&Write::create("", "events"), &object, &[full("count/events")], expect![""]);
    ask(&Write::update("", "configmaps", object.clone()), &object, &[full("configmaps")], expect![""]);
}

#[test]
fn scopes_choose_pods() {
    let scoped = |scope: &str| {
        let mut quota = quota(json!({"pods": "5"}), json!({"pods": "0"}));
        quota["spec"]["scopes"] = json!([scope]);
        quota
    };
    let of_class = |operator: &str| {
        let mut quota = quota(json!({"pods": "5"}), json!({"pods": "0"}));
        quota["spec"]["scopeSelector"] =
            json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]});
        quota
    };
    let mut ending = pod(json!({"requests": {"cpu": "1"}}));
    ending["spec"]["activeDeadlineSeconds"] = 5.into();
    ending["spec"]["priorityClassName"] = "high".into();
    let effort = pod(json!({}));
    for (quota, pod, matches) in [
        (scoped("Terminating"), &ending, true),
        (scoped("NotTerminating"), &ending, false),
        (scoped("BestEffort"), &effort, true),
        (scoped("NotBestEffort"), &effort, false),
        (scoped("NotBestEffort"), &ending, true),
        (scoped("CrossNamespacePodAffinity"), &ending, false),
        (of_class("In"), &ending, true),
        (of_class("NotIn"), &ending, false),
        (of_class("NotIn"), &effort, true),
        (of_class("In"), &effort, false),
        (of_class("Exists"), &effort, false),
        (of_class("DoesNotExist"), &effort, true),
    ] {
        let wanted = if matches { r#"{"pods":"1"}"# } else { "" };
        let changed =
            check(&Write::create("", "pods").request(pod), pod, std::slice::from_ref(&quota)).expect("admitted");
        let used = changed.first().map_or(String::new(), |quota| quota["status"]["used"].to_string());
        assert_eq!(used, wanted, "{} {}", quota["spec"], pod["spec"]);
    }
}

#[test]
fn the_status_of_a_quota() {
    let quota = quota(json!({"pods": "5", "cpu": "1", "services": "2", "secrets": "9"}), Value::Null);
    let ended = json!({"spec": {"containers": []}, "status": {"phase": "Succeeded"}});
    let running = pod(json!({"requests": {"cpu": "250m"}}));
    let secret = json!({});
    let objects = [("", "pods", &ended), ("", "pods", &running), ("", "pods", &running), ("", "secrets", &secret)];
    expect![[r#"{"hard":{"cpu":"1","pods":"5","secrets":"9","services":"2"},"used":{"cpu":"500m","pods":"2","secrets":"1","services":"0"}}"#]]
        .assert_eq(&status(&quota, objects).to_string());
    let all = [("", "pods"), ("", "configmaps"), ("", "secrets"), ("apps", "deployments"), ("", "services")];
    assert_eq!(counted(&quota, all), [("", "pods"), ("", "secrets"), ("", "services")]);
}

#[test]
fn device_claims_count_devices() {
    let claim = json!({"spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "count": 2}},
        {"name": "b", "firstAvailable": [{"deviceClassName": "gpu", "count": 3}, {"deviceClassName": "tpu"}]}]}}});
    expect!["count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=5,tpu.deviceclass.resource.k8s.io/devices=1"]
        .assert_eq(&evaluator("resource.k8s.io", "resourceclaims").usage(&claim).shown());
}
