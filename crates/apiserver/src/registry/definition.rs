//! A custom resource definition as its rows share it: versions, compiled when they are first needed, and conversion.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use coracle_api_schema::crd::{self as schema, Compiled};
use coracle_store::{Entry, Revision};

use crate::outgoing::Hook;

/// What the rows of one stored version of a definition have in common.
pub(crate) struct Definition {
    /// The definition itself, shared with the store. Its schemas are read from here when they are needed.
    bytes: Bytes,
    /// When it was last written: objects written later were checked against it.
    changed: Revision,
    /// `<plural>.<group>`.
    pub name: String,
    pub kind: String,
    pub versions: Vec<Version>,
    /// Index of the version that objects are stored in.
    pub storage: usize,
    /// Asked to convert, or why it cannot be asked. `None`: versions differ by their names alone.
    pub webhook: Option<Result<Webhook, String>>,
    pub terminating: bool,
}

pub(crate) struct Version {
    pub name: String,
    /// `stable.example.com/v1`.
    pub api_version: String,
    /// How the bytes of objects in this version begin.
    head: String,
    compiled: OnceLock<Compiled>,
}

/// `spec.conversion.webhook`.
pub(crate) struct Webhook {
    pub hook: Hook,
    /// `v1` or `v1beta1`; `None` when none of the named ones is known.
    pub review_version: Option<&'static str>,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Definition({} at {})", self.name, self.changed)
    }
}

fn versions(definition: &Value) -> &[Value] {
    definition.at(&["spec", "versions"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Definition {
    /// `None` without a version to store objects in.
    pub(crate) fn read(definition: &Value, entry: &Entry) -> Option<Self> {
        let group = definition.str_at(&["spec", "group"]);
        let kind = definition.str_at(&["spec", "names", "kind"]);
        let version = |version: &Value| {
            let name = version.str_at(&["name"]).to_owned();
            let api_version = format!("{group}/{name}");
            let head =
                format!("{{\"kind\":{},\"apiVersion\":{},", Value::from(kind), Value::from(api_version.as_str()));
            Version { name, api_version, head, compiled: OnceLock::new() }
        };
        Some(Self {
            bytes: entry.value.clone(),
            changed: entry.modified,
            name: definition.name().to_owned(),
            kind: kind.to_owned(),
            storage: versions(definition).iter().position(|own| own.get("storage") == Some(&Value::Bool(true)))?,
            versions: versions(definition).iter().map(version).collect(),
            webhook: webhook(definition),
            terminating: !definition.meta_str("deletionTimestamp").is_empty(),
        })
    }

    /// Changes whenever the definition does.
    pub(crate) fn changed(&self) -> Revision {
        self.changed
    }

    /// The `openAPIV3Schema` of a version, read anew.
    pub(crate) fn schema(&self, version: usize) -> Value {
        let mut definition = serde_json::from_slice::<Value>(&self.bytes).unwrap_or_default();
        let place = definition.pointer_mut(&format!("/spec/versions/{version}/schema/openAPIV3Schema"));
        place.map(Value::take).unwrap_or_default()
    }

    /// The schema of a version, ready for objects.
    pub(crate) fn compiled(&self, version: usize) -> Option<&Compiled> {
        let own = self.versions.get(version)?;
        Some(own.compiled.get_or_init(|| match self.schema(version) {
            Value::Null => schema::schemaless(),
            schema => schema::compile_stored(&schema),
        }))
    }

    /// Which version stored bytes are in; `None` when the definition has it no more.
    pub(crate) fn version_of(&self, bytes: &[u8]) -> Option<usize> {
        self.versions.iter().position(|version| bytes.starts_with(version.head.as_bytes()))
    }

    /// Whether an entry can be served in a version as it stands: written in it, under this very definition.
    pub(crate) fn serves_as_stored(&self, version: usize, entry: &Entry) -> bool {
        let in_version = self.versions.get(version).is_some_and(|own| entry.value.starts_with(own.head.as_bytes()));
        in_version && entry.modified > self.changed
    }
}

fn webhook(definition: &Value) -> Option<Result<Webhook, String>> {
    let conversion = definition.at(&["spec", "conversion"]).filter(|own| own.str_at(&["strategy"]) == "Webhook")?;
    let config = conversion.at(&["webhook", "clientConfig"]).unwrap_or(&Value::Null);
    let named = conversion.at(&["webhook", "conversionReviewVersions"]).and_then(Value::as_array);
    let known = |name: &Value| match name.as_str() {
        Some("v1") => Some("v1"),
        Some("v1beta1") => Some("v1beta1"),
        _ => None,
    };
    let review_version = named.into_iter().flatten().find_map(known);
    Some(Hook::read(config).map(|hook| Webhook { hook, review_version }))
}
