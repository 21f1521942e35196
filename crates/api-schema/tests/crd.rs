//! Custom resources: structural schemas, pruning, defaults and validation.

use coracle_api_meta::{FieldPath, Value};
use coracle_api_schema::{
    ListKind, Type,
    crd::{self, Compiled},
};
use expect_test::{Expect, expect};
use serde_json::json;

fn compiled(spec: Value) -> Compiled {
    let schema = json!({ "type": "object", "properties": { "spec": spec } });
    crd::compile(&schema, &FieldPath::new("openAPIV3Schema")).expect("compiles")
}

fn refused(schema: Value, expect: Expect) {
    let errors = crd::compile(&schema, &FieldPath::new("openAPIV3Schema")).expect_err("errors");
    expect.assert_eq(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

fn errors(compiled: &Compiled, spec: Value, expect: Expect) {
    let errors = compiled.validate(&json!({ "spec": spec }));
    expect.assert_eq(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

fn cron_tab() -> Compiled {
    compiled(json!({
        "type": "object",
        "required": ["cronSpec"],
        "properties": {
            "cronSpec": { "type": "string", "pattern": "^(\\d+|\\*)$", "maxLength": 5 },
            "replicas": { "type": "integer", "minimum": 1, "maximum": 10, "default": 3 },
            "port": { "x-kubernetes-int-or-string": true },
            "mode": { "type": "string", "enum": ["fast", "slow"] },
            "mail": { "type": "string", "format": "email" },
            "note": { "type": "string", "nullable": true },
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            "raw": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            "ports": { "type": "array", "minItems": 1, "maxItems": 3,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": { "type": "object", "required": ["name"], "properties": {
                    "name": { "type": "string" }, "weight": { "type": "number", "default": 1.5 } } } },
            "choice": { "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
                "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] },
        },
    }))
}

#[test]
fn admission_prunes_and_defaults() {
    let mut object = json!({
        "apiVersion": "stable.example.com/v1", "kind": "CronTab",
        "metadata": { "name": "a", "creationTimestamp": null, "nonsense": 1, "labels": {} },
        "spec": { "cronSpec": "*", "unknown": 1, "note": null, "mode": null, "replicas": null, "raw": { "x": { "y": 1 } },
            "ports": [{ "name": "a", "nope": 2 }], "labels": { "k": "v" } },
        "more": true,
    });
    let problems = cron_tab().admit(&mut object).expect("admits");
    expect![[r#"{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"a"},"spec":{"cronSpec":"*","note":null,"replicas":3,"raw":{"x":{"y":1}},"ports":[{"name":"a","weight":1.5}],"labels":{"k":"v"}}}"#]]
        .assert_eq(&object.to_string());
    expect![[r#"["unknown field \"metadata.nonsense\"", "unknown field \"more\"", "unknown field \"spec.ports[0].nope\"", "unknown field \"spec.unknown\""]"#]]
        .assert_eq(&format!("{problems:?}"));
}

#[test]
fn values_are_refused_in_upstreams_words() {
    let compiled = cron_tab();
    errors(&compiled, json!({ "cronSpec": "1", "port": "http", "mail": "a@b.c", "note": null }), expect![[""]]);
    errors(
        &compiled,
        json!({ "cronSpec": "abc", "replicas": 11, "mode": "medium", "mail": "nobody", "port": 1.5 }),
        expect![[r#"
            spec.cronSpec: Invalid value: "abc": spec.cronSpec in body should match '^(\d+|\*)$'
            spec.mail: Invalid value: "nobody": spec.mail in body must be of type email: "nobody"
            spec.mode: Unsupported value: "medium": supported values: "fast", "slow"
            spec.port: Invalid value: "number": spec.port in body must be of type integer,string: "number"
            spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10"#]],
    );
    errors(
        &compiled,
        json!({ "replicas": "two", "ports": [], "labels": { "a": 1 }, "choice": {} }),
        expect![[r#"
            <nil>: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf). Found none valid
            spec.choice.a: Required value
            spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"
            spec.ports: Invalid value: 0: spec.ports in body should have at least 1 items
            spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"
            spec.cronSpec: Required value"#]],
    );
    errors(
        &compiled,
        json!({ "cronSpec": "123456", "ports": [{ "name": "a" }, { "name": "b" }, { "name": "a" }, { "name": "c" }] }),
        expect![[r#"
            spec.cronSpec: Too long: may not be more than 5 bytes
            spec.ports: Too many: 4: must have at most 3 items
            spec.ports[2]: Duplicate value: {"name":"a"}"#]],
    );
}

#[test]
fn what_did_not_change_may_stay_invalid() {
    let compiled = cron_tab();
    let old = json!({ "spec": { "cronSpec": "abc", "replicas": 1 } });
    let new = json!({ "spec": { "cronSpec": "abc", "replicas": 2 } });
    assert_eq!(compiled.validate_update(&new, &old), []);
    assert_eq!(compiled.validate(&new).len(), 1);
    let worse = json!({ "spec": { "cronSpec": "abd", "replicas": 2 } });
    assert_eq!(compiled.validate_update(&worse, &old).len(), 1);
}

#[test]
fn schemas_that_are_not_structural_are_refused() {
    refused(
        json!({ "properties": { "spec": { "properties": { "x": {} } }, "list": { "type": "array" } } }),
        expect![[r#"
            openAPIV3Schema.properties[list].items: Required value: must be specified
            openAPIV3Schema.properties[spec].properties[x].type: Required value: must not be empty for specified object fields
            openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields
            openAPIV3Schema.type: Required value: must not be empty at the root"#]],
    );
    refused(
        json!({ "type": "object", "properties": {
            "metadata": { "type": "object", "properties": { "labels": { "type": "object" } } },
            "a": { "type": "string", "pattern": "(", "default": 1 },
            "b": { "type": "object", "anyOf": [{ "properties": { "c": { "type": "string" } } }] },
        } }),
        expect![[r#"
            openAPIV3Schema.properties[a].pattern: Invalid value: "(": must be a valid regular expression, but isn't: regex parse error:
                (
                ^
            error: unclosed group
            openAPIV3Schema.properties[b].anyOf[0].properties[c].type: Forbidden: must be empty to be structural
            openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"#]],
    );
    refused(
        json!({ "type": "object", "properties": {
            "a": { "type": "string", "default": 1 },
            "b": { "type": "array", "x-kubernetes-list-type": "map", "items": { "type": "object" } },
            "c": { "type": "array", "uniqueItems": true, "items": { "type": "bool" } },
        } }),
        expect![[r#"
            openAPIV3Schema.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer"
            openAPIV3Schema.properties[b].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map
            openAPIV3Schema.properties[c].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic
            openAPIV3Schema.properties[c].items.type: Unsupported value: "bool": supported values: "array", "boolean", "integer", "number", "object", "string""#]],
    );
}

#[test]
fn types_for_patching_carry_lists_and_metadata() {
    let compiled = cron_tab();
    let schemas = &compiled.schemas;
    let spec = schemas.child(compiled.root, "spec").expect("spec");
    let ports = schemas.child(spec, "ports").expect("ports");
    let Type::List(list) = schemas.get(ports) else { panic!("no list") };
    assert_eq!(list.kind, ListKind::Map { keys: vec!["name".to_owned()] });
    let metadata = schemas.child(compiled.root, "metadata").expect("metadata");
    let finalizers = schemas.child(metadata, "finalizers").expect("finalizers");
    let Type::List(list) = schemas.get(finalizers) else { panic!("no list") };
    assert_eq!(list.kind, ListKind::Set);
    let raw = schemas.child(spec, "raw").and_then(|raw| schemas.as_struct(raw)).expect("raw");
    assert!(raw.preserve_unknown);
}

#[test]
fn versions_without_schema_keep_everything() {
    let mut object = json!({ "metadata": { "name": "a" }, "spec": { "x": [null, { "y": null }] } });
    let before = object.clone();
    assert_eq!(crd::schemaless().admit(&mut object), Ok(Vec::new()));
    assert_eq!(object, before);
    assert_eq!(crd::schemaless().validate(&object), []);
}

#[test]
fn rules_that_do_not_compile_or_cost_too_much_are_refused() {
    refused(
        json!({ "type": "object", "properties": { "spec": { "type": "object",
            "x-kubernetes-validations": [{ "rule": "self.z == 100" }, { "rule": "self = 42" }, { "rule": "1 + 1" }],
            "properties": { "x": { "type": "integer" } } } } }),
        expect![[r#"
            openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"rule":"self.z == 100"}: compilation failed: ERROR: <input>:1:5: undefined field 'z'
             | self.z == 100
             | ....^
            openAPIV3Schema.properties[spec].x-kubernetes-validations[1].rule: Invalid value: {"rule":"self = 42"}: compilation failed: ERROR: <input>:1:6: Syntax error: token recognition error at: '= '
             | self = 42
             | .....^
            openAPIV3Schema.properties[spec].x-kubernetes-validations[2].rule: Invalid value: {"rule":"1 + 1"}: cel expression must evaluate to a bool"#]],
    );
    refused(
        json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
            "x": { "type": "array", "items": { "type": "array", "items": { "type": "string" },
                "x-kubernetes-validations": [{ "rule": "self.all(s, s == 'string constant')" }] } } } } } }),
        expect![[r#"
            openAPIV3Schema.properties[spec].properties[x].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)
            openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"#]],
    );
}

#[test]
fn rules_hold() {
    let compiled = compiled(json!({
        "type": "object",
        "x-kubernetes-validations": [
            { "rule": "self.x + self.y > 0" },
            { "rule": "self.list.isSorted() && self.list.sum() % 2 == 0", "message": "list must be even" },
            { "rule": "self.large.all(x, self.large.all(y, y == x))" },
            { "rule": "!has(self.name) || self.name == 'ok'", "messageExpression": "'no: ' + self.name", "fieldPath": ".name" },
        ],
        "properties": {
            "x": { "type": "integer" }, "y": { "type": "integer" },
            "list": { "type": "array", "maxItems": 1000, "items": { "type": "integer" } },
            "large": { "type": "array", "maxItems": 725, "items": { "type": "integer" } },
            "name": { "type": "string", "maxLength": 10 },
            "grow": { "type": "integer", "x-kubernetes-validations": [{ "rule": "self > oldSelf" }] },
        },
    }));
    let good = json!({ "x": 1, "y": 0, "list": [1, 3], "large": [1, 1], "grow": 1 });
    errors(&compiled, good.clone(), expect![[""]]);
    errors(
        &compiled,
        json!({ "x": -1, "y": 0, "list": [1, 2], "large": [], "name": "bad" }),
        expect![[r#"
            spec: Invalid value: failed rule: self.x + self.y > 0
            spec: Invalid value: list must be even
            spec.name: Invalid value: no: bad"#]],
    );
    let many: Vec<usize> = vec![7; 725];
    errors(
        &compiled,
        json!({ "x": 1, "y": 0, "list": [], "large": many }),
        expect![[
            r#"spec: Invalid value: "object": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.large.all(x, self.large.all(y, y == x))"#
        ]],
    );
    errors(
        &compiled,
        json!({ "x": "a" }),
        expect![[r#"
            spec.x: Invalid value: "string": spec.x in body must be of type integer: "string"
            <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#]],
    );
    let (old, mut new) = (json!({ "spec": good }), json!({ "spec": good }));
    new["spec"]["grow"] = 2.into();
    assert_eq!(compiled.validate_update(&new, &old), []);
    new["spec"]["grow"] = 0.into();
    let refused = compiled.validate_update(&new, &old);
    expect!["spec.grow: Invalid value: 0: failed rule: self > oldSelf"].assert_eq(&refused[0].to_string());
}
