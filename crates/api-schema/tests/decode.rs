//! Decoding of request bodies: canonical forms, strict problems and Go's errors.

use coracle_api_meta::Gvk;
use coracle_api_schema::{Limits, builtin, decode_json, decode_yaml};
use expect_test::{Expect, expect};

fn ty(api_version: &str, kind: &str) -> Option<coracle_api_schema::TypeId> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Some(builtin().kind(&Gvk::new(group, version, kind)).expect("kind"))
}

fn check(api_version: &str, kind: &str, body: &str, expect: Expect) {
    let text = match decode_json(body.as_bytes(), Limits::default(), builtin(), ty(api_version, kind)) {
        Ok(decoded) => {
            let mut text = decoded.value.to_string();
            if let Some(strict) = decoded.strict_error() {
                text.push('\n');
                text.push_str(&strict);
            }
            text
        }
        Err(error) => error.to_string(),
    };
    expect.assert_eq(&text);
}

#[test]
fn objects_take_the_form_that_go_writes() {
    check(
        "v1",
        "Pod",
        r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"a","name":"b","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},
            "ports":[{"containerPort":80,"hostPort":0}],"args":[],"securityContext":{}}],"terminationGracePeriodSeconds":0,"nodeName":"","hostNetwork":false,
            "volumes":[{"name":"v","emptyDir":{}}]},"metadata":{"name":"p","labels":{},"creationTimestamp":null,"deletionTimestamp":"2024-01-01T01:00:00.5+01:00"}}"#,
        expect![[
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","deletionTimestamp":"2024-01-01T00:00:00Z"},"spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"b","image":"a","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"500m","memory":"1Gi"}},"securityContext":{}}],"terminationGracePeriodSeconds":0},"status":{}}"#
        ]],
    );
    check(
        "apps/v1",
        "Deployment",
        r#"{"spec":{"replicas":null,"selector":null,"template":{"metadata":null}}}"#,
        expect![[
            r#"{"metadata":{},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#
        ]],
    );
    check(
        "v1",
        "Secret",
        r#"{"data":{"a":"aGk=","b":null,"c":""}}"#,
        expect![[r#"{"metadata":{},"data":{"a":"aGk=","b":null,"c":""}}"#]],
    );
    check(
        "v1",
        "Service",
        r#"{"spec":{"ports":[{"port":1},{"port":2,"targetPort":"x"}]}}"#,
        expect![[
            r#"{"metadata":{},"spec":{"ports":[{"port":1,"targetPort":0},{"port":2,"targetPort":"x"}]},"status":{"loadBalancer":{}}}"#
        ]],
    );
    check(
        "coordination.k8s.io/v1",
        "Lease",
        r#"{"spec":{"renewTime":"2024-01-01T00:00:00.000001Z"}}"#,
        expect![[r#"{"metadata":{},"spec":{"renewTime":"2024-01-01T00:00:00.000001Z"}}"#]],
    );
}

#[test]
fn strict_problems_come_in_the_order_of_the_text() {
    check(
        "apps/v1",
        "Deployment",
        r#"{"spec":{"foo":1,"paused":true,"paused":false,"foo":2,"template":{"spec":{"containers":[{"name":"a","nope":{"x":1,"x":2}}]}}},
            "metadata":{"labels":{"a":"1","a":"2"}},"bar":[]}"#,
        expect![[r#"
            {"metadata":{"labels":{"a":"2"}},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":[{"name":"a","resources":{}}]}},"strategy":{}},"status":{}}
            strict decoding error: unknown field "spec.foo", duplicate field "spec.paused", unknown field "spec.template.spec.containers[0].nope", duplicate field "metadata.labels.a", unknown field "bar""#]],
    );
}

#[test]
fn custom_objects_stay_as_they_are() {
    let body = br#"{"spec":{"a":null,"a":1.0,"b":1.5,"c":[{"d":1,"d":2}]},"kind":"X"}"#;
    let decoded = decode_json(body, Limits::default(), builtin(), None).expect("decodes");
    expect![[r#"{"spec":{"a":1,"b":1.5,"c":[{"d":2}]},"kind":"X"}"#]].assert_eq(&decoded.value.to_string());
    assert_eq!(decoded.strict, [r#"duplicate field "spec.a""#, r#"duplicate field "spec.c[0].d""#]);
}

#[test]
fn type_errors_read_as_gos() {
    for (body, expect) in [
        (
            r#"{"spec":{"containers":{}}}"#,
            expect![
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
            ],
        ),
        (
            r#"{"spec":{"containers":[{"ports":[{"containerPort":"80"}]}]}}"#,
            expect![
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
            ],
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            expect!["json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"],
        ),
        (
            r#"{"spec":{"activeDeadlineSeconds":1.5}}"#,
            expect![
                "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64"
            ],
        ),
        (
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"a lot"}}}]}}"#,
            expect![
                "spec.containers[0].resources.limits.cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            ],
        ),
        (
            r#"{"metadata":{"creationTimestamp":5}}"#,
            expect![
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"
            ],
        ),
        (
            r#"{"spec":{"containers":[}}"#,
            expect![
                "couldn't get version/kind; json parse error: invalid character '}' looking for beginning of value"
            ],
        ),
        (r#"{"spec":"#, expect!["couldn't get version/kind; json parse error: unexpected end of JSON input"]),
        (
            r#"{"spec":{},}"#,
            expect![
                "couldn't get version/kind; json parse error: invalid character '}' looking for beginning of object key string"
            ],
        ),
        (
            r#"{'a'}"#,
            expect![[
                r#"couldn't get version/kind; json parse error: invalid character '\'' looking for beginning of object key string"#
            ]],
        ),
        (
            r#"{} x"#,
            expect!["couldn't get version/kind; json parse error: invalid character 'x' after top-level value"],
        ),
    ] {
        check("v1", "Pod", body, expect);
    }
}

#[test]
fn schemas_inside_schemas_are_read_leniently() {
    check(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        r#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"object","default":{"b":1,"a":null},
            "properties":{"x":{"type":"array","items":{"type":"string","nonsense":1}},"y":{"additionalProperties":true,"nonsense":2}}}}}]}}"#,
        expect![[r#"
            {"metadata":{},"spec":{"group":"","names":{"plural":"","kind":""},"scope":"","versions":[{"name":"v1","served":false,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","default":{"b":1,"a":null},"properties":{"x":{"type":"array","items":{"type":"string"}},"y":{"additionalProperties":true}}}}}]},"status":{"conditions":null,"acceptedNames":{"plural":"","kind":""},"storedVersions":null}}
            strict decoding error: unknown field "spec.versions[0].schema.openAPIV3Schema.properties.y.nonsense""#]],
    );
}

#[test]
fn yaml_is_read_as_json_is() {
    let text =
        b"apiVersion: v1\nkind: ConfigMap\ndata: &d\n  a: |\n    text\n  b: \"yes\"\nbinaryData:\n  8080: aGk=\n";
    let decoded = decode_yaml(text, Limits::default(), builtin(), ty("v1", "ConfigMap")).expect("decodes");
    expect![[r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{},"data":{"a":"text\n","b":"yes"},"binaryData":{"8080":"aGk="}}"#]]
        .assert_eq(&decoded.value.to_string());
    let text = b"spec:\n  defaultMode: 0644\nx: on\n";
    let decoded = decode_yaml(text, Limits::default(), builtin(), None).expect("decodes");
    expect![[r#"{"spec":{"defaultMode":420},"x":true}"#]].assert_eq(&decoded.value.to_string());
}

#[test]
fn depth_is_bounded() {
    let body = "[".repeat(100_000);
    let error = decode_json(body.as_bytes(), Limits::default(), builtin(), None).expect_err("too deep");
    assert!(error.to_string().contains("exceeded max depth"), "{error}");
}

#[test]
fn bombs_are_refused() {
    let many = format!("{{\"spec\":{{\"containers\":[{}{{}}]}}}}", "{},".repeat(250_000));
    let error = decode_json(many.as_bytes(), Limits::default(), builtin(), ty("v1", "Pod")).expect_err("too many");
    assert!(error.to_string().contains("too many values"), "{error}");
    // Pod { spec = 2 { containers = 2 ... } }
    let containers = [0x12, 0x00].repeat(250_000);
    let mut spec = vec![0x12];
    let mut length = containers.len();
    while length >= 0x80 {
        spec.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    spec.push(u8::try_from(length).expect("seven bits"));
    spec.extend(containers);
    let mut raw = b"k8s\0".to_vec();
    let mut unknown = vec![0x12];
    let mut length = spec.len();
    while length >= 0x80 {
        unknown.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    unknown.push(u8::try_from(length).expect("seven bits"));
    raw.extend(unknown);
    raw.extend(spec);
    let pod = Gvk::new("", "v1", "Pod");
    let error =
        coracle_api_schema::proto::decode_as(&raw, Limits::default(), builtin(), Some(&pod)).expect_err("too many");
    assert!(error.to_string().contains("too many values"), "{error}");
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let error = decode_yaml(bomb.as_bytes(), Limits::default(), builtin(), None).expect_err("too many aliases");
    assert!(error.to_string().starts_with("error converting YAML to JSON: yaml: "), "{error}");
}
