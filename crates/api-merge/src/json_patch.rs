//! JSON patch (RFC 6902) with the habits of the library that upstream uses (`gopkg.in/evanphx/json-patch.v4`): negative
//! indices count from the end, `replace` of a missing key of an object adds it, `test` takes a missing value for null.

use coracle_api_meta::Value;

use crate::error::PatchError;
use crate::golang;

/// `maxJSONPatchOperations` of upstream's `endpoints/handlers/patch.go`.
pub const OPERATIONS_MAX: usize = 10_000;
/// What all `copy` operations of a patch may add, as JSON: `JSONPatchMaxCopyBytes`.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Applies an RFC 6902 patch. `patch` is the decoded body.
///
/// # Errors
/// [`PatchError::BadRequest`] when the body is no list of objects, [`PatchError::TooLarge`] past [`OPERATIONS_MAX`],
/// [`PatchError::Unprocessable`] when an operation does not fit or a test fails.
pub fn json_patch(mut doc: Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = operations(patch)?;
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut copied_bytes = 0;
    for operation in operations {
        run(&mut doc, operation, &mut copied_bytes).map_err(PatchError::Unprocessable)?;
    }
    Ok(doc)
}

/// What strict field validation says of a patch body, one text per unknown field of an operation.
#[must_use]
pub fn json_patch_unknown_fields(patch: &Value) -> Vec<String> {
    let known = ["op", "path", "from", "value"];
    let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
    let fields = operations.iter().enumerate().flat_map(|(index, operation)| {
        let names = operation.as_object().into_iter().flat_map(|map| map.keys());
        names.filter(|name| !known.contains(&name.as_str())).map(move |name| (index, name))
    });
    fields.map(|(index, name)| format!("json patch unknown field \"[{index}].{name}\"")).collect()
}

fn operations(patch: &Value) -> Result<&Vec<Value>, PatchError> {
    let wrong = |value: &Value, target: &str| {
        PatchError::BadRequest(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type {target}",
            golang::json_kind(value)
        ))
    };
    let operations = patch.as_array().ok_or_else(|| wrong(patch, "[]handlers.jsonPatchOp"))?;
    match operations.iter().find(|operation| !operation.is_object()) {
        Some(operation) => Err(wrong(operation, "handlers.jsonPatchOp")),
        None => Ok(operations),
    }
}

fn run(doc: &mut Value, operation: &Value, copied_bytes: &mut usize) -> Result<(), String> {
    let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    match kind {
        "add" => add(doc, operation),
        "remove" => remove(doc, operation),
        "replace" => replace(doc, operation),
        "move" => move_value(doc, operation),
        "test" => test(doc, operation),
        "copy" => copy(doc, operation, copied_bytes),
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn text<'o>(operation: &'o Value, field: &str) -> Result<&'o str, String> {
    let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    operation.get(field).and_then(Value::as_str).ok_or_else(|| {
        format!("{kind} operation failed to decode {field}: operation missing {field} field: missing value")
    })
}

fn given(operation: &Value) -> Value {
    operation.get("value").cloned().unwrap_or(Value::Null)
}

fn add(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let path = text(operation, "path")?;
    let (container, key) = locate(doc, path)
        .ok_or_else(|| format!("add operation does not apply: doc is missing path: \"{path}\": missing value"))?;
    insert(container, &key, given(operation)).map_err(|error| format!("error in add for path: '{path}': {error}"))
}

fn remove(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let path = text(operation, "path")?;
    let (container, key) = locate(doc, path)
        .ok_or_else(|| format!("remove operation does not apply: doc is missing path: \"{path}\": missing value"))?;
    take(container, &key).map(drop).map_err(|error| format!("error in remove for path: '{path}': {error}"))
}

fn replace(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let path = text(operation, "path")?;
    let value = given(operation);
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("replace operation value must be object or array".to_owned());
        }
        *doc = value;
        return Ok(());
    }
    let (container, key) = locate(doc, path)
        .ok_or_else(|| format!("replace operation does not apply: doc is missing path: {path}: missing value"))?;
    match container {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(list) => {
            let slot = existing(list.len(), &key).ok().and_then(|index| list.get_mut(index)).ok_or_else(|| {
                format!("replace operation does not apply: doc is missing key: {path}: missing value")
            })?;
            *slot = value;
        }
        _ => {}
    }
    Ok(())
}

