//! Entries of `managedFields`, decoded and encoded.

use std::collections::BTreeMap;

use coracle_api_meta::{Map, Value};

use crate::fields::FieldSet;
use crate::golang;

/// Who made changes, in what way. Entries of appliers have no version here, so that an applier has one entry whatever
/// version it applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ManagerId {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What a manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub set: FieldSet,
    pub api_version: String,
    pub time: Option<String>,
}

pub(crate) type Managed = BTreeMap<ManagerId, Entry>;

/// Whether `managedFields` is one that any write may carry.
///
/// # Errors
/// A text in upstream's words.
pub fn validate_managed_fields(entries: &Value) -> Result<(), String> {
    decode(Some(entries)).map(drop)
}

pub(crate) fn decode(entries: Option<&Value>) -> Result<Managed, String> {
    let mut managed = Managed::new();
    let entries = entries.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, entry) in entries.iter().enumerate() {
        let (id, entry) = decode_entry(index, entry)?;
        managed.insert(id, entry);
    }
    Ok(managed)
}

fn decode_entry(index: usize, entry: &Value) -> Result<(ManagerId, Entry), String> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    let api_version = text("apiVersion").to_owned();
    if api_version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
        other => {
            return Err(format!("invalid fieldsType {} in managed fields entry {index}", golang::quoted(other)));
        }
    }
    let id = ManagerId {
        manager: text("manager").to_owned(),
        operation,
        api_version: if operation == Operation::Apply { String::new() } else { api_version.clone() },
        subresource: text("subresource").to_owned(),
    };
    let set = entry.get("fieldsV1").map_or_else(|| Ok(FieldSet::new()), FieldSet::from_value).map_err(|error| {
        format!("error decoding versioned set from {}: error decoding set: {error}", golang::plain(entry))
    })?;
    Ok((id, Entry { set, api_version, time: time(text("time")) }))
}

/// In the one form that sorts as time does. `None` when it is no time.
fn time(text: &str) -> Option<String> {
    let is_plain = text.len() == 20 && text.ends_with('Z') && text.is_ascii();
    if is_plain {
        return Some(text.to_owned());
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `None` when there are no entries.
pub(crate) fn encode(managed: &Managed) -> Option<Value> {
    if managed.is_empty() {
        return None;
    }
    let mut sorted: Vec<(&ManagerId, &Entry)> = managed.iter().collect();
    sorted.sort_by(|(left_id, left), (right_id, right)| {
        let order = left_id.operation.cmp(&right_id.operation).then(left.time.cmp(&right.time));
        let order = order.then_with(|| left_id.manager.cmp(&right_id.manager));
        order
            .then_with(|| left.api_version.cmp(&right.api_version))
            .then(left_id.subresource.cmp(&right_id.subresource))
    });
    Some(sorted.into_iter().map(|(id, entry)| encode_entry(id, entry)).collect())
}

/// Fields in the order that Go writes them.
fn encode_entry(id: &ManagerId, entry: &Entry) -> Value {
    let mut map = Map::with_capacity(7);
    let mut put = |field: &str, value: Value| map.insert(field.to_owned(), value);
    if !id.manager.is_empty() {
        put("manager", Value::from(id.manager.as_str()));
    }
    put("operation", Value::from(id.operation.as_str()));
    put("apiVersion", Value::from(entry.api_version.as_str()));
    if let Some(time) = &entry.time {
        put("time", Value::from(time.as_str()));
    }
    put("fieldsType", Value::from("FieldsV1"));
    put("fieldsV1", entry.set.to_value());
    if !id.subresource.is_empty() {
        put("subresource", Value::from(id.subresource.as_str()));
    }
    Value::Object(map)
}

/// Whether a client asks for the entries to be dropped: an empty list, or one empty entry.
pub(crate) fn is_reset(entries: Option<&Value>) -> bool {
    match entries.and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.values().all(Value::is_null),
        _ => false,
    }
}

/// Gives the entries of `new` the times of `old` when nothing but these times changed, so that a write that changes nothing
/// is seen as one. True when it did.
pub fn revert_times_if_unchanged(old: &Value, new: &mut Value) -> bool {
    let entries =
        |object: &Value| -> Option<Vec<Value>> { object.get("metadata")?.get("managedFields")?.as_array().cloned() };
    let (Some(before), Some(after)) = (entries(old), entries(new)) else { return false };
    let timeless = |entry: &Value| {
        let mut entry = entry.clone();
        if let Some(map) = entry.as_object_mut() {
            map.shift_remove("time");
        }
        entry
    };
    if before == after
        || before.len() != after.len()
        || before.iter().zip(&after).any(|(before, after)| timeless(before) != timeless(after))
        || !same_but_for_managed(old, new)
    {
        return false;
    }
    if let Some(slot) = new.get_mut("metadata").and_then(|metadata| metadata.get_mut("managedFields")) {
        *slot = Value::Array(before);
    }
    true
}

fn same_but_for_managed(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    old.len() == new.len()
        && old.iter().all(|(key, value)| match (value, new.get(key)) {
            (Value::Object(before), Some(Value::Object(after))) if key == "metadata" => {
                before.len() == after.len()
                    && before.iter().all(|(key, value)| key == "managedFields" || after.get(key) == Some(value))
            }
            (value, other) => other == Some(value),
        })
}
