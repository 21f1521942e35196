//! Policies as upstream's tests use them.

use coracle_api_cel::Ty;
use coracle_api_meta::{Gvk, Gvr, UserInfo, Value};
use coracle_api_policy::{
    Conditions, Decision, MutatingPolicy, PolicyError, Query, Request, ValidatingPolicy, Verdict, denial, matching,
    type_check,
};
use coracle_api_schema::{builtin, cel::builtin_ty};
use expect_test::expect;
use serde_json::json;

struct Made {
    kind: Gvk,
    resource: Gvr,
    user: UserInfo,
    namespace: Value,
    object: Value,
}

impl Made {
    fn deployment(replicas: u32) -> Self {
        Self {
            kind: Gvk::new("apps", "v1", "Deployment"),
            resource: Gvr::new("apps", "v1", "deployments"),
            user: UserInfo::authenticated("alice", &["dev"]),
            namespace: json!({ "metadata": { "name": "ns", "labels": { "team": "a" } } }),
            object: json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d", "labels": { "x": "1" } },
                "spec": { "replicas": replicas, "template": { "spec": { "containers": [{ "name": "a", "image": "i" }] } } } }),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            operation: "CREATE",
            kind: &self.kind,
            resource: &self.resource,
            subresource: "",
            namespace: "ns",
            name: "d",
            object: Some(&self.object),
            old_object: None,
            namespace_object: Some(&self.namespace),
            options: None,
            dry_run: false,
            user: &self.user,
            ask: None,
        }
    }
}

fn messages(policy: &Value, made: &Made) -> Vec<String> {
    let decisions = ValidatingPolicy::compile(policy).evaluate(&made.request(), None).decisions;
    decisions.iter().map(|decision| format!("{}: {}", decision.reason, decision.message)).collect()
}

#[test]
fn deployments_are_validated() {
    let policy = json!({ "spec": { "validations": [
        { "expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas" },
        { "expression": "namespaceObject.metadata.name == 'ns'", "message": "wrong namespace" },
    ] } });
    assert_eq!(messages(&policy, &Made::deployment(2)), Vec::<String>::new());
    assert_eq!(messages(&policy, &Made::deployment(1)), ["Invalid: failed expression: object.spec.replicas > 1"]);
    let decision = Decision { index: 0, message: "m".into(), reason: "Invalid".into() };
    assert_eq!(denial("p", "b", &decision), "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: m");
}

#[test]
fn variables_refer_to_variables() {
    let policy = json!({ "spec": {
        "variables": [
            { "name": "replicas", "expression": "object.spec.replicas" },
            { "name": "oddReplicas", "expression": "variables.replicas % 2 == 1" },
            { "name": "unused", "expression": "object.nope" },
        ],
        "validations": [
            { "expression": "variables.replicas > 1" },
            { "expression": "variables.oddReplicas", "messageExpression": "'even: ' + string(variables.replicas)" },
        ],
    } });
    assert_eq!(messages(&policy, &Made::deployment(3)), Vec::<String>::new());
    assert_eq!(messages(&policy, &Made::deployment(2)), ["Invalid: even: 2"]);
}

#[test]
fn errors_follow_the_failure_policy() {
    let mut policy = json!({ "spec": { "validations": [{ "expression": "object.nope > 1", "reason": "Forbidden" }] } });
    assert_eq!(
        messages(&policy, &Made::deployment(1)),
        [": expression 'object.nope > 1' resulted in error: no such key: nope"]
    );
    policy["spec"]["failurePolicy"] = "Ignore".into();
    assert_eq!(messages(&policy, &Made::deployment(1)), Vec::<String>::new());
    let broken = json!({ "spec": { "validations": [{ "expression": "[] bad" }] } });
    assert!(
        messages(&broken, &Made::deployment(1))[0]
            .starts_with(": compilation failed: ERROR: <input>:1:4: Syntax error")
    );
}

