//! Owners of `spec.replicas`, between a resource and its `scale` subresource.

use coracle_api_meta::Value;

use super::entries::{self, Entry, Managed, Operation};
use crate::fields::{FieldSet, PathElement};

const SCALE_API_VERSION: &str = "autoscaling/v1";

/// Where a version of the resource has its replicas.
pub struct ScaleMapping<'a> {
    /// `apps/v1`
    pub api_version: &'a str,
    /// `["spec", "replicas"]`; empty when the version has no `scale`.
    pub path: &'a [&'a str],
}

fn path_of(names: &[&str]) -> Vec<PathElement> {
    names.iter().map(|name| PathElement::field(name)).collect()
}

fn only(path: &[PathElement]) -> FieldSet {
    let mut set = FieldSet::new();
    set.insert(path);
    set
}

/// The entries that `scale` shows: of the managers of the replicas, about the scale's own `spec.replicas`.
///
/// # Errors
/// A text in upstream's words when the entries cannot be read.
pub fn scale_to_subresource(parent: Option<&Value>, mappings: &[ScaleMapping<'_>]) -> Result<Option<Value>, String> {
    let replicas = path_of(&["spec", "replicas"]);
    let mut scale = Managed::new();
    for (id, entry) in entries::decode(parent)? {
        let mapping = mappings.iter().find(|mapping| mapping.api_version == entry.api_version);
        if mapping.is_some_and(|mapping| !mapping.path.is_empty() && entry.set.has(&path_of(mapping.path))) {
            let api_version = SCALE_API_VERSION.to_owned();
            scale.insert(id, Entry { set: only(&replicas), api_version, time: entry.time });
        }
    }
    Ok(entries::encode(&scale))
}

/// The resource's entries after a write to `scale` that left the scale with `scale` entries. `api_version` is that of the
/// resource in the request.
///
/// # Errors
/// A text in upstream's words when the entries cannot be read.
pub fn scale_to_parent(
    parent: Option<&Value>,
    scale: Option<&Value>,
    api_version: &str,
    mappings: &[ScaleMapping<'_>],
) -> Result<Option<Value>, String> {
    let mut scale: Vec<_> = entries::decode(scale)?.into_iter().collect();
    let mut out = Managed::new();
    for (id, mut entry) in entries::decode(parent)? {
        let Some(mapping) = mappings.iter().find(|mapping| mapping.api_version == entry.api_version) else { continue };
        let path = path_of(mapping.path);
        if entry.set.has(&path) {
            // Entries of updates name the version of what was written, which differs between the two.
            let kept = scale.iter().position(|(other, _)| {
                let same_version = id.operation == Operation::Apply || other.api_version == id.api_version;
                other.manager == id.manager
                    && other.operation == id.operation
                    && other.subresource == id.subresource
                    && (same_version || other.api_version == SCALE_API_VERSION)
            });
            match kept {
                Some(place) => drop(scale.remove(place)),
                None => entry.set = entry.set.difference(&only(&path)),
            }
        }
        if !entry.set.is_empty() {
            out.insert(id, entry);
        }
    }
    let path = mappings.iter().find(|mapping| mapping.api_version == api_version).map(|mapping| path_of(mapping.path));
    let replicas = path_of(&["spec", "replicas"]);
    for (mut id, entry) in scale.into_iter().filter(|(_, entry)| entry.set.has(&replicas)) {
        let Some(path) = &path else { continue };
        if id.operation == Operation::Update {
            id.api_version = api_version.to_owned();
        }
        out.insert(id, Entry { set: only(path), api_version: api_version.to_owned(), time: entry.time });
    }
    Ok(entries::encode(&out))
}
