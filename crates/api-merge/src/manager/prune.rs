//! Taking away what a manager applied last time, applies no longer, and nobody else owns.

use std::collections::BTreeMap;

use coracle_api_meta::Value;

use super::entries::{Entry, Managed};
use super::updater::Updater;
use crate::fields::FieldSet;
use crate::typed::{Shape, Types, fields_of, remove_items, with_named_fields};

impl Updater<'_> {
    /// `managed` holds the new set of the applier already; `last` is its set of the last time.
    pub(crate) fn prune(&self, merged: Value, managed: &Managed, last: Option<&Entry>) -> Value {
        let Some(last) = last.filter(|last| !last.set.is_empty()) else { return merged };
        if last.api_version == self.api_version {
            return self.prune_at(self.types, self.shape, &last.api_version, merged, managed, last);
        }
        let Some(converted) = self.versions.convert(&merged, &last.api_version) else { return merged };
        let (types, shape) = (Types { schemas: converted.schemas }, converted.ty.map_or(Shape::Custom, Shape::Typed));
        let pruned = self.prune_at(types, shape, &last.api_version, converted.object, managed, last);
        self.versions.convert(&pruned, &self.api_version).map_or(merged, |back| back.object)
    }

    fn prune_at(
        &self,
        types: Types<'_>,
        shape: Shape,
        version: &str,
        merged: Value,
        managed: &Managed,
        last: &Entry,
    ) -> Value {
        // The common case: nothing was dropped, so there is nothing to take away.
        let at_version = || managed.values().filter(|entry| entry.api_version == version);
        if at_version().any(|entry| last.set.difference(&entry.set).is_empty()) {
            return merged;
        }
        let same_version = at_version().fold(FieldSet::new(), |all, entry| all.union(&entry.set));
        let place = Place { types, shape };
        let merged_set = place.named(&place.fields(&merged));
        let removed = remove_items(types, shape, &merged, &place.named(&last.set));
        let pruned = place.add_back(&merged, &merged_set, &removed, &same_version);
        let pruned = self.add_back_of_other_versions(version, &merged, pruned, managed);
        let pruned_set = place.named(&place.fields(&pruned));
        let gone = merged_set.difference(&pruned_set).intersection(&place.named(&last.set));
        remove_items(types, shape, &merged, &gone)
    }

    fn add_back_of_other_versions(&self, version: &str, merged: &Value, pruned: Value, managed: &Managed) -> Value {
        let mut sets: BTreeMap<&str, FieldSet> = BTreeMap::new();
        for entry in managed.values().filter(|entry| entry.api_version != version) {
            let set = sets.entry(&entry.api_version).or_default();
            *set = set.union(&entry.set);
        }
        let mut pruned = pruned;
        for (other, set) in sets {
            let (Some(all), Some(some)) = (self.versions.convert(merged, other), self.versions.convert(&pruned, other))
            else {
                continue;
            };
            let place =
                Place { types: Types { schemas: all.schemas }, shape: all.ty.map_or(Shape::Custom, Shape::Typed) };
            let kept = place.add_back(&all.object, &place.named(&place.fields(&all.object)), &some.object, &set);
            if let Some(back) = self.versions.convert(&kept, version) {
                pruned = back.object;
            }
        }
        pruned
    }
}

struct Place<'s> {
    types: Types<'s>,
    shape: Shape,
}

impl Place<'_> {
    fn fields(&self, object: &Value) -> FieldSet {
        fields_of(self.types, self.shape, object)
    }

    fn named(&self, set: &FieldSet) -> FieldSet {
        with_named_fields(self.types, Some(self.shape), set)
    }

    /// `merged` without what is neither in `pruned` nor owned. `merged_set` has the named fields of `merged`.
    fn add_back(&self, merged: &Value, merged_set: &FieldSet, pruned: &Value, owned: &FieldSet) -> Value {
        let kept = self.named(&self.fields(pruned)).union(&self.named(owned));
        remove_items(self.types, self.shape, merged, &merged_set.difference(&kept))
    }
}
