//! Strategic merge patch, both ways: applying and making.

mod common;

use coracle_api_merge::{
    ThreeWay, check_preconditions, create_three_way_merge_patch, create_two_way_merge_patch, strategic_merge_patch,
};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

fn apply(original: Value, patch: &Value) -> String {
    let (schemas, ty) = common::workload();
    match strategic_merge_patch(&schemas, ty, original, patch) {
        Ok(value) => value.to_string(),
        Err(error) => format!("{} {error}", error.status().code),
    }
}

/// Under `spec`.
fn check(original: Value, patch: Value, expected: Expect) {
    let text = apply(json!({"spec": original}), &json!({"spec": patch}));
    expected.assert_eq(text.strip_prefix(r#"{"spec":"#).and_then(|rest| rest.strip_suffix('}')).unwrap_or(&text));
}

#[test]
fn scalars_maps_and_nulls() {
    check(
        json!({"replicas": 1, "paused": true}),
        json!({"replicas": 2, "paused": null}),
        expect![[r#"{"replicas":2}"#]],
    );
    check(
        json!({"nodeSelector": {"a": "1"}}),
        json!({"nodeSelector": {"b": "2", "c": null}}),
        expect![[r#"{"nodeSelector":{"a":"1","b":"2"}}"#]],
    );
    check(
        json!({}),
        json!({"strategy": {"type": null, "rollingUpdate": {"maxSurge": 1}}}),
        expect![[r#"{"strategy":{"rollingUpdate":{"maxSurge":1}}}"#]],
    );
    check(json!({"replicas": 1}), json!({"unknown": {"kept": 1}}), expect![[r#"{"replicas":1,"unknown":{"kept":1}}"#]]);
    check(
        json!({"data": {"a": {"b": [1]}}}),
        json!({"data": {"a": {"b": [2], "c": 1}}}),
        expect![[r#"{"data":{"a":{"b":[2],"c":1}}}"#]],
    );
}

#[test]
fn lists_merge_by_key() {
    let original = || json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
    check(
        original(),
        json!({"containers": [{"name": "b", "image": "2"}]}),
        expect![[r#"{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"}]}"#]],
    );
    check(
        original(),
        json!({"containers": [{"name": "c"}]}),
        expect![[r#"{"containers":[{"name":"c"},{"name":"a","image":"1"},{"name":"b","image":"1"}]}"#]],
    );
    check(
        original(),
        json!({"containers": [{"name": "c"}, {"name": "b"}]}),
        expect![[r#"{"containers":[{"name":"c"},{"name":"a","image":"1"},{"name":"b","image":"1"}]}"#]],
    );
    check(
        original(),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        expect![[r#"{"containers":[{"name":"b","image":"1"}]}"#]],
    );
    check(
        original(),
        json!({"containers": [{"name": "z"}, {"$patch": "replace"}]}),
        expect![[r#"{"containers":[{"name":"z"}]}"#]],
    );
    check(
        json!({}),
        json!({"containers": [{"name": "z"}, {"name": "y", "$patch": "delete"}]}),
        expect![[r#"{"containers":[{"name":"z"}]}"#]],
    );
    check(original(), json!({"containers": null}), expect!["{}"]);
    check(
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 90}]}]}),
        expect![[
            r#"{"containers":[{"name":"a","ports":[{"containerPort":80,"protocol":"TCP","name":"web"},{"containerPort":90}]}]}"#
        ]],
    );
    check(
        json!({"containers": [{"name": "a", "command": ["x"]}]}),
        json!({"containers": [{"name": "a", "command": ["y"]}]}),
        expect![[r#"{"containers":[{"name":"a","command":["y"]}]}"#]],
    );
}

#[test]
fn element_order() {
    let original = || json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
    let order = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    check(
        original(),
        json!({"$setElementOrder/containers": order(&["c", "a"])}),
        expect![[r#"{"containers":[{"name":"b"},{"name":"c"},{"name":"a"}]}"#]],
    );
    check(
        original(),
        json!({"$setElementOrder/containers": order(&["c", "d", "a"]), "containers": [{"name": "d"}]}),
        expect![[r#"{"containers":[{"name":"b"},{"name":"c"},{"name":"d"},{"name":"a"}]}"#]],
    );
    check(
        original(),
        json!({"$setElementOrder/containers": order(&["a", "c"]), "containers": [{"name": "b", "$patch": "delete"}]}),
        expect![[r#"{"containers":[{"name":"a"},{"name":"c"}]}"#]],
    );
    check(
        original(),
        json!({"$setElementOrder/containers": order(&["a"]), "containers": [{"name": "d"}]}),
        expect![[r#"
        500 The order in patch list:
        [map[name:d]]
         doesn't match $setElementOrder list:
        [map[name:a]]
    "#]],
    );
    check(original(), json!({"$setElementOrder": []}), expect!["400 invalid patch format of setElementOrder list"]);
}

#[test]
fn primitive_lists() {
    let check = |patch: Value, expected: Expect| {
        expected.assert_eq(&apply(json!({"metadata": {"finalizers": ["a", "b"]}}), &json!({"metadata": patch})));
    };
    check(json!({"finalizers": ["b", "c"]}), expect![[r#"{"metadata":{"finalizers":["a","b","c"]}}"#]]);
    check(
        json!({"$deleteFromPrimitiveList/finalizers": ["a", "x"]}),
        expect![[r#"{"metadata":{"finalizers":["b"]}}"#]],
    );
    check(
        json!({"$setElementOrder/finalizers": ["c", "b"], "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}),
        expect![[r#"{"metadata":{"finalizers":["c","b"]}}"#]],
    );
    check(json!({"$deleteFromPrimitiveList": ["a"]}), expect!["400 invalid patch format of primitive list"]);
    check(json!({"finalizers": [1]}), expect!["500 list element types are not identical: [[a b] [1]]"]);
    check(json!({"finalizers": [["a"]]}), expect!["500 list element types are not identical: [[a b] [[a]]]"]);
}

#[test]
fn map_directives() {
    let original = || json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
    check(
        original(),
        json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
        expect![[r#"{"strategy":{"type":"Recreate"}}"#]],
    );
    check(
        original(),
        json!({"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}),
        expect!["400 invalid patch format of retainKeys"],
    );
    check(
        original(),
        json!({"strategy": {"$patch": "replace", "type": "Recreate"}}),
        expect![[r#"{"strategy":{"type":"Recreate"}}"#]],
    );
    check(original(), json!({"strategy": {"$patch": "delete"}}), expect![[r#"{"strategy":{}}"#]]);
    check(
        original(),
        json!({"strategy": {"$patch": "swap"}}),
        expect!["500 unknown patch type: swap in map: map[$patch:swap]"],
    );
    check(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/"}}]}),
        expect![[r#"{"volumes":[{"name":"v","hostPath":{"path":"/"}}]}"#]],
    );
}

#[test]
fn errors_are_worded_as_upstream() {
    let original = || json!({"containers": [{"name": "a", "image": "1"}]});
    check(
        original(),
        json!({"containers": [{"image": "2", "env": [{"name": "x"}]}]}),
        expect!["500 map: map[env:[map[name:x]] image:2] does not contain declared merge key: name"],
    );
    check(
        original(),
        json!({"containers": [{"$patch": "merge", "name": "a"}]}),
        expect!["500 merging lists cannot yet be specified in the patch"],
    );
    check(
        json!({"unknown": {"a": 1}}),
        json!({"unknown": {"a": 2}}),
        expect![[r#"500 unable to find api field in struct WorkloadSpec for the json field "unknown""#]],
    );
    check(
        original(),
        json!({"$setElementOrder/containers": "x"}),
        expect!["500 expected a []interface {}, but received a string"],
    );
    expect!["400 json: cannot unmarshal array into Go value of type map[string]interface {}"]
        .assert_eq(&apply(json!({}), &json!([])));
}

fn made(before: &Value, after: &Value) -> Value {
    let (schemas, ty) = common::workload();
    create_two_way_merge_patch(&schemas, ty, before, after).expect("fits the schema")
}

#[test]
fn two_way_patches() {
    let before = json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"replicas": 1, "paused": true,
        "containers": [{"name": "a", "image": "1"}, {"name": "b"}],
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "volumes": [{"name": "v", "emptyDir": {}}]}});
    let after = json!({"metadata": {"finalizers": ["b", "c"]}, "spec": {"replicas": 2,
        "containers": [{"name": "c"}, {"name": "a", "image": "2"}],
        "strategy": {"type": "Recreate"},
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}});
    let patch = made(&before, &after);
    let expected = expect![[
        r#"{"metadata":{"finalizers":["c"],"$deleteFromPrimitiveList/finalizers":["a"],"$setElementOrder/finalizers":["b","c"]},"spec":{"replicas":2,"containers":[{"name":"c"},{"image":"2","name":"a"},{"$patch":"delete","name":"b"}],"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"strategy":{"type":"Recreate","rollingUpdate":null,"$retainKeys":["type"]},"volumes":[{"hostPath":{"path":"/"},"emptyDir":null,"$retainKeys":["hostPath","name"],"name":"v"}],"$setElementOrder/volumes":[{"name":"v"}],"paused":null}}"#
    ]];
    expected.assert_eq(&patch.to_string());
    assert_eq!(apply(before, &patch), after.to_string());
    assert_eq!(made(&after, &after), json!({}));
}

fn three_way(last: Value, modified: Value, current: Value, how: ThreeWay) -> String {
    let (schemas, ty) = common::workload();
    let wrap = |spec: Value| json!({"spec": spec});
    let patch = create_three_way_merge_patch(&schemas, ty, &wrap(last), &wrap(modified), &wrap(current), how);
    patch.map_or_else(|error| error.to_string(), |patch| patch.to_string())
}

#[test]
fn three_way_patches() {
    let last = || json!({"replicas": 1, "paused": true, "containers": [{"name": "a", "image": "1"}, {"name": "gone"}]});
    let current = || {
        json!({"replicas": 1, "paused": true, "nodeSelector": {"others": "1"},
            "containers": [{"name": "a", "image": "1", "command": ["x"]}, {"name": "gone"}, {"name": "sidecar"}]})
    };
    let modified = || json!({"replicas": 3, "containers": [{"name": "a", "image": "2"}]});
    expect![[r#"{"spec":{"containers":[{"image":"2","name":"a"},{"$patch":"delete","name":"gone"}],"$setElementOrder/containers":[{"name":"a"}],"paused":null,"replicas":3}}"#]]
        .assert_eq(&three_way(last(), modified(), current(), ThreeWay::Overwrite));
    expect![[r#"{"spec":{"containers":[{"image":"2","name":"a"},{"$patch":"delete","name":"gone"}],"$setElementOrder/containers":[{"name":"a"}],"paused":null,"replicas":3}}"#]]
        .assert_eq(&three_way(last(), modified(), current(), ThreeWay::Refuse));
    let scaled = json!({"replicas": 7, "paused": true, "containers": [{"name": "a", "image": "1"}, {"name": "gone"}]});
    expect![[r#"
        patch:
        {"spec":{"containers":[{"image":"2","name":"a"},{"$patch":"delete","name":"gone"}],"$setElementOrder/containers":[{"name":"a"}],"paused":null,"replicas":3}}
        conflicts with changes made from original to current:
        {"spec":{"replicas":7}}
    "#]]
    .assert_eq(&three_way(last(), modified(), scaled, ThreeWay::Refuse));
    assert_eq!(three_way(modified(), modified(), modified(), ThreeWay::Overwrite), "{}");
}

#[test]
fn preconditions() {
    assert!(check_preconditions(&json!({"metadata": {"labels": {}}})).is_ok());
    let error = check_preconditions(&json!({"metadata": {"name": "x"}})).expect_err("a rename");
    assert_eq!(error.to_string(), "precondition failed for: map[metadata:map[name:x]]");
}

/// JSON in the neighbourhood of the schema: its field names, directives, and anything.
fn wild() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "spec",
        "metadata",
        "name",
        "containers",
        "finalizers",
        "volumes",
        "strategy",
        "ports",
        "env",
        "data",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder/finalizers",
        "containerPort",
        "type",
        "labels",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        prop::sample::select(vec!["a", "b", "delete", "replace", "merge", "name"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys.clone(), inner), 0..5).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

fn named_items() -> impl Strategy<Value = Vec<Value>> {
    let item = (0..4u8, prop::option::of(0..3u8));
    prop::collection::vec(item, 0..4).prop_map(|items| {
        let mut seen = std::collections::BTreeSet::new();
        items
            .into_iter()
            .filter(|(name, _)| seen.insert(*name))
            .map(|(name, image)| match image {
                Some(image) => json!({"name": name.to_string(), "image": image.to_string()}),
                None => json!({"name": name.to_string()}),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn never_panics(original in wild(), patch in wild()) {
        let (schemas, ty) = common::workload();
        let _ = strategic_merge_patch(&schemas, ty, original.clone(), &patch);
        let _ = create_two_way_merge_patch(&schemas, ty, &original, &patch);
        let _ = create_three_way_merge_patch(&schemas, ty, &original, &patch, &original, ThreeWay::Refuse);
        let _ = coracle_api_merge::json_patch(original.clone(), &patch);
        let _ = coracle_api_merge::merge_patch(original, &patch);
    }

    #[test]
    fn a_made_patch_makes_the_modified_object(
        before in named_items(), after in named_items(), had in any::<Option<u8>>(), has in any::<Option<u8>>(),
    ) {
        let object = |items: Vec<Value>, replicas: Option<u8>| {
            let mut object = json!({"spec": {"containers": items}});
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = replicas.into();
            }
            object
        };
        let (before, after) = (object(before, had), object(after, has));
        let patch = made(&before, &after);
        let (schemas, ty) = common::workload();
        prop_assert_eq!(strategic_merge_patch(&schemas, ty, before, &patch).expect("fits"), after);
    }
}
