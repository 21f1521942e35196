//! Any kind: every field, in kubectl's way of writing names.

use coracle_api_meta::{Value, object::ObjectExt as _};

use super::Text;

/// Fields of the metadata that only machines read.
const HIDDEN: [&str; 5] = ["managedFields", "name", "namespace", "labels", "annotations"];

pub fn describe(text: &mut Text, object: &Value) {
    text.line(0, "Name:", object.name());
    if !object.namespace().is_empty() {
        text.line(0, "Namespace:", object.namespace());
    }
    text.pairs("Labels:", object.labels(), "=");
    text.pairs("Annotations:", object.annotations(), ": ");
    for (key, value) in object.as_object().into_iter().flatten() {
        if key == "metadata" {
            text.line(0, "Metadata:", "");
            for (key, value) in
                value.as_object().into_iter().flatten().filter(|(key, _)| !HIDDEN.contains(&key.as_str()))
            {
                field(text, 2, key, value);
            }
        } else {
            field(text, 0, key, value);
        }
    }
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

fn field(text: &mut Text, indent: usize, key: &str, value: &Value) {
    let key = format!("{}:", title(key));
    match value {
        Value::Object(fields) => {
            text.line(indent, &key, "");
            for (key, value) in fields {
                field(text, indent + 2, key, value);
            }
        }
        Value::Array(items) => {
            text.line(indent, &key, "");
            for item in items {
                match item {
                    Value::Object(fields) => fields.iter().for_each(|(key, value)| field(text, indent + 2, key, value)),
                    other => text.line(indent + 2, &plain(other), ""),
                }
            }
        }
        other => text.line(indent, &format!("{key} "), &plain(other)),
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
