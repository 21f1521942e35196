//! Ownership after a change: fields that changed move to who changed them, fields that are gone are nobody's.

use std::collections::BTreeMap;

use coracle_api_meta::Value;

use super::conflict::Conflict;
use super::entries::{Entry, Managed, ManagerId};
use super::versions::Versions;
use crate::fields::{FieldFilter, FieldSet, PathElement};
use crate::typed::{Delta, Form, Shape, Types, compare, reconcile};

pub(crate) struct Updater<'a> {
    pub types: Types<'a>,
    pub shape: Shape,
    pub api_version: String,
    pub filter: &'a FieldFilter,
    pub versions: &'a dyn Versions,
}

impl Updater<'_> {
    /// Takes the fields that changed from all managers but `workflow`.
    ///
    /// # Errors
    /// The conflicts, when `force` is not set and others own changed fields. `managed` is left as it was then.
    pub(crate) fn take_changed(
        &self,
        live: &Value,
        (new, form): (&Value, Form),
        managed: &mut Managed,
        workflow: Option<&ManagerId>,
        force: bool,
    ) -> Result<Delta, Vec<Conflict>> {
        let delta = self.filtered(compare(self.types, self.shape, (live, Form::Stored), (new, form)));
        let mut other_versions: BTreeMap<String, Option<Delta>> = BTreeMap::new();
        let mut taken: Vec<(ManagerId, FieldSet)> = Vec::new();
        let mut gone: Vec<ManagerId> = Vec::new();
        let mut conflicts = Vec::new();
        for (id, entry) in managed.iter().filter(|(id, _)| Some(*id) != workflow) {
            let changes = if entry.api_version == self.api_version {
                Some(&delta)
            } else {
                let version = &entry.api_version;
                let changes =
                    other_versions.entry(version.clone()).or_insert_with(|| self.at(version, live, (new, form)));
                changes.as_ref()
            };
            let Some(changes) = changes else {
                gone.push(id.clone());
                continue;
            };
            let mut lost = entry.set.intersection(&changes.modified);
            lost.absorb(entry.set.intersection(&changes.added));
            if !force {
                lost.each_path(&mut |path| conflicts.push(Conflict::new(id, path)));
            }
            let removed = entry.set.intersection(&changes.removed);
            if !lost.is_empty() || !removed.is_empty() {
                lost.absorb(removed);
                taken.push((id.clone(), lost));
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        for id in gone {
            managed.remove(&id);
        }
        for (id, set) in taken {
            if let Some(entry) = managed.get_mut(&id) {
                entry.set.subtract(&set);
            }
        }
        managed.retain(|_, entry| !entry.set.is_empty());
        Ok(delta)
    }

    fn filtered(&self, delta: Delta) -> Delta {
        Delta {
            removed: self.filter.apply(delta.removed),
            modified: self.filter.apply(delta.modified),
            added: self.filter.apply(delta.added),
        }
    }

    fn at(&self, api_version: &str, live: &Value, (new, form): (&Value, Form)) -> Option<Delta> {
        let live = self.versions.convert(live, api_version)?;
        let new = self.versions.convert(new, api_version)?;
        let shape = live.ty.map_or(Shape::Custom, Shape::Typed);
        let types = Types { schemas: live.schemas };
        Some(self.filtered(compare(types, shape, (&live.object, Form::Stored), (&new.object, form))))
    }

    /// Sets written under an older schema, seen under today's.
    pub(crate) fn reconcile(&self, managed: &mut Managed) {
        for entry in managed.values_mut().filter(|entry| entry.api_version == self.api_version) {
            if let Some(set) = reconcile(self.types, self.shape, &entry.set) {
                entry.set = set;
            }
        }
    }

    /// The fields that a write other than apply changed; the caller owns them from now on.
    pub(crate) fn update(&self, live: &Value, new: &Value, managed: &mut Managed) -> FieldSet {
        self.reconcile(managed);
        // Without a workflow of its own the caller's earlier entry loses the fields too, and gets them back with the time.
        let delta = self.take_changed(live, (new, Form::Stored), managed, None, true).unwrap_or_default();
        let mut changed = delta.modified;
        changed.absorb(delta.added);
        changed
    }

    /// An entry without a time.
    pub(crate) fn entry(&self, set: FieldSet) -> Entry {
        Entry { set, api_version: self.api_version.clone(), time: None }
    }
}

/// Takes out the fields that are never managed.
pub(crate) fn without_meta(mut set: FieldSet) -> FieldSet {
    static NEVER: std::sync::LazyLock<FieldSet> = std::sync::LazyLock::new(|| {
        let metadata = [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ];
        let mut set = FieldSet::of_fields(&[&["apiVersion"], &["kind"], &["metadata"]]);
        for field in metadata {
            set.insert(&[PathElement::field("metadata"), PathElement::field(field)]);
        }
        set
    });
    set.subtract(&NEVER);
    set
}
