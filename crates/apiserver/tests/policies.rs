//! Admission policies and rules in CEL, through the server.

mod common;

use common::Cluster;
use coracle_client::{Client, Error};
use http::Method;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn post(client: &Client, path: &str, body: Value) -> Result<Value, (u16, String, String)> {
    match client.call(Method::POST, path, "application/json", body.to_string().into_bytes()).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
        Err(Error::Api(status)) => Err((status.code, status.reason.clone(), status.message.clone())),
        Err(other) => panic!("{other:?}"),
    }
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": {
        "replicas": replicas, "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } } } })
}

fn policy(kind: &str, spec: Value) -> Value {
    let mut policy = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "p" }, "spec": {
        "matchConstraints": { "resourceRules": [{ "operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["deployments"] }] } } });
    for (key, value) in spec.as_object().into_iter().flatten() {
        policy["spec"][key] = value.clone();
    }
    policy
}

fn binding(kind: &str, spec: Value) -> Value {
    json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "b" }, "spec": spec })
}

#[tokio::test]
async fn validating_policies_deny() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let made = policy(
        "ValidatingAdmissionPolicy",
        json!({ "validations": [
        { "expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas" },
        { "expression": "namespaceObject.metadata.name == 'default'" },
    ] }),
    );
    post(&admin, &format!("{ADMISSION}/validatingadmissionpolicies"), made).await.expect("policy");
    post(&admin, DEPLOYMENTS, deployment("unbound", 1)).await.expect("no binding yet");
    let bound =
        binding("ValidatingAdmissionPolicyBinding", json!({ "policyName": "p", "validationActions": ["Deny"] }));
    post(&admin, &format!("{ADMISSION}/validatingadmissionpolicybindings"), bound).await.expect("binding");
    let (code, reason, message) = post(&admin, DEPLOYMENTS, deployment("one", 1)).await.expect_err("denied");
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    let expected = "deployments.apps \"one\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: \
                    failed expression: object.spec.replicas > 1";
    assert_eq!(message, expected);
    post(&admin, DEPLOYMENTS, deployment("two", 2)).await.expect("allowed");
    let bad = policy("ValidatingAdmissionPolicy", json!({ "validations": [{ "expression": "[] bad" }] }));
    let (code, _, message) =
        post(&admin, &format!("{ADMISSION}/validatingadmissionpolicies"), bad).await.expect_err("bad");
    assert!(code == 422 && message.contains("compilation failed"), "{code} {message}");
}

#[tokio::test]
async fn mutating_policies_change_what_is_created() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let made = policy(
        "MutatingAdmissionPolicy",
        json!({ "reinvocationPolicy": "Never", "failurePolicy": "Fail", "mutations": [
        { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": "Object{spec: Object.spec{replicas: 1337}}" } },
        { "patchType": "ApplyConfiguration", "applyConfiguration":
            { "expression": "Object{metadata: Object.metadata{annotations: {'mutated-by': 'p'}}}" } },
    ] }),
    );
    post(&admin, &format!("{ADMISSION}/mutatingadmissionpolicies"), made).await.expect("policy");
    let bound = binding("MutatingAdmissionPolicyBinding", json!({ "policyName": "p" }));
    post(&admin, &format!("{ADMISSION}/mutatingadmissionpolicybindings"), bound).await.expect("binding");
    let object = post(&admin, DEPLOYMENTS, deployment("a", 1)).await.expect("created");
    assert_eq!(object["spec"]["replicas"], 1337);
    assert_eq!(object["metadata"]["annotations"]["mutated-by"], "p");
}

fn definition(rule: &str) -> Value {
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "tabs.example.com" }, "spec": { "group": "example.com", "scope": "Namespaced",
        "names": { "plural": "tabs", "kind": "Tab" }, "versions": [{ "name": "v1", "served": true, "storage": true,
        "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": { "type": "object",
            "x-kubernetes-validations": [{ "rule": rule }],
            "properties": { "x": { "type": "integer" }, "y": { "type": "integer", "default": 1 } } } } } } }] } })
}

#[tokio::test]
async fn custom_resources_obey_their_rules() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    for (rule, expected) in [("self.z == 100", "undefined field 'z'"), ("self = 42", "Syntax error")] {
        let (code, _, message) = post(&admin, CRDS, definition(rule)).await.expect_err("refused");
        assert!(code == 422 && message.contains(expected), "{code} {message}");
    }
    post(&admin, CRDS, definition("self.x + self.y > 0")).await.expect("definition");
    let tab = |name: &str, x: i64| json!({ "apiVersion": "example.com/v1", "kind": "Tab", "metadata": { "name": name }, "spec": { "x": x, "nope": 1 } });
    let path = "/apis/example.com/v1/namespaces/default/tabs";
    let made = post(&admin, path, tab("a", 0)).await.expect("created");
    assert_eq!(made["spec"], json!({ "x": 0, "y": 1 }));
    let (code, _, message) = post(&admin, path, tab("b", -1)).await.expect_err("refused");
    assert_eq!(code, 422);
    assert_eq!(message, "Tab.example.com \"b\" is invalid: spec: Invalid value: failed rule: self.x + self.y > 0");
}

