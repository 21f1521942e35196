//! Which hooks are asked, what they hear, and what they say.

use coracle_api_meta::{Gvk, Gvr, Value};
use expect_test::expect;
use serde_json::json;

use super::super::testing::{Cluster, Write};
use super::{Asked, Hook, denied, hooks, matches, read, review};

fn hook(rule: Value, more: Value) -> Value {
    let mut base =
        json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
    for (field, value) in rule.as_object().into_iter().flatten() {
        base[field] = value.clone();
    }
    let mut hook = json!({"name": "h", "rules": [base]});
    for (field, value) in more.as_object().into_iter().flatten() {
        hook[field] = value.clone();
    }
    hook
}

#[test]
fn rules_and_selectors() {
    let cluster = Cluster::with(&[("namespaces", json!({"metadata": {"name": "n", "labels": {"team": "a"}}}))]);
    let write = Write::create("", "configmaps");
    let object = json!({"metadata": {"name": "c", "labels": {"app": "x"}}});
    let v2 = [Gvr::new("", "v1", "configmaps"), Gvr::new("", "v2", "configmaps")];
    for (rule, more, wanted) in [
        (json!({}), json!({}), true),
        (json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}), json!({}), true),
        (json!({"operations": ["UPDATE"]}), json!({}), false),
        (json!({"apiGroups": ["apps"]}), json!({}), false),
        (json!({"resources": ["configmaps/status"]}), json!({}), false),
        (json!({"resources": ["*/*"]}), json!({}), true),
        (json!({"scope": "Cluster"}), json!({}), false),
        (json!({"scope": "Namespaced"}), json!({}), true),
        (json!({"apiVersions": ["v2"]}), json!({}), true),
        (json!({"apiVersions": ["v2"]}), json!({"matchPolicy": "Exact"}), false),
        (json!({}), json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), true),
        (json!({}), json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}), false),
        (json!({}), json!({"objectSelector": {"matchLabels": {"app": "x"}}}), true),
        (json!({}), json!({"objectSelector": {"matchLabels": {"app": "y"}}}), false),
        (json!({}), json!({"objectSelector": {"matchExpressions": [{"key": "z", "operator": "DoesNotExist"}]}}), true),
    ] {
        let hook = hook(rule, more);
        let found = matches(&Hook(&hook), &write.request(&object), &object, &v2, &cluster).expect("an answer");
        assert_eq!(found.is_some(), wanted, "{hook}");
    }
    let own = Write::create("admissionregistration.k8s.io", "validatingwebhookconfigurations");
    let all = hook(json!({"apiGroups": ["*"], "resources": ["*"]}), json!({}));
    assert_eq!(matches(&Hook(&all), &own.request(&object), &object, &[], &cluster).expect("an answer"), None);
}

#[test]
fn what_a_hook_hears() {
    let write = Write::create("", "configmaps");
    let object = json!({"metadata": {"name": "c"}});
    let (gvr, gvk) = (Gvr::new("", "v1", "configmaps"), Gvk::new("", "v1", "ConfigMap"));
    let asked = Asked {
        uid: "u",
        version: "v1",
        gvr: &gvr,
        gvk: &gvk,
        request_kind: &gvk,
        object: &object,
        old: &Value::Null,
        options: &json!({}),
        dry_run: false,
    };
    expect![[r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"ConfigMap"},"resource":{"group":"","version":"v1","resource":"configmaps"},"requestKind":{"group":"","version":"v1","kind":"ConfigMap"},"requestResource":{"group":"","version":"v1","resource":"configmaps"},"operation":"CREATE","userInfo":{"username":"ann","groups":["system:authenticated"]},"object":{"metadata":{"name":"c"}},"oldObject":null,"dryRun":false,"options":{},"name":"c","namespace":"n"}}"#]]
        .assert_eq(&review(&write.request(&object), &asked).to_string());
}

#[test]
fn answers_are_checked() {
    let of =
        |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let wrong = |review: Value, mutating| read(&review, "u", "v1", mutating).expect_err("wrong");
    assert_eq!(wrong(json!({}), false), "webhook response was absent");
    assert_eq!(wrong(of(json!({"uid": "x"})), false), "expected response.uid=\"u\", got \"x\"");
    assert_eq!(
        wrong(of(json!({"uid": "u", "patch": "W10="})), false),
        "validating webhook may not return response.patch"
    );
    assert_eq!(
        wrong(of(json!({"uid": "u", "patch": "W10="})), true),
        "webhook returned response.patch but not response.patchType"
    );
    let answer = read(&of(json!({"uid": "u", "allowed": true, "warnings": ["w"]})), "u", "v1", true).expect("read");
    assert!(answer.allowed && answer.warnings == ["w"] && answer.patch.is_none());
}

#[test]
fn refusals_are_worded_as_upstream() {
    let text = |status: Value| {
        let status = denied("h.example.com", &status);
        format!("{} {} {}", status.code, status.reason, status.message)
    };
    expect![[r#"400  admission webhook "h.example.com" denied the request: the pod contains unwanted label"#]]
        .assert_eq(&text(json!({"message": "the pod contains unwanted label"})));
    expect![[r#"403 Forbidden admission webhook "h.example.com" denied the request: Forbidden"#]]
        .assert_eq(&text(json!({"code": 403, "reason": "Forbidden"})));
    expect![[r#"400  admission webhook "h.example.com" denied the request without explanation"#]]
        .assert_eq(&text(Value::Null));
}

#[test]
fn defaults_of_hooks() {
    let configuration = json!({"webhooks": [{"name": "a", "admissionReviewVersions": ["v9", "v1beta1"]}, {"name": "b", "timeoutSeconds": 1}]});
    let shown: Vec<_> =
        hooks(&configuration).map(|hook| (hook.name(), hook.timeout_seconds(), hook.review_version())).collect();
    assert_eq!(shown, [("a", 10, Some("v1beta1")), ("b", 1, None)]);
}