#[test]
fn users_and_permissions_are_seen() {
    let made = Made::deployment(1);
    let ask = |query: &Query| (query.verb == "create" && query.resource == "deployments", "because".to_owned());
    let request = Request { ask: Some(&ask), ..made.request() };
    let policy = json!({ "spec": {
        "validations": [
            { "expression": "request.userInfo.username == 'alice' && 'dev' in request.userInfo.groups && request.operation == 'CREATE'" },
            { "expression": "authorizer.group('apps').resource('deployments').namespace('ns').check('create').allowed()" },
            { "expression": "authorizer.requestResource.check('create').reason() == 'because'" },
            { "expression": "!authorizer.path('/healthz').check('get').allowed()" },
        ],
        "auditAnnotations": [{ "key": "who", "valueExpression": "request.userInfo.username + '!'" }],
    } });
    let outcome = ValidatingPolicy::compile(&policy).evaluate(&request, None);
    assert_eq!(outcome.decisions, []);
    assert_eq!(outcome.annotations, [("who".to_owned(), "alice!".to_owned())]);
    let params = json!({ "data": { "max": "5" } });
    let policy = json!({ "spec": { "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "validations": [{ "expression": "object.spec.replicas <= int(params.data.max)" }] } });
    let policy = ValidatingPolicy::compile(&policy);
    assert_eq!(policy.evaluate(&request, Some(&params)).decisions, []);
}

#[test]
fn types_are_checked_beside() {
    let kind = Gvk::new("apps", "v1", "Deployment");
    let kinds = [("apps/v1, Kind=Deployment".to_owned(), builtin_ty(builtin().kind(&kind).expect("kind")))];
    let good = json!({ "spec": { "validations": [{ "expression": "object.spec.replicas > 1" }] } });
    assert_eq!(type_check(&good, &kinds, None), Vec::<Value>::new());
    let bad = json!({ "spec": { "validations": [
        { "expression": "object.spec.replicas > '1'", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas" },
    ] } });
    let warnings = type_check(&bad, &kinds, None);
    expect![[r#"
        spec.validations[0].expression: apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'
         | object.spec.replicas > '1'
         | .....................^

        spec.validations[0].messageExpression: apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:28: found no matching overload for '_+_' applied to '(string, int)'
         | 'wants replicas > 1, got ' + object.spec.replicas
         | ...........................^
    "#]]
    .assert_eq(
        &warnings
            .iter()
            .map(|warning| format!("{}: {}", warning["fieldRef"].as_str().unwrap_or(""), warning["warning"].as_str().unwrap_or("")))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    assert_eq!(type_check(&bad, &[("x".to_owned(), Ty::Dyn)], None), Vec::<Value>::new());
}

#[test]
fn objects_are_changed() {
    let kind = Gvk::new("apps", "v1", "Deployment");
    let ty = builtin().kind(&kind).expect("kind");
    let made = Made::deployment(1);
    let changed = |mutations: Value| {
        let policy = json!({ "spec": { "reinvocationPolicy": "IfNeeded", "mutations": mutations } });
        MutatingPolicy::compile(&policy).evaluate(&made.request(), None, builtin(), ty)
    };
    let object = changed(json!([
        { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": "Object{spec: Object.spec{replicas: 1337}}" } },
        { "patchType": "ApplyConfiguration", "applyConfiguration":
            { "expression": "Object{metadata: Object.metadata{annotations: {'mutated-by': string(object.spec.replicas)}}}" } },
        { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression":
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [
                Object.spec.template.spec.containers{name: 'b', image: 'j'}, Object.spec.template.spec.containers{name: 'a', tty: true}]}}}}" } },
        { "patchType": "JSONPatch", "jsonPatch": { "expression":
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]" } },
    ]));
    let object = object.expect("changes").expect("applies");
    assert_eq!(object["spec"]["replicas"], 1337);
    assert_eq!(object["metadata"]["annotations"], json!({ "mutated-by": "1337" }));
    assert_eq!(object["metadata"]["labels"], json!({ "x": "1", "a/b": "c" }));
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"],
        json!([{ "name": "a", "image": "i", "tty": true }, { "name": "b", "image": "j" }])
    );
    let atomic = changed(json!([{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression":
        "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}" } }]));
    assert_eq!(
        atomic,
        Err(PolicyError::Patch(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector".into()
        ))
    );
}

#[test]
fn conditions_skip_match_or_fail() {
    let made = Made::deployment(1);
    let verdict = |expressions: &[&str]| {
        let conditions: Vec<Value> = expressions.iter().map(|e| json!({ "name": "c", "expression": e })).collect();
        Conditions::compile(&json!(conditions)).expect("compiles").evaluate(&made.request())
    };
    assert_eq!(verdict(&["object.metadata.name != 'skip-me'"]), Verdict::Match);
    assert_eq!(verdict(&["object.nope == 1", "object.metadata.name == 'skip-me'"]), Verdict::Skip);
    assert!(matches!(verdict(&["object.nope == 1"]), Verdict::Failed(error) if error.contains("no such key: nope")));
    let (index, error) =
        Conditions::compile(&json!([{ "name": "c", "expression": "... [] bad expression" }])).expect_err("bad");
    assert!(index == 0 && error.to_string().contains("compilation failed"), "{error}");
}

#[test]
fn rules_and_selectors_match() {
    let made = Made::deployment(1);
    let rule = |version: &str, resource: &str| json!({ "operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": [version], "resources": [resource] });
    let request = made.request();
    let matches = |constraints: Value| matching::resources(&constraints, &request);
    assert!(matches(Value::Null));
    assert!(matches(json!({ "resourceRules": [rule("v1", "deployments")] })));
    assert!(!matches(json!({ "resourceRules": [rule("v1", "replicasets")] })));
    assert!(!matches(json!({ "resourceRules": [rule("v1", "deployments/status")] })));
    assert!(matches(json!({ "resourceRules": [rule("v1beta1", "*")] })));
    assert!(!matches(json!({ "matchPolicy": "Exact", "resourceRules": [rule("v1beta1", "*")] })));
    assert!(!matches(
        json!({ "resourceRules": [rule("*", "*")], "excludeResourceRules": [rule("v1", "deployments")] })
    ));
    assert!(matches(
        json!({ "namespaceSelector": { "matchLabels": { "team": "a" } }, "objectSelector": { "matchLabels": { "x": "1" } } })
    ));
    assert!(!matches(json!({ "namespaceSelector": { "matchLabels": { "team": "b" } } })));
    assert!(!matches(
        json!({ "objectSelector": { "matchExpressions": [{ "key": "x", "operator": "DoesNotExist" }] } })
    ));
    let mut named = rule("v1", "deployments");
    named["resourceNames"] = json!(["other"]);
    assert!(!matches(json!({ "resourceRules": [named] })));
}

#[test]
fn expressions_compile_when_they_are_stored() {
    let errors = |kind: &str, object: Value| {
        let errors = coracle_api_policy::expression_errors(kind, &object);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let webhook =
        |source: &str| json!({ "webhooks": [{ "matchConditions": [{ "name": "c", "expression": source }] }] });
    assert_eq!(errors("ValidatingWebhookConfiguration", webhook("object.metadata.name != 'x'")), Vec::<String>::new());
    let found = errors("MutatingWebhookConfiguration", webhook("... [] bad expression"));
    assert!(
        found[0].starts_with(
            "webhooks[0].matchConditions[0].expression: Invalid value: \"... [] bad expression\": compilation failed"
        ),
        "{found:?}"
    );
    let policy = json!({ "spec": { "validations": [
        { "expression": "1", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas" }, { "expression": "nope" }] } });
    let found = errors("ValidatingAdmissionPolicy", policy);
    assert_eq!(found[0], "spec.validations[0].expression: Invalid value: \"1\": must evaluate to bool");
    assert!(found.len() == 2 && found[1].contains("undeclared reference to 'nope'"), "{found:?}");
    let policy = json!({ "spec": { "mutations": [{ "applyConfiguration": { "expression": "Object{spec: Object.spec{replicas: 1}}" } }] } });
    assert_eq!(errors("MutatingAdmissionPolicy", policy), Vec::<String>::new());
}
