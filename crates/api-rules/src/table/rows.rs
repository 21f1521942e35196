//! Which printer a kind has, and the words that printers share.

use coracle_api_meta::{Gvk, LabelSelector, ObjectExt, Value};
use jiff::Timestamp;

use super::{Column, admission, duration, other, pod, storage, workloads};

pub(crate) type Printer = fn(&Value, Timestamp) -> Vec<Value>;
pub(crate) type Table = (&'static [Column], Printer);

pub(crate) const NAME_TEXT: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
pub(crate) const CREATED_TEXT: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

const fn column(name: &'static str, kind: &'static str, priority: i32) -> Column {
    Column { name, kind, format: "", description: "", priority }
}

/// A column of text.
pub(crate) const fn text(name: &'static str) -> Column {
    column(name, "string", 0)
}

/// A column that only `-o wide` shows.
pub(crate) const fn wide(name: &'static str) -> Column {
    column(name, "string", 1)
}

pub(crate) const fn integer(name: &'static str) -> Column {
    column(name, "integer", 0)
}

pub(crate) const fn boolean(name: &'static str) -> Column {
    column(name, "boolean", 0)
}

pub(crate) const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", description: NAME_TEXT, priority: 0 };
pub(crate) const AGE: Column =
    Column { name: "Age", kind: "string", format: "", description: CREATED_TEXT, priority: 0 };
pub(crate) const NAME_AGE: &[Column] = &[NAME, AGE];
const CREATED_AT: Column =
    Column { name: "Created At", kind: "date", format: "", description: CREATED_TEXT, priority: 0 };

/// Cells of anything that has no printer.
fn name_created(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.meta_str("creationTimestamp").into()]
}

pub(crate) fn name_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), duration::age(object, now).into()]
}

pub(crate) fn printer(gvk: &Gvk) -> Table {
    let found = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", kind) => other::core(kind),
        ("apps" | "batch" | "autoscaling" | "policy", kind) => workloads::table(kind),
        ("storage.k8s.io", kind) => storage::table(kind),
        ("admissionregistration.k8s.io" | "flowcontrol.apiserver.k8s.io" | "apiregistration.k8s.io", kind) => {
            admission::table(kind)
        }
        (_, kind) => other::table(kind),
    };
    found.or_else(|| pod_like(gvk)).unwrap_or((&[NAME, CREATED_AT], name_created))
}

fn pod_like(gvk: &Gvk) -> Option<Table> {
    (gvk.group.is_empty() && gvk.kind == "Pod").then_some(pod::TABLE)
}

// Reading.

pub(crate) fn int(object: &Value, path: &[&str]) -> i64 {
    object.at(path).and_then(Value::as_i64).unwrap_or_default()
}

pub(crate) fn flag(object: &Value, path: &[&str]) -> bool {
    object.at(path).and_then(Value::as_bool).unwrap_or_default()
}

pub(crate) fn list<'v>(object: &'v Value, path: &[&str]) -> &'v [Value] {
    object.at(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(crate) fn count(object: &Value, path: &[&str]) -> i64 {
    match object.at(path) {
        Some(Value::Array(items)) => items.len() as i64,
        Some(Value::Object(fields)) => fields.len() as i64,
        _ => 0,
    }
}

/// The string at a path, or `other` where it is missing or empty.
pub(crate) fn text_or<'v>(object: &'v Value, path: &[&str], other: &'v str) -> &'v str {
    let found = object.str_at(path);
    if found.is_empty() { other } else { found }
}

/// A string, number or quantity, as Go prints it.
pub(crate) fn shown(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

// Writing.

/// `a=b,c=d` in order of keys.
pub(crate) fn labels(labels: Option<&Value>) -> String {
    let mut pairs: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

pub(crate) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector.filter(|selector| selector.is_object()) else { return "<none>".to_owned() };
    match LabelSelector::from_value(selector) {
        Err(_) => "<error>".to_owned(),
        Ok(selector) if selector.is_everything() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
    }
}

/// Names and images of the containers of a pod template.
pub(crate) fn containers(template: Option<&Value>) -> (String, String) {
    let containers = template.map(|template| list(template, &["spec", "containers"])).unwrap_or_default();
    let join = |field: &str| containers.iter().map(|one| one.str_at(&[field])).collect::<Vec<_>>().join(",");
    (join("name"), join("image"))
}

/// At most `max` of the items, and how many more there are.
pub(crate) fn some_of(items: &[String], max: usize) -> String {
    let first = items.get(..max).unwrap_or(items).join(",");
    if items.len() > max { format!("{first} + {} more...", items.len() - max) } else { first }
}

pub(crate) fn deleted(object: &Value) -> bool {
    object.at(&["metadata", "deletionTimestamp"]).is_some_and(|stamp| !stamp.is_null())
}

pub(crate) fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    list(object, &["status", "conditions"]).iter().find(|condition| condition.str_at(&["type"]) == kind)
}

pub(crate) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition.str_at(&["status"]) == "True")
}
