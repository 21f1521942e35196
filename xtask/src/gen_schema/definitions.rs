//! What the OpenAPI definitions know and the Go sources do not say in one place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;

pub type Definitions = BTreeMap<String, Definition>;

#[derive(Debug, Default)]
pub struct Definition {
    pub atomic: bool,
    pub properties: BTreeMap<String, Property>,
    /// Group, version, kind.
    pub kinds: Vec<(String, String, String)>,
}

#[derive(Debug, Default)]
pub struct Property {
    pub required: bool,
    /// `set`, `map:<keys>` or empty.
    pub list: String,
    pub atomic: bool,
    pub granular: bool,
    pub merge: bool,
    pub retain_keys: bool,
    pub merge_key: String,
    /// Type of the property as this table writes it.
    pub ty: String,
}

pub fn read(path: &Path) -> Result<Definitions> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let document: Value = serde_json::from_slice(&text)?;
    let definitions = document["$defs"].as_object().context("no $defs")?;
    Ok(definitions.iter().map(|(name, value)| (name.clone(), definition(value))).collect())
}

fn definition(value: &Value) -> Definition {
    let required: BTreeSet<&str> = strings(&value["required"]).collect();
    let properties = value["properties"].as_object().into_iter().flatten();
    let kinds = value["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
    Definition {
        atomic: value["x-kubernetes-map-type"] == "atomic",
        properties: properties.map(|(name, p)| (name.clone(), property(p, required.contains(name.as_str())))).collect(),
        kinds: kinds.map(|k| (text(&k["group"]), text(&k["version"]), text(&k["kind"]))).collect(),
    }
}

fn property(value: &Value, required: bool) -> Property {
    let strategy = text(&value["x-kubernetes-patch-strategy"]);
    let list = match value["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            format!("map:{}", strings(&value["x-kubernetes-list-map-keys"]).collect::<Vec<_>>().join(","))
        }
        Some("set") => "set".to_owned(),
        _ => String::new(),
    };
    Property {
        required,
        list,
        atomic: value["x-kubernetes-map-type"] == "atomic",
        granular: value["x-kubernetes-map-type"] == "granular",
        merge: strategy.split(',').any(|s| s == "merge"),
        retain_keys: strategy.split(',').any(|s| s == "retainKeys"),
        merge_key: text(&value["x-kubernetes-patch-merge-key"]),
        ty: type_of(value),
    }
}

fn type_of(value: &Value) -> String {
    if let Some(reference) = value["$ref"].as_str() {
        return match reference.trim_start_matches("#/$defs/") {
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => "time".to_owned(),
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => "microtime".to_owned(),
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => "quantity".to_owned(),
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "intorstring".to_owned(),
            name => name.to_owned(),
        };
    }
    let kind = match &value["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
        kind => kind.as_str().unwrap_or_default(),
    };
    match (kind, value["format"].as_str().unwrap_or_default()) {
        ("array", _) => format!("[]{}", type_of(&value["items"])),
        ("object", _) if value["additionalProperties"].is_object() => {
            format!("{{}}{}", type_of(&value["additionalProperties"]))
        }
        ("object", _) => "any".to_owned(),
        ("string", "byte") => "bytes".to_owned(),
        ("integer", "") => "integer".to_owned(),
        ("integer", format) => format.to_owned(),
        ("number", _) => "double".to_owned(),
        (kind, _) => kind.to_owned(),
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