fn move_value(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let from = text(operation, "from")?;
    let (container, key) = locate(doc, from)
        .ok_or_else(|| format!("move operation does not apply: doc is missing from path: {from}: missing value"))?;
    let value = take(container, &key).map_err(|error| format!("error in move for path: '{key}': {error}"))?;
    let path = text(operation, "path")?;
    let (container, key) = locate(doc, path).ok_or_else(|| {
        format!("move operation does not apply: doc is missing destination path: {path}: missing value")
    })?;
    insert(container, &key, value).map_err(|error| format!("error in move for path: '{path}': {error}"))
}

fn test(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let path = text(operation, "path")?;
    let wanted = given(operation);
    let found = if path.is_empty() {
        doc.clone()
    } else {
        let (container, key) = locate(doc, path)
            .ok_or_else(|| format!("test operation does not apply: is missing path: {path}: missing value"))?;
        let found = read(container, &key).map_err(|error| format!("error in test for path: '{path}': {error}"))?;
        found.cloned().unwrap_or(Value::Null)
    };
    if found == wanted { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
}

fn copy(doc: &mut Value, operation: &Value, copied_bytes: &mut usize) -> Result<(), String> {
    let from = text(operation, "from")?;
    let (container, key) = locate(doc, from)
        .ok_or_else(|| format!("copy operation does not apply: doc is missing from path: {from}: missing value"))?;
    let value = read(container, &key).map_err(|error| format!("error in copy for from: '{from}': {error}"))?;
    let value = value.cloned().unwrap_or(Value::Null);
    if !value.is_null() {
        *copied_bytes += value.to_string().len();
    }
    let path = text(operation, "path")?;
    let (container, key) = locate(doc, path).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing destination path: {path}: missing value")
    })?;
    if *copied_bytes > COPIED_BYTES_MAX {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, exceeding the limit {COPIED_BYTES_MAX}"
        ));
    }
    insert(container, &key, value).map_err(|error| format!("error while adding value during copy: {error}"))
}

/// The object or list that holds what `path` names, and the last part of the path.
fn locate<'d>(doc: &'d mut Value, path: &str) -> Option<(&'d mut Value, String)> {
    let (parents, key) = path.rsplit_once('/')?;
    let mut container = doc;
    for part in parents.split('/').skip(1) {
        let key = unescape(part);
        container = match container {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(list) => {
                let index = existing(list.len(), &key).ok()?;
                list.get_mut(index)?
            }
            _ => return None,
        };
    }
    (container.is_object() || container.is_array()).then(|| (container, unescape(key)))
}

/// RFC 6901, section 4.
fn unescape(part: &str) -> String {
    if part.contains('~') { part.replace("~1", "/").replace("~0", "~") } else { part.to_owned() }
}

fn read<'d>(container: &'d Value, key: &str) -> Result<Option<&'d Value>, String> {
    match container {
        Value::Object(map) => Ok(map.get(key)),
        Value::Array(list) => Ok(list.get(existing(list.len(), key)?)),
        _ => Ok(None),
    }
}

fn insert(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            let index = position(list.len() + 1, key)
                .map_err(|error| format!("value was not a proper array index: '{key}': {error}"))?;
            list.insert(index, value);
        }
        _ => {}
    }
    Ok(())
}

fn take(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Object(map) => {
            map.shift_remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        Value::Array(list) => {
            let index = existing(list.len(), key)?;
            Ok(list.remove(index))
        }
        _ => Ok(Value::Null),
    }
}

fn existing(length: usize, key: &str) -> Result<usize, String> {
    position(length, key)
}

/// An index below `length`; negative ones count from `length`.
fn position(length: usize, key: &str) -> Result<usize, String> {
    let index: i64 =
        key.parse().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", golang::quoted(key)))?;
    let limit = i64::try_from(length).unwrap_or(i64::MAX);
    let shifted = if index < 0 { index + limit } else { index };
    if shifted < 0 || shifted >= limit {
        return Err(format!("Unable to access invalid index: {index}: invalid index referenced"));
    }
    usize::try_from(shifted).map_err(|error| error.to_string())
}
