//! Any kind: every field, in kubectl's way of writing names.

use coracle_api_meta::{Value, object::ObjectExt as _};

use super::text::Text;

/// Fields of the metadata that only machines read.
const HIDDEN: [&str; 5] = ["managedFields", "name", "namespace", "labels", "annotations"];

pub fn describe(text: &mut Text, object: &Value) {
    text.field(0, "Name", object.name());
    text.field(0, "Namespace", object.namespace());
    text.labels("Labels", object.labels());
    text.annotations("Annotations", object.annotations());
    let mut shown = object.clone();
    if let Some(meta) = shown.get_mut("metadata").and_then(Value::as_object_mut) {
        HIDDEN.iter().for_each(|hidden| drop(meta.shift_remove(*hidden)));
    }
    fields(text, 0, &shown);
}

fn fields(text: &mut Text, level: usize, value: &Value) {
    let mut pairs: Vec<_> = value.as_object().into_iter().flatten().map(|(key, value)| (title(key), value)).collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.iter().for_each(|(key, value)| field(text, level, key, value));
}

/// `imagePullPolicy` is written `Image Pull Policy`.
fn title(key: &str) -> String {
    let mut title = String::new();
    for (index, c) in key.char_indices() {
        if index == 0 {
            title.extend(c.to_uppercase());
        } else if c.is_uppercase() {
            title.push(' ');
            title.push(c);
        } else {
            title.push(c);
        }
    }
    title
}

fn field(text: &mut Text, level: usize, title: &str, value: &Value) {
    match value {
        Value::Object(_) => {
            text.raw(level, &format!("{title}:"));
            fields(text, level + 1, value);
        }
        Value::Array(items) => {
            text.raw(level, &format!("{title}:"));
            for item in items {
                match item {
                    Value::Object(_) => fields(text, level + 1, item),
                    other => text.raw(level + 1, &plain(other)),
                }
            }
        }
        other => text.field(level, title, plain(other)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        assert_eq!(title("imagePullPolicy"), "Image Pull Policy");
    }
}
