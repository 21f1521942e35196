//! Namespaces, config maps and secrets.

use base64::Engine;
use coracle_api_meta::{FieldError, FieldPath, names};
use serde_json::{Map, Value};

use crate::at::{At, Errors};
use crate::formats::config_key;
use crate::same::same;

pub(crate) const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Finalizers of `metadata`: short names are Kubernetes' own.
pub(crate) fn short_finalizers(meta: &At<'_>, errors: &mut Errors) {
    meta.get("finalizers").items().iter().for_each(|finalizer| short_finalizer(finalizer, errors));
}

fn short_finalizer(finalizer: &At<'_>, errors: &mut Errors) {
    if !finalizer.str().contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.str()) {
        finalizer.invalid(errors, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

pub fn namespace(namespace: &At<'_>, errors: &mut Errors) {
    let list = namespace.dig("spec.finalizers");
    for finalizer in list.items() {
        let place = list.with(finalizer.value());
        place.invalid_all(errors, names::is_qualified_name(finalizer.str()));
        short_finalizer(&place, errors);
    }
}

pub fn namespace_status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    let phase = new.dig("status.phase");
    let path = FieldPath::new("status").child("Phase");
    let deleted = new.get("metadata").has("deletionTimestamp");
    let (wanted, when) = if deleted { ("Terminating", "not empty") } else { ("Active", "empty") };
    if phase.str() != wanted {
        let text = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
        errors.push(FieldError::invalid(&path, phase.str(), text));
    }
}

pub fn namespace_finalize(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    for finalizer in new.dig("spec.finalizers").items() {
        finalizer.invalid_all(errors, names::is_qualified_name(finalizer.str()));
        short_finalizer(&finalizer, errors);
    }
}

/// All data of a config map or secret.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that base64 text stands for.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

pub fn config_map(map: &At<'_>, errors: &mut Errors) {
    let (data, binary) = (map.get("data"), map.get("binaryData"));
    let mut bytes = 0;
    for (key, value) in data.entries() {
        config_key(key).into_iter().for_each(|text| value.invalid_as(errors, key, text));
        if binary.has(key) {
            value.invalid_as(errors, key, "duplicate of key present in binaryData");
        }
        bytes += value.len();
    }
    for (key, value) in binary.entries() {
        config_key(key).into_iter().for_each(|text| value.invalid_as(errors, key, text));
        bytes += decoded_len(value.str());
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(FieldError::too_long(&FieldPath::new(""), DATA_BYTES_MAX));
    }
}

pub fn config_map_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    frozen(new, old, &["data", "binaryData"], errors);
}

fn frozen(new: &At<'_>, old: &At<'_>, fields: &[&'static str], errors: &mut Errors) {
    const TEXT: &str = "field is immutable when `immutable` is set";
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        new.get("immutable").forbidden(errors, TEXT);
    }
    for field in fields.iter().filter(|field| !same(new.get(field).value(), old.get(field).value())) {
        new.get(field).forbidden(errors, TEXT);
    }
}

pub fn secret(secret: &At<'_>, errors: &mut Errors) {
    let data = secret.get("data");
    let mut bytes = 0;
    for (key, value) in data.entries() {
        config_key(key).into_iter().for_each(|text| value.invalid_as(errors, key, text));
        bytes += decoded_len(value.str());
    }
    if bytes > DATA_BYTES_MAX {
        data.too_long(errors, DATA_BYTES_MAX);
    }
    let required = |keys: &[&'static str], errors: &mut Errors| {
        let missing: Vec<_> = keys.iter().filter(|key| !data.has(key)).collect();
        missing.iter().for_each(|key| data.key(key).required(errors, ""));
        missing.len()
    };
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            let name = secret.dig("metadata.annotations").key("kubernetes.io/service-account.name");
            if name.is_empty() {
                name.required(errors, "");
            }
        }
        "kubernetes.io/dockercfg" => json_value(&data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_value(&data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => {
            required(&["username", "password"], errors);
        }
        "kubernetes.io/ssh-auth" => {
            let key = data.key("ssh-privatekey");
            if key.is_empty() {
                key.required(errors, "");
            }
        }
        "kubernetes.io/tls" => {
            required(&["tls.crt", "tls.key"], errors);
        }
        _ => {}
    }
}

fn json_value(data: &At<'_>, key: &'static str, errors: &mut Errors) {
    let value = data.key(key);
    if !value.exists() {
        return value.required(errors, "");
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.str()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<Map<String, Value>>(&bytes) {
        let text = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        value.invalid_as(errors, "<secret contents redacted>", text);
    }
}

pub fn secret_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    new.get("type").immutable(errors, &old.get("type"));
    frozen(new, old, &["data"], errors);
}
