//! A schema as a tree: the structure apart from the validation of values.

use std::{collections::BTreeMap, sync::Arc};

use coracle_api_meta::Value;
use regex::Regex;
use serde_json::json;

use super::format;

/// A schema, or a part of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub ty: String,
    pub format: String,
    pub nullable: bool,
    /// Has a title or a description.
    pub described: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Node>,
    pub items: Option<Box<Node>>,
    pub additional: Option<Additional>,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: String,
    pub list_map_keys: Vec<String>,
    pub map_type: String,
    /// `x-kubernetes-validations`, as written.
    pub rules: Vec<Value>,
    /// The same, compiled.
    pub compiled: Option<Arc<super::rules::Rules>>,
    pub checks: Option<Box<Checks>>,
}

/// `additionalProperties`.
#[derive(Debug, Clone)]
pub(crate) enum Additional {
    Allowed(bool),
    Schema(Box<Node>),
}

/// Validation of values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    pub allowed: Vec<Value>,
    pub pattern: String,
    /// `None` when the pattern is malformed.
    pub regex: Option<Regex>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<usize>,
    pub min_length: Option<usize>,
    pub max_items: Option<usize>,
    pub min_items: Option<usize>,
    pub max_properties: Option<usize>,
    pub min_properties: Option<usize>,
    pub required: Vec<String>,
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Box<Node>>,
    /// `anyOf` is exactly integer or string.
    pub any_of_int_or_string: bool,
}

impl Node {
    /// Reads JSON; what is not understood is left out.
    pub fn read(schema: &Value) -> Self {
        let text = |key: &str| schema[key].as_str().unwrap_or_default().to_owned();
        let set = |key: &str| schema[key] == true;
        let ty = text("type");
        let int_or_string = set("x-kubernetes-int-or-string");
        let properties = schema["properties"].as_object().into_iter().flatten();
        Self {
            format: format::supported(&ty, int_or_string, &text("format")),
            ty,
            nullable: set("nullable"),
            described: !text("title").is_empty() || !text("description").is_empty(),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            properties: properties.map(|(name, schema)| (name.clone(), Self::read(schema))).collect(),
            items: schema["items"].is_object().then(|| Box::new(Self::read(&schema["items"]))),
            additional: match &schema["additionalProperties"] {
                Value::Bool(allowed) => Some(Additional::Allowed(*allowed)),
                Value::Object(_) => Some(Additional::Schema(Box::new(Self::read(&schema["additionalProperties"])))),
                _ => None,
            },
            preserve_unknown: set("x-kubernetes-preserve-unknown-fields"),
            embedded: set("x-kubernetes-embedded-resource"),
            int_or_string,
            list_type: text("x-kubernetes-list-type"),
            list_map_keys: strings(&schema["x-kubernetes-list-map-keys"]),
            map_type: text("x-kubernetes-map-type"),
            rules: schema["x-kubernetes-validations"].as_array().cloned().unwrap_or_default(),
            compiled: None,
            checks: Checks::read(schema).map(Box::new),
        }
    }

    /// The types a value may have; none means any.
    pub fn types(&self) -> &[&str] {
        match self.ty.as_str() {
            _ if self.int_or_string => &["integer", "string"],
            "object" => &["object"],
            "array" => &["array"],
            "string" => &["string"],
            "integer" => &["integer"],
            "number" => &["number"],
            "boolean" => &["boolean"],
            _ => &[],
        }
    }

    /// The schema of a field, by name or for all that have none of their own.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        })
    }
}

impl Checks {
    fn read(schema: &Value) -> Option<Self> {
        const KEYWORDS: [&str; 17] = [
            "enum",
            "pattern",
            "maximum",
            "minimum",
            "multipleOf",
            "maxLength",
            "minLength",
            "maxItems",
            "minItems",
            "maxProperties",
            "minProperties",
            "required",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "exclusiveMaximum",
        ];
        if !KEYWORDS.iter().any(|keyword| schema.get(keyword).is_some()) {
            return None;
        }
        let size = |key: &str| schema[key].as_u64().and_then(|size| usize::try_from(size).ok());
        let nodes = |key: &str| schema[key].as_array().into_iter().flatten().map(Node::read).collect();
        let pattern = schema["pattern"].as_str().unwrap_or_default().to_owned();
        Some(Self {
            allowed: schema["enum"].as_array().cloned().unwrap_or_default(),
            regex: if pattern.is_empty() { None } else { Regex::new(&pattern).ok() },
            pattern,
            maximum: schema["maximum"].as_f64(),
            exclusive_maximum: schema["exclusiveMaximum"] == true,
            minimum: schema["minimum"].as_f64(),
            exclusive_minimum: schema["exclusiveMinimum"] == true,
            multiple_of: schema["multipleOf"].as_f64(),
            max_length: size("maxLength"),
            min_length: size("minLength"),
            max_items: size("maxItems"),
            min_items: size("minItems"),
            max_properties: size("maxProperties"),
            min_properties: size("minProperties"),
            required: strings(&schema["required"]),
            all_of: nodes("allOf"),
            any_of: nodes("anyOf"),
            one_of: nodes("oneOf"),
            not: schema["not"].is_object().then(|| Box::new(Node::read(&schema["not"]))),
            any_of_int_or_string: schema["anyOf"] == json!([{ "type": "integer" }, { "type": "string" }]),
        })
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