/// Waits until `find` finds something.
async fn until<T>(what: &str, find: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn policies_are_checked_with_the_types_of_what_they_match() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    post(&admin, CRDS, definition("self.x + self.y > 0")).await.expect("definition");
    let rule = |group: &str, resource: &str| json!({ "operations": ["*"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource] });
    let mut made = policy(
        "ValidatingAdmissionPolicy",
        json!({ "validations": [{ "expression": "object.spec.replicas > 1" }, { "expression": "object.metadata.name != ''" }] }),
    );
    made["spec"]["matchConstraints"]["resourceRules"] =
        json!([rule("apps", "deployments"), rule("example.com", "tabs")]);
    let path = format!("{ADMISSION}/validatingadmissionpolicies");
    post(&admin, &path, made).await.expect("policy");
    let status = until("the policy is not checked", async || {
        let found = admin.get_json(&format!("{path}/p")).await.expect("policy");
        (found["status"]["observedGeneration"] == 1).then(|| found["status"].clone())
    })
    .await;
    let place = " | object.spec.replicas > 1\n | ...........^";
    let expected = format!(
        "example.com/v1, Kind=Tab: compilation failed: ERROR: <input>:1:12: undefined field 'replicas'\n{place}\n"
    );
    assert_eq!(
        status["typeChecking"]["expressionWarnings"],
        json!([{ "fieldRef": "spec.validations[0].expression", "warning": expected }])
    );
}

#[tokio::test]
async fn what_policies_say_is_noted_in_the_audit_log() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("audit.log");
    let audit = coracle_apiserver::AuditConfig::new(path.clone());
    let cluster = Cluster::start_with("127.0.0.1:0", |config| config.audit = Some(audit)).await;
    let admin = cluster.admin();
    let made = policy(
        "ValidatingAdmissionPolicy",
        json!({ "validations": [{ "expression": "object.spec.replicas > 1" }],
            "auditAnnotations": [{ "key": "replicas", "valueExpression": "'there are ' + string(object.spec.replicas)" }] }),
    );
    post(&admin, &format!("{ADMISSION}/validatingadmissionpolicies"), made).await.expect("policy");
    let bound =
        binding("ValidatingAdmissionPolicyBinding", json!({ "policyName": "p", "validationActions": ["Audit"] }));
    post(&admin, &format!("{ADMISSION}/validatingadmissionpolicybindings"), bound).await.expect("binding");
    post(&admin, DEPLOYMENTS, deployment("one", 1)).await.expect("noted, not denied");
    let annotations = until("the audit log says nothing", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .into_iter()
            .find(|event| event["annotations"]["p/replicas"].is_string())
            .map(|event| event["annotations"].clone())
    })
    .await;
    assert_eq!(annotations["p/replicas"], "there are 1");
    let failure = annotations["validation.policy.admission.k8s.io/validation_failure"].as_str().expect("a failure");
    let expected = json!([{ "message": "failed expression: object.spec.replicas > 1", "policy": "p", "binding": "b",
        "expressionIndex": 0, "validationActions": ["Audit"] }]);
    assert_eq!(serde_json::from_str::<Value>(failure).expect("json"), expected);
}

#[tokio::test]
async fn a_changed_policy_counts_at_once() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let path = format!("{ADMISSION}/validatingadmissionpolicies");
    let made = |limit: u32| {
        policy(
            "ValidatingAdmissionPolicy",
            json!({ "validations": [{ "expression": format!("object.spec.replicas > {limit}") }] }),
        )
    };
    post(&admin, &path, made(1)).await.expect("policy");
    let bound =
        binding("ValidatingAdmissionPolicyBinding", json!({ "policyName": "p", "validationActions": ["Deny"] }));
    post(&admin, &format!("{ADMISSION}/validatingadmissionpolicybindings"), bound).await.expect("binding");
    post(&admin, DEPLOYMENTS, deployment("one", 1)).await.expect_err("denied");
    let patch = json!({ "spec": made(0)["spec"] }).to_string().into_bytes();
    admin.call(Method::PATCH, &format!("{path}/p"), "application/merge-patch+json", patch).await.expect("changed");
    post(&admin, DEPLOYMENTS, deployment("one", 1)).await.expect("allowed");
}
