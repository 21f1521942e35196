//! Merging of OpenAPI v2 documents. Source: `k8s.io/kube-openapi/pkg/aggregator`.

use std::collections::{BTreeSet, HashMap};

use coracle_api_meta::{Map, Value};

const REFERENCE: &str = "#/definitions/";
const GVK: &str = "x-kubernetes-group-version-kind";

fn fields<'a>(document: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    document.get(field).and_then(Value::as_object).into_iter().flatten()
}

/// The paths of a document that start with `prefix`, and the definitions that they need.
pub(super) fn part(document: &Value, prefix: &str) -> Value {
    let paths: Map = fields(document, "paths")
        .filter(|(path, _)| path.starts_with(prefix))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut queue: Vec<String> = Vec::new();
    paths.values().for_each(|item| references(item, &mut queue));
    let mut needed = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if let Some(definition) = document.get("definitions").and_then(|all| all.get(&name))
            && needed.insert(name)
        {
            references(definition, &mut queue);
        }
    }
    let definitions = fields(document, "definitions").filter(|(name, _)| needed.contains(*name));
    let definitions: Map = definitions.map(|(name, definition)| (name.clone(), definition.clone())).collect();
    serde_json::json!({"paths": paths, "definitions": definitions})
}

fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "$ref" => {
                        out.extend(text.strip_prefix(REFERENCE).map(str::to_owned));
                    }
                    other => references(other, out),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

/// Adds a part to a document. Paths that are there stay; definitions of one name that differ are kept apart.
pub(crate) fn merge(document: &mut Value, part: &Value) {
    let present = document.get("definitions").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut renamed: HashMap<String, String> = HashMap::new();
    for (name, definition) in fields(part, "definitions") {
        let mut candidate = name.clone();
        let mut number = 2;
        while let Some(known) = present.get(&candidate) {
            if same(known, definition) {
                break;
            }
            candidate = format!("{name}_v{number}");
            number += 1;
        }
        if candidate != *name {
            renamed.insert(name.clone(), candidate);
        }
    }
    for (field, value) in
        [("definitions", fields(part, "definitions").collect::<Vec<_>>()), ("paths", fields(part, "paths").collect())]
    {
        let Some(all) = document.get_mut(field).and_then(Value::as_object_mut) else { continue };
        for (name, item) in value {
            let name = renamed.get(name).filter(|_| field == "definitions").unwrap_or(name);
            if !all.contains_key(name) {
                let mut item = item.clone();
                rename(&mut item, &renamed);
                all.insert(name.clone(), item);
            }
        }
    }
}

fn rename(value: &mut Value, renamed: &HashMap<String, String>) {
    if renamed.is_empty() {
        return;
    }
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let new = match value {
                    Value::String(text) if key == "$ref" => {
                        text.strip_prefix(REFERENCE).and_then(|name| renamed.get(name))
                    }
                    _ => None,
                };
                match new {
                    Some(new) => *value = format!("{REFERENCE}{new}").into(),
                    None => rename(value, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

/// Equal but for the kinds that they stand for.
fn same(one: &Value, other: &Value) -> bool {
    let without = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.shift_remove(GVK);
        }
        value
    };
    without(one) == without(other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_come_with_what_they_need_and_keep_apart_what_differs() {
        let reference = |name: &str| json!({"$ref": format!("{REFERENCE}{name}")});
        let theirs = json!({
            "paths": {"/apis/w/v1/flunders": {"get": reference("Flunder")}, "/version": {"get": reference("Info")}},
            "definitions": {"Flunder": {"properties": {"metadata": reference("Meta"), "time": reference("Time")}},
                "Meta": {"type": "object", "description": "theirs"}, "Time": {"type": "string", GVK: [1]}, "Info": {}},
        });
        let part = part(&theirs, "/apis/w/v1/");
        assert_eq!(part["definitions"].as_object().map(Map::len), Some(3));
        let mut ours = json!({"paths": {}, "definitions": {"Meta": {"type": "object"}, "Time": {"type": "string"}}});
        merge(&mut ours, &part);
        assert_eq!(
            ours,
            json!({
                "paths": {"/apis/w/v1/flunders": {"get": reference("Flunder")}},
                "definitions": {"Meta": {"type": "object"}, "Time": {"type": "string"},
                    "Flunder": {"properties": {"metadata": reference("Meta_v2"), "time": reference("Time")}},
                    "Meta_v2": {"type": "object", "description": "theirs"}},
            })
        );
    }
}
