//! The annotation of client-side apply, for objects that move from there to server-side apply.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Map, Value};

use crate::fields::FieldSet;
use crate::typed::{Form, Shape, Types, compare, fields_of, validate};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// `TotalAnnotationSizeLimitB` upstream.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// The annotation, when it is there and not empty.
pub(crate) fn of(object: &Value) -> Option<&str> {
    object.annotations()?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields of the last applied configuration that the live object has unchanged.
pub(crate) fn still_true(types: Types<'_>, shape: Shape, api_version: &str, live: &Value) -> Option<FieldSet> {
    let last: Value = serde_json::from_str(of(live)?).ok()?;
    if last.api_version() != api_version {
        return None;
    }
    validate(types, shape, &last).ok()?;
    let delta = compare(types, shape, (&last, Form::Plain), (live, Form::Stored));
    let set = fields_of(types, shape, &last);
    Some(set.difference(&delta.modified).difference(&delta.added).difference(&delta.removed))
}

/// Makes the annotation tell what was applied now, unless the annotations would become too large.
pub(crate) fn set(object: &mut Value, applied: &Value) {
    let mut applied = sorted(applied);
    if let Some(annotations) = applied.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
        && let Value::Object(annotations) = annotations
    {
        annotations.shift_remove(ANNOTATION);
    }
    let text = format!("{applied}\n");
    let Some(Value::Object(annotations)) = object.meta_mut().and_then(|meta| meta.get_mut("annotations")) else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(text));
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS_BYTES_MAX {
        annotations.shift_remove(ANNOTATION);
    }
}

/// With the keys of objects sorted, as Go writes maps.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map>())
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
