//! JSON patch and merge patch: one line a case.

use coracle_api_merge::{
    OPERATIONS_MAX, create_merge_patch, create_three_way_json_merge_patch, json_patch, json_patch_unknown_fields,
    merge_patch,
};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn shown(result: Result<Value, coracle_api_merge::PatchError>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("{} {error}", error.status().code),
    }
}

fn check_json(doc: Value, patch: Value, expected: Expect) {
    expected.assert_eq(&shown(json_patch(doc, &patch)));
}

#[test]
fn json_patch_operations() {
    let doc = || json!({"a": {"b": 1}, "l": [1, 2, 3], "n": null, "x/y": "~"});
    check_json(
        doc(),
        json!([{"op": "add", "path": "/a/c", "value": 2}]),
        expect![[r#"{"a":{"b":1,"c":2},"l":[1,2,3],"n":null,"x/y":"~"}"#]],
    );
    check_json(
        doc(),
        json!([{"op": "add", "path": "/l/-", "value": 4}, {"op": "add", "path": "/l/0", "value": 0}]),
        expect![[r#"{"a":{"b":1},"l":[0,1,2,3,4],"n":null,"x/y":"~"}"#]],
    );
    check_json(
        doc(),
        json!([{"op": "add", "path": "/l/-1", "value": 9}]),
        expect![[r#"{"a":{"b":1},"l":[1,2,3,9],"n":null,"x/y":"~"}"#]],
    );
    check_json(
        doc(),
        json!([{"op": "remove", "path": "/l/-1"}, {"op": "remove", "path": "/x~1y"}]),
        expect![[r#"{"a":{"b":1},"l":[1,2],"n":null}"#]],
    );
    check_json(
        doc(),
        json!([{"op": "replace", "path": "/a/z", "value": 5}]),
        expect![[r#"{"a":{"b":1,"z":5},"l":[1,2,3],"n":null,"x/y":"~"}"#]],
    );
    check_json(
        doc(),
        json!([{"op": "move", "from": "/a/b", "path": "/l/1"}]),
        expect![[r#"{"a":{},"l":[1,1,2,3],"n":null,"x/y":"~"}"#]],
    );
    check_json(
        doc(),
        json!([{"op": "copy", "from": "/a", "path": "/c"}]),
        expect![[r#"{"a":{"b":1},"l":[1,2,3],"n":null,"x/y":"~","c":{"b":1}}"#]],
    );
    check_json(
        doc(),
        json!([{"op": "test", "path": "/a/b", "value": 1}, {"op": "test", "path": "/gone", "value": null}]),
        expect![[r#"{"a":{"b":1},"l":[1,2,3],"n":null,"x/y":"~"}"#]],
    );
    check_json(doc(), json!([{"op": "replace", "path": "", "value": {}}]), expect!["{}"]);
}

#[test]
fn json_patch_errors() {
    let doc = || json!({"a": {"b": 1}, "l": [1]});
    check_json(
        doc(),
        json!([{"op": "remove", "path": "/a/c"}]),
        expect!["422 error in remove for path: '/a/c': Unable to remove nonexistent key: c: missing value"],
    );
    check_json(
        doc(),
        json!([{"op": "remove", "path": "/z/c"}]),
        expect![[r#"422 remove operation does not apply: doc is missing path: "/z/c": missing value"#]],
    );
    check_json(
        doc(),
        json!([{"op": "replace", "path": "/l/1", "value": 1}]),
        expect!["422 replace operation does not apply: doc is missing key: /l/1: missing value"],
    );
    check_json(
        doc(),
        json!([{"op": "add", "path": "/l/x", "value": 1}]),
        expect![[
            r#"422 error in add for path: '/l/x': value was not a proper array index: 'x': strconv.Atoi: parsing "x": invalid syntax"#
        ]],
    );
    check_json(
        doc(),
        json!([{"op": "test", "path": "/a/b", "value": 2}]),
        expect!["422 testing value /a/b failed: test failed"],
    );
    check_json(doc(), json!([{"op": "swap", "path": "/a/b"}]), expect!["422 Unexpected kind: swap"]);
    check_json(
        doc(),
        json!([{"op": "add"}]),
        expect!["422 add operation failed to decode path: operation missing path field: missing value"],
    );
    check_json(
        doc(),
        json!({}),
        expect!["400 error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"],
    );
    check_json(
        doc(),
        json!(["x"]),
        expect!["400 error decoding patch: json: cannot unmarshal string into Go value of type handlers.jsonPatchOp"],
    );
    let many = vec![json!({"op": "test", "path": "/a/b", "value": 1}); OPERATIONS_MAX + 1];
    check_json(
        doc(),
        Value::Array(many),
        expect!["413 Request entity is too large: The allowed maximum operations in a JSON patch is 10000, got 10001"],
    );
}

#[test]
fn json_patch_answers_with_a_fixed_message() {
    let error = json_patch(json!({}), &json!([{"op": "remove", "path": "/a"}])).expect_err("no such key");
    let status = error.status();
    assert_eq!(status.message, "the server rejected our request due to an error in our request");
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
}

#[test]
fn json_patch_copies_are_bounded() {
    let doc = json!({"a": "x".repeat(1 << 20)});
    let copies: Vec<Value> = (0..4).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/c{n}")})).collect();
    let text = shown(json_patch(doc, &Value::Array(copies)));
    expect![
        "422 Unable to complete the copy, the accumulated size increase of copy is 3145734, exceeding the limit 3145728"
    ]
    .assert_eq(&text);
}

#[test]
fn json_patch_names_unknown_fields() {
    let patch = json!([{"op": "add", "path": "/a", "value": 1}, {"op": "add", "path": "/a", "vlaue": 1}]);
    assert_eq!(json_patch_unknown_fields(&patch), [r#"json patch unknown field "[1].vlaue""#]);
}

fn check_merge(doc: Value, patch: Value, expected: Expect) {
    expected.assert_eq(&shown(merge_patch(doc, &patch)));
}

#[test]
fn merge_patches() {
    check_merge(
        json!({"a": {"b": 1, "c": 2}, "d": 3}),
        json!({"a": {"b": null, "e": 4}, "d": null}),
        expect![[r#"{"a":{"c":2,"e":4}}"#]],
    );
    check_merge(json!({"a": [1, 2]}), json!({"a": [3]}), expect![[r#"{"a":[3]}"#]]);
    check_merge(json!({}), json!({"a": {"b": null, "c": {"d": null}}}), expect![[r#"{"a":{"c":{}}}"#]]);
    check_merge(json!({"a": "x"}), json!({"a": {"b": 1}}), expect![[r#"{"a":{"b":1}}"#]]);
    check_merge(json!({"a": {"b": 1}}), json!({"a": "x"}), expect![[r#"{"a":"x"}"#]]);
    check_merge(
        json!({}),
        json!([1]),
        expect!["400 error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"],
    );
}

#[test]
fn made_merge_patches() {
    let before = json!({"a": 1, "b": {"c": 1, "d": 2}, "l": [1], "same": {"x": 1}});
    let after = json!({"b": {"c": 1, "d": 3, "e": 4}, "l": [1, 2], "same": {"x": 1}, "new": {}});
    let patch = create_merge_patch(&before, &after);
    expect![[r#"{"b":{"d":3,"e":4},"l":[1,2],"new":{},"a":null}"#]].assert_eq(&patch.to_string());
    assert_eq!(merge_patch(before, &patch).expect("an object"), after);
}

#[test]
fn three_way_merge_patches_leave_what_others_set() {
    let last = json!({"a": 1, "b": 2, "m": {"gone": 1, "kept": 1}});
    let modified = json!({"b": 3, "m": {"kept": 1}});
    let current = json!({"a": 1, "b": 2, "others": true, "m": {"gone": 1, "kept": 1, "others": 1}});
    let patch = create_three_way_json_merge_patch(&last, &modified, &current);
    expect![[r#"{"m":{"gone":null},"a":null,"b":3}"#]].assert_eq(&patch.to_string());
    let first = create_three_way_json_merge_patch(&Value::Null, &modified, &json!({"b": 3}));
    expect![[r#"{"m":{"kept":1}}"#]].assert_eq(&first.to_string());
}
