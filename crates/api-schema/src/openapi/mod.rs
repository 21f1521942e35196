//! OpenAPI documents of what a server serves: v3 per group and version, v2 for all together.
//!
//! Documents are made on demand from the schemas and a list of [`Served`] resources, built-in and custom alike, and are
//! not kept: who serves them caches their compressed bytes under [`hash`]. With many custom resources they are large, so that
//! [`write`](fn@write) makes them piece by piece.

mod custom;
mod describe;
pub mod gnostic;
mod paths;
mod schema;

use std::collections::BTreeSet;
use std::io;

use coracle_api_meta::{GroupVersion, Gvk, Map, Value};
use coracle_api_types::catalogue;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::model::Schemas;

/// A resource of one group and version as the documents show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    pub plural: String,
    pub kind: String,
    /// `PodList`.
    pub list_kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<ServedSubresource>,
    /// `openAPIV3Schema` of a custom resource; built-in kinds have theirs in the table.
    pub custom: Option<Value>,
    /// Changes whenever the schema does.
    pub fingerprint: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServedSubresource {
    pub name: String,
    pub gvk: Gvk,
    pub verbs: Vec<String>,
}

impl Served {
    /// A row of the catalogue.
    #[must_use]
    pub fn builtin(row: &catalogue::Resource) -> Self {
        let subresource = |sub: &catalogue::Subresource| {
            let (group, version) = match sub.kind_group_version.rsplit_once('/') {
                Some(pair) => pair,
                None if sub.kind_group_version.is_empty() => (row.group, row.version),
                None => ("", sub.kind_group_version),
            };
            ServedSubresource {
                name: sub.name.to_owned(),
                gvk: Gvk::new(group, version, sub.kind),
                verbs: sub.verbs.iter().map(ToString::to_string).collect(),
            }
        };
        Self {
            plural: row.plural.to_owned(),
            kind: row.kind.to_owned(),
            list_kind: format!("{}List", row.kind),
            namespaced: row.namespaced,
            verbs: row.verbs.iter().map(ToString::to_string).collect(),
            subresources: row.subresources.iter().map(subresource).collect(),
            custom: None,
            fingerprint: String::new(),
        }
    }
}

/// Which document the parts are for; references and parameters differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        let folder = if self == Self::V2 { "definitions" } else { "components/schemas" };
        json!({ "$ref": format!("#/{folder}/{name}") })
    }
}

/// `api/v1`, `apis/apps/v1`: the document's key in the index and its path under `/openapi/v3/`.
#[must_use]
pub fn path_of(gv: &GroupVersion) -> String {
    if gv.group.is_empty() { format!("api/{}", gv.version) } else { format!("apis/{}/{}", gv.group, gv.version) }
}

/// What changes whenever the document does: the `hash` of its URL and its `ETag`. Cheap; renders nothing.
#[must_use]
pub fn hash(gv: &GroupVersion, resources: &[Served]) -> String {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(format!("{gv:?}"));
    for resource in resources {
        digest.update(format!("{:?}", Served { custom: None, ..resource.clone() }));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The answer of `/openapi/v3`.
#[must_use]
pub fn v3_index<'a>(documents: impl Iterator<Item = (&'a GroupVersion, String)>) -> Value {
    let paths: Map = documents
        .map(|(gv, hash)| {
            let path = path_of(gv);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// The document of one group and version.
#[must_use]
pub fn v3_document(schemas: &Schemas, gv: &GroupVersion, resources: &[Served]) -> Value {
    let mut parts = Parts::new(schemas, Dialect::V3);
    parts.add(gv, resources);
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": parts.paths,
        "components": {
            "schemas": parts.definitions,
            "securitySchemes": { "BearerToken": { "type": "apiKey", "in": "header", "name": "authorization" } },
        },
    })
}

/// The swagger document of everything.
#[must_use]
pub fn v2_document<'a>(
    schemas: &Schemas,
    version: &str,
    versions: impl Iterator<Item = (&'a GroupVersion, &'a [Served])>,
) -> Value {
    let mut parts = Parts::new(schemas, Dialect::V2);
    for (gv, resources) in versions {
        parts.add(gv, resources);
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": version },
        "paths": parts.paths,
        "definitions": parts.definitions,
        "securityDefinitions": { "BearerToken": { "type": "apiKey", "in": "header", "name": "authorization" } },
        "security": [{ "BearerToken": [] }],
    })
}

/// Which document is written.
#[derive(Debug, Clone, Copy)]
pub enum Document<'a> {
    /// The swagger document of everything, with the version of the server.
    V2(&'a str),
    /// The document of one group and version.
    V3,
}

