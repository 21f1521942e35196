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
