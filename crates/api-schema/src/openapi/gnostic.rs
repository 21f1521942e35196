//! The swagger document as `openapi.v2.Document` of gnostic, which is the form that client-go asks for.
//!
//! Source: `github.com/google/gnostic-models/openapiv2/OpenAPIv2.proto` (field numbers).

use coracle_api_meta::{Map, Value};

use crate::proto::wire;

/// What clients accept. `@` may not stand in a media type, so the answer has another name.
pub const ACCEPTED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// Content type of [`encode`]'s answer; clients may accept it by this name too.
pub const CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

type Bytes = Vec<u8>;

/// Encodes what [`super::v2_document`] gives.
#[must_use]
pub fn encode(document: &Value) -> Bytes {
    let mut out = Vec::new();
    text(1, &document["swagger"], &mut out);
    message(2, &document["info"], &mut out, |info, out| {
        text(1, &info["title"], out);
        text(2, &info["version"], out);
    });
    message(8, &document["paths"], &mut out, |paths, out| named(2, paths, out, path_item));
    message(9, &document["definitions"], &mut out, |definitions, out| named(1, definitions, out, schema));
    for requirement in items(&document["security"]) {
        message(12, requirement, &mut out, |requirement, out| {
            named(1, requirement, out, |scopes, out| texts(1, scopes, out));
        });
    }
    message(13, &document["securityDefinitions"], &mut out, |definitions, out| {
        named(1, definitions, out, |definition, out| message(2, definition, out, api_key));
    });
    out
}

fn api_key(definition: &Value, out: &mut Bytes) {
    for (number, key) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
        text(number, &definition[key], out);
    }
}

fn path_item(item: &Value, out: &mut Bytes) {
    let methods = [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")];
    for (number, method) in methods {
        message(number, &item[method], out, operation);
    }
    for parameter in items(&item["parameters"]) {
        message(9, parameter, out, parameters_item);
    }
}

fn operation(operation: &Value, out: &mut Bytes) {
    texts(1, &operation["tags"], out);
    text(3, &operation["description"], out);
    text(5, &operation["operationId"], out);
    texts(6, &operation["produces"], out);
    texts(7, &operation["consumes"], out);
    for parameter in items(&operation["parameters"]) {
        message(8, parameter, out, parameters_item);
    }
    message(9, &operation["responses"], out, |responses, out| named(1, responses, out, response_value));
    texts(10, &operation["schemes"], out);
    extensions(13, operation, out);
}

fn response_value(response: &Value, out: &mut Bytes) {
    message(1, response, out, |response, out| {
        text(1, &response["description"], out);
        message(2, &response["schema"], out, |item, out| message(1, item, out, schema));
    });
}

fn parameters_item(parameter: &Value, out: &mut Bytes) {
    message(1, parameter, out, |parameter, out| {
        if parameter["in"] == "body" {
            message(1, parameter, out, body_parameter);
        } else {
            message(2, parameter, out, non_body_parameter);
        }
    });
}

fn body_parameter(parameter: &Value, out: &mut Bytes) {
    text(1, &parameter["description"], out);
    text(2, &parameter["name"], out);
    text(3, &parameter["in"], out);
    boolean(4, &parameter["required"], out);
    message(5, &parameter["schema"], out, schema);
}

fn non_body_parameter(parameter: &Value, out: &mut Bytes) {
    let in_path = parameter["in"] == "path";
    let (number, ty, unique) = if in_path { (4, 5, 19) } else { (3, 6, 20) };
    message(number, parameter, out, |parameter, out| {
        boolean(1, &parameter["required"], out);
        text(2, &parameter["in"], out);
        text(3, &parameter["description"], out);
        text(4, &parameter["name"], out);
        text(ty, &parameter["type"], out);
        boolean(unique, &parameter["uniqueItems"], out);
    });
}

fn schema(schema_value: &Value, out: &mut Bytes) {
    let value = schema_value;
    for (number, key) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description"), (13, "pattern")] {
        text(number, &value[key], out);
    }
    any(5, value.get("default"), out);
    for (number, key) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        if let Some(float) = value[key].as_f64() {
            wire::fixed64(number, float.to_le_bytes(), out);
        }
    }
    for (number, key) in [(8, "exclusiveMaximum"), (10, "exclusiveMinimum"), (16, "uniqueItems")] {
        boolean(number, &value[key], out);
    }
    let sizes = [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ];
    for (number, key) in sizes {
        if let Some(size) = value[key].as_u64() {
            wire::varint(number, size, out);
        }
    }
    texts(19, &value["required"], out);
    for allowed in items(&value["enum"]) {
        any(20, Some(allowed), out);
    }
    match &value["additionalProperties"] {
        Value::Bool(allowed) => {
            let mut item = Vec::new();
            wire::varint(2, u64::from(*allowed), &mut item);
            wire::bytes(21, &item, out);
        }
        additional => message(21, additional, out, |additional, out| message(1, additional, out, schema)),
    }
    if value["type"].is_string() {
        let mut item = Vec::new();
        text(1, &value["type"], &mut item);
        wire::bytes(22, &item, out);
    }
    message(23, &value["items"], out, |item, out| message(1, item, out, schema));
    for part in items(&value["allOf"]) {
        message(24, part, out, schema);
    }
    message(25, &value["properties"], out, |properties, out| named(1, properties, out, schema));
    extensions(31, value, out);
}

