//! All resources that are served now: the catalogue's and those of custom resource definitions.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvk, Gvr, Value};
use coracle_api_schema::crd::Compiled;
use coracle_api_types::catalogue::{self, CATALOGUE};
use coracle_store::Store;

use super::definition::Definition;
use super::fields::Facts;

pub(crate) const CRDS: &str = "apiextensions.k8s.io/customresourcedefinitions";

#[derive(Debug, Clone)]
pub(crate) struct Subresource {
    pub name: String,
    pub kind: String,
    /// Empty where it is the resource's own.
    pub kind_group_version: String,
    pub verbs: Vec<String>,
}

/// What is particular about a version of a custom resource.
#[derive(Debug, Clone)]
pub(crate) struct Custom {
    pub definition: Arc<Definition>,
    /// Index of the row's version in the definition.
    pub version: usize,
    pub columns: Vec<Value>,
    pub scale: Option<Value>,
    pub selectable: Vec<String>,
    pub has_status: bool,
    pub deprecated: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub list_kind: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    /// False for reviews and other kinds that only answer.
    pub stored: bool,
    /// Of the store. Several versions, and both kinds of events, share one.
    pub collection: Arc<str>,
    /// The form that objects are stored in.
    pub storage: Gvk,
    pub custom: Option<Arc<Custom>>,
}

impl Resource {
    pub(crate) fn gvr(&self) -> Gvr {
        Gvr::new(&self.group, &self.version, &self.plural)
    }

    pub(crate) fn gvk(&self) -> Gvk {
        Gvk::new(&self.group, &self.version, &self.kind)
    }

    fn path(&self) -> (&str, &str, &str) {
        (&self.group, &self.version, &self.plural)
    }

    pub(crate) fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Objects are served in the form they are stored in.
    pub(crate) fn is_storage_form(&self) -> bool {
        self.storage.version == self.version && self.storage.group == self.group
    }

    /// The compiled schema of a custom resource's version.
    pub(crate) fn compiled(&self) -> Option<&Compiled> {
        let custom = self.custom.as_ref()?;
        custom.definition.compiled(custom.version)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Events and leases: acknowledged before they are on disk.
    pub(crate) fn is_relaxed(&self) -> bool {
        self.is_event() || self.is("coordination.k8s.io", "leases")
    }

    pub(crate) fn is_event(&self) -> bool {
        self.plural == "events" && (self.group.is_empty() || self.group == "events.k8s.io")
    }
}

/// The rows and how to find them. Replaced whole when a custom resource definition changes.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    rows: Vec<Arc<Resource>>,
    /// Places of rows, ordered by group, version and plural.
    index: Vec<usize>,
}

/// A collection name: `pods`, `apps/deployments`.
pub(crate) fn collection(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{group}/{plural}") }
}

impl Resources {
    fn new(rows: Vec<Arc<Resource>>) -> Self {
        let mut index: Vec<usize> = (0..rows.len()).collect();
        index.sort_by(|a, b| rows[*a].path().cmp(&rows[*b].path()));
        Self { rows, index }
    }

    /// The catalogue and the definitions that the store holds.
    pub(crate) fn with_custom(store: &dyn Store, metrics: bool) -> Self {
        let mut rows: Vec<Arc<Resource>> =
            CATALOGUE.iter().filter(|row| row.served_by_default).map(|row| Arc::new(built_in(row))).collect();
        let definitions = rows.iter().find(|row| &*row.collection == CRDS).cloned();
        if let Some(definitions) = definitions {
            let entries = store.local_range(CRDS, "");
            rows.extend(entries.iter().flat_map(|entry| Facts::described(&definitions, entry).rows.clone()));
        }
        if metrics {
            rows.extend(super::computed::rows().iter().cloned());
        }
        Self::new(rows)
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let wanted = (group, version, plural);
        let place = self.index.partition_point(|at| self.rows[*at].path() <= wanted).checked_sub(1)?;
        let row = self.rows.get(*self.index.get(place)?)?;
        (row.path() == wanted).then(|| Arc::clone(row))
    }

    /// The row that serves a kind.
    pub(crate) fn find_kind(&self, gvk: &Gvk) -> Option<Arc<Resource>> {
        let serves =
            |row: &&Arc<Resource>| row.kind == gvk.kind && row.group == gvk.group && row.version == gvk.version;
        self.rows.iter().find(serves).cloned()
    }

    /// Any version of a group's resource.
    pub(crate) fn any_version(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.rows.iter().find(|row| row.group == group && row.plural == plural).cloned()
    }

    pub(crate) fn all(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// One row for each stored collection.
    pub(crate) fn stored(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.rows.iter().filter(|row| row.stored && row.is_storage_form())
    }

    /// Groups and their versions in discovery order.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for row in &self.rows {
            let at = groups.iter().position(|(group, _)| *group == row.group).unwrap_or_else(|| {
                groups.push((row.group.clone(), Vec::new()));
                groups.len() - 1
            });
            if !groups[at].1.contains(&row.version) {
                groups[at].1.push(row.version.clone());
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        }
        groups
    }
}

/// GA before beta before alpha, higher before lower. Source: `version.CompareKubeAwareVersionStrings`.
pub(crate) fn version_rank(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let Ok(major) = digits.parse::<u32>() else { return (0, 0, 0) };
    let tail = &rest[digits.len()..];
    if tail.is_empty() {
        return (3, major, 0);
    }
    let staged = [("beta", 2), ("alpha", 1)].into_iter().find_map(|(name, rank)| {
        let minor = tail.strip_prefix(name)?;
        Some((rank, major, if minor.is_empty() { 0 } else { minor.parse().ok()? }))
    });
    staged.unwrap_or((0, 0, 0))
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn built_in(row: &catalogue::Resource) -> Resource {
    let storage = super::objects::storage_version(&row.gvk());
    let stored = row.verbs.contains(&"get") && row.plural != "componentstatuses";
    let subresources = row.subresources.iter().map(|sub| Subresource {
        name: sub.name.to_owned(),
        kind: sub.kind.to_owned(),
        kind_group_version: sub.kind_group_version.to_owned(),
        verbs: texts(sub.verbs),
    });
    Resource {
        group: row.group.to_owned(),
        version: row.version.to_owned(),
        plural: row.plural.to_owned(),
        kind: row.kind.to_owned(),
        list_kind: format!("{}List", row.kind),
        singular: row.singular.to_owned(),
        short_names: texts(row.short_names),
        categories: texts(row.categories),
        namespaced: row.namespaced,
        verbs: texts(row.verbs),
        subresources: subresources.collect(),
        stored,
        collection: collection(&storage.group, row.plural).into(),
        storage,
        custom: None,
    }
}

/// The key of an object within its collection.
pub(crate) fn item_name(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// As [`item_name`], from the object.
pub(crate) fn item_name_of(object: &Value) -> String {
    item_name(object.namespace(), object.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ranked() {
        let mut versions = ["v1alpha1", "v2", "foo", "v1beta2", "v1", "v1beta1", "v10"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }

    #[test]
    fn groups_come_in_discovery_order() {
        let rows = CATALOGUE.iter().filter(|row| row.served_by_default).map(|row| Arc::new(built_in(row)));
        let groups = Resources::new(rows.collect()).groups();
        let first: Vec<&str> = groups.iter().take(4).map(|(group, _)| group.as_str()).collect();
        assert_eq!(first, ["", "apiregistration.k8s.io", "apps", "events.k8s.io"]);
        let autoscaling = groups.iter().find(|(group, _)| group == "autoscaling").expect("group");
        assert_eq!(autoscaling.1, ["v2", "v1"]);
    }
}
