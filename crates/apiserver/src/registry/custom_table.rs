//! Tables of custom resources: the columns of their definitions. Source: `pkg/registry/customresource/tableconvertor`.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use coracle_api_rules::table::duration;
use serde_json::json;

use super::objects::TableRows;
use super::resources::Resource;
use crate::time;

pub(crate) fn table(resource: &Resource, objects: &[Value]) -> TableRows {
    let declared = resource.custom.as_ref().map(|custom| custom.columns.clone()).unwrap_or_default();
    let mut columns = vec![json!({"name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": "Name must be unique within a namespace."})];
    for column in &declared {
        columns.push(json!({
            "name": column.str_at(&["name"]), "type": column.str_at(&["type"]), "format": column.str_at(&["format"]),
            "description": column.str_at(&["description"]),
            "priority": column.get("priority").cloned().unwrap_or_else(|| 0.into()),
        }));
    }
    let age = [json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})];
    let own: &[Value] = if declared.is_empty() { &age } else { &declared };
    if declared.is_empty() {
        columns.push(
            json!({"name": "Age", "type": "date", "format": "", "priority": 0, "description": "When it was made."}),
        );
    }
    let rows = objects.iter().map(|object| {
        let mut cells = vec![Value::from(object.name())];
        cells.extend(own.iter().map(|column| cell(object, column)));
        Value::Array(cells)
    });
    TableRows { columns: columns.into(), rows: rows.collect() }
}

fn cell(object: &Value, column: &Value) -> Value {
    let found = find(object, column.str_at(&["jsonPath"]));
    let Some(value) = found.first().copied() else { return Value::Null };
    match column.str_at(&["type"]) {
        "date" => duration::since(value.as_str().unwrap_or_default(), time::now()).into(),
        "integer" | "number" | "boolean" => value.clone(),
        _ if value.is_string() => value.clone(),
        _ => value.to_string().into(),
    }
}

/// Values at a simple JSON path: `.a.b[0]`, `.a[?(@.type=="X")].b`, `.a["b"]`, `.a\.b`.
fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let Some(end) = closing(after) else { return Vec::new() };
            let inside = &after[..end];
            rest = &after[end + 1..];
            found = found.into_iter().flat_map(|value| select(value, inside)).collect();
            continue;
        }
        let after = rest.strip_prefix('.').unwrap_or(rest);
        let mut name = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, next)| next)),
                '.' | '[' => {
                    end = at;
                    break;
                }
                _ => name.push(c),
            }
        }
        rest = &after[end..];
        if !name.is_empty() {
            found = found.into_iter().filter_map(|value| value.get(&name)).collect();
        } else if rest == after {
            return Vec::new();
        }
    }
    found
}

fn closing(text: &str) -> Option<usize> {
    let mut quoted = None;
    for (at, c) in text.char_indices() {
        match (quoted, c) {
            (None, '"' | '\'') => quoted = Some(c),
            (Some(open), c) if c == open => quoted = None,
            (None, ']') => return Some(at),
            _ => {}
        }
    }
    None
}

fn select<'a>(value: &'a Value, inside: &str) -> Vec<&'a Value> {
    let unquote = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    if inside == "*" {
        return value.as_array().into_iter().flatten().collect();
    }
    if let Some(filter) = inside.strip_prefix("?(@").and_then(|text| text.strip_suffix(')')) {
        let Some((path, wanted)) = filter.split_once("==") else { return Vec::new() };
        let wanted = unquote(wanted);
        let holds = |item: &&Value| {
            find(item, path.trim()).first().is_some_and(|found| match found {
                Value::String(text) => *text == wanted,
                other => other.to_string() == wanted,
            })
        };
        return value.as_array().into_iter().flatten().filter(holds).collect();
    }
    if let Ok(index) = inside.parse::<i64>() {
        let list = value.as_array();
        let at = if index < 0 { list.map_or(0, Vec::len).wrapping_add_signed(index as isize) } else { index as usize };
        return list.and_then(|list| list.get(at)).into_iter().collect();
    }
    value.get(unquote(inside)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_followed() {
        let object = json!({"spec": {"a.b": 1, "list": [{"type": "X", "v": "x"}, {"type": "Y", "v": "y"}]}});
        let check = |path: &str, wanted: Value| assert_eq!(json!(find(&object, path)), wanted, "{path}");
        check(".spec.list[0].v", json!(["x"]));
        check(".spec.list[?(@.type==\"Y\")].v", json!(["y"]));
        check(".spec.list[*].v", json!(["x", "y"]));
        check(".spec.a\\.b", json!([1]));
        check(".spec['a.b']", json!([1]));
        check(".none.at.all", json!([]));
        check("[", json!([]));
    }
}
