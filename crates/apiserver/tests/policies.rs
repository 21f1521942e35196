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