/// Writes a document of custom and built-in resources; custom ones are made one by one and let go. `make` gives a resource
/// with its schema, or without where only its paths are wanted.
pub fn write<T>(
    document: Document<'_>,
    schemas: &Schemas,
    versions: &[(GroupVersion, Vec<T>)],
    is_custom: &dyn Fn(&T) -> bool,
    make: &dyn Fn(&T, bool) -> Served,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let dialect = if matches!(document, Document::V3) { Dialect::V3 } else { Dialect::V2 };
    let mut parts = Parts::new(schemas, dialect);
    let mut custom = Vec::new();
    for (gv, rows) in versions {
        let own: Vec<Served> = rows.iter().filter(|row| !is_custom(row)).map(|row| make(row, true)).collect();
        parts.add(gv, &own);
        custom.extend(rows.iter().filter(|row| is_custom(row)).map(|row| (gv, row)));
    }
    let start = match document {
        Document::V2(version) => json!({ "swagger": "2.0", "info": { "title": "Kubernetes", "version": version } }),
        Document::V3 => json!({ "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "unversioned" } }),
    };
    out.write_all(start.to_string().trim_end_matches('}').as_bytes())?;
    out.write_all(b"},\"paths\":{")?;
    let mut first = true;
    let mut known: BTreeSet<String> = BTreeSet::new();
    put_all(&parts.paths, &mut known, &mut first, out)?;
    let name_of = |gvk: &Gvk| component_of(schemas, gvk);
    for (gv, row) in &custom {
        let mut own = Map::new();
        paths::add(dialect, gv, &[make(row, false)], &name_of, &mut own);
        put_all(&own, &mut known, &mut first, out)?;
    }
    let (open, security) = match document {
        Document::V2(_) => ("},\"definitions\":{", "securityDefinitions"),
        Document::V3 => ("},\"components\":{\"schemas\":{", "securitySchemes"),
    };
    out.write_all(open.as_bytes())?;
    (first, known) = (true, BTreeSet::new());
    put_all(&parts.definitions, &mut known, &mut first, out)?;
    for (gv, row) in &custom {
        let (mut own, resource) = (Map::new(), make(row, true));
        custom::add(dialect, gv, &resource, resource.custom.as_ref().unwrap_or(&Value::Null), &mut own);
        put_all(&own, &mut known, &mut first, out)?;
    }
    let token = json!({ "BearerToken": { "type": "apiKey", "in": "header", "name": "authorization" } });
    write!(out, "}},\"{security}\":{token}")?;
    out.write_all(if dialect == Dialect::V2 { b",\"security\":[{\"BearerToken\":[]}]}" } else { b"}}" })
}

/// Writes the entries of a map that were not written before.
fn put_all(entries: &Map, known: &mut BTreeSet<String>, first: &mut bool, out: &mut dyn io::Write) -> io::Result<()> {
    for (name, value) in entries {
        if known.insert(name.clone()) {
            let comma = if std::mem::replace(first, false) { "" } else { "," };
            write!(out, "{comma}{}:{value}", Value::from(name.as_str()))?;
        }
    }
    Ok(())
}

/// A document in the making.
struct Parts<'s> {
    schemas: &'s Schemas,
    dialect: Dialect,
    paths: Map,
    definitions: Map,
}

impl<'s> Parts<'s> {
    fn new(schemas: &'s Schemas, dialect: Dialect) -> Self {
        Self { schemas, dialect, paths: Map::new(), definitions: Map::new() }
    }

    fn add(&mut self, gv: &GroupVersion, resources: &[Served]) {
        let schemas = self.schemas;
        paths::add(self.dialect, gv, resources, &|gvk: &Gvk| component_of(schemas, gvk), &mut self.paths);
        let mut roots: Vec<String> = schema::SHARED.iter().map(ToString::to_string).collect();
        for resource in resources {
            let mut kinds = vec![(gv.clone(), resource.kind.as_str())];
            if resource.verbs.iter().any(|verb| verb == "list") {
                kinds.push((gv.clone(), resource.list_kind.as_str()));
            }
            let subresources = resource.subresources.iter();
            kinds.extend(subresources.map(|sub| (sub.gvk.group_version(), sub.gvk.kind.as_str())));
            for (gv, kind) in kinds {
                roots.extend(builtin_name(schemas, &gv, kind));
            }
            if let Some(schema) = &resource.custom {
                custom::add(self.dialect, gv, resource, schema, &mut self.definitions);
            }
        }
        schema::add(self.schemas, self.dialect, gv, &roots, &mut self.definitions);
    }
}

/// Component of a built-in kind.
fn builtin_name(schemas: &Schemas, gv: &GroupVersion, kind: &str) -> Option<String> {
    let ty = schemas.kind(&Gvk::new(gv.group.clone(), gv.version.clone(), kind))?;
    schemas.as_struct(ty).map(|ty| ty.name.clone())
}

/// Component of a kind that an operation refers to.
fn component_of(schemas: &Schemas, gvk: &Gvk) -> String {
    let gv = gvk.group_version();
    builtin_name(schemas, &gv, &gvk.kind).unwrap_or_else(|| custom::name(&gv, &gvk.kind))
}