/// Writes a message when the value is an object.
fn message(number: u32, value: &Value, out: &mut Bytes, write: impl FnOnce(&Value, &mut Bytes)) {
    if value.is_object() {
        let mut inner = Vec::new();
        write(value, &mut inner);
        wire::bytes(number, &inner, out);
    }
}

/// Writes the fields of an object as repeated pairs of name and message.
fn named(number: u32, value: &Value, out: &mut Bytes, write: impl Fn(&Value, &mut Bytes)) {
    for (name, value) in value.as_object().unwrap_or(&Map::new()) {
        let (mut pair, mut inner) = (Vec::new(), Vec::new());
        write(value, &mut inner);
        wire::bytes(1, name.as_bytes(), &mut pair);
        wire::bytes(2, &inner, &mut pair);
        wire::bytes(number, &pair, out);
    }
}

fn extensions(number: u32, value: &Value, out: &mut Bytes) {
    for (name, value) in value.as_object().unwrap_or(&Map::new()).iter().filter(|(name, _)| name.starts_with("x-")) {
        let mut pair = Vec::new();
        wire::bytes(1, name.as_bytes(), &mut pair);
        any(2, Some(value), &mut pair);
        wire::bytes(number, &pair, out);
    }
}

/// `Any` holds YAML, which JSON is.
fn any(number: u32, value: Option<&Value>, out: &mut Bytes) {
    if let Some(value) = value {
        let mut inner = Vec::new();
        wire::bytes(2, format!("{value}\n").as_bytes(), &mut inner);
        wire::bytes(number, &inner, out);
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(number: u32, value: &Value, out: &mut Bytes) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        wire::bytes(number, text.as_bytes(), out);
    }
}

fn texts(number: u32, value: &Value, out: &mut Bytes) {
    for item in items(value).filter_map(Value::as_str) {
        wire::bytes(number, item.as_bytes(), out);
    }
}

fn boolean(number: u32, value: &Value, out: &mut Bytes) {
    if *value == true {
        wire::varint(number, 1, out);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_as_gnostic_writes_it() {
        let document = json!({ "swagger": "2.0", "definitions": { "a": {
            "type": "object", "required": ["b"], "properties": { "b": { "$ref": "#/definitions/c" } }, "x-k": [1] } } });
        let bytes = encode(&document);
        let has =
            |part: &[u8]| assert!(bytes.windows(part.len()).any(|window| window == part), "{part:x?} in {bytes:x?}");
        // Document: swagger = 1, definitions = 9.
        assert!(bytes.starts_with(b"\x0a\x032.0\x4a"), "{bytes:x?}");
        // Schema: required = 19, type = 22 { value = 1 }, properties = 25, vendor_extension = 31 { name, value { yaml } }.
        has(b"\x9a\x01\x01b");
        has(b"\xb2\x01\x08\x0a\x06object");
        has(b"\xca\x01\x18\x0a\x16\x0a\x01b\x12\x11\x0a\x0f#/definitions/c");
        has(b"\xfa\x01\x0d\x0a\x03x-k\x12\x06\x12\x04[1]\n");
    }
}
