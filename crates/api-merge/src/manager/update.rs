//! Writes that are not apply: create, update, and the other patches.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::cap::cap_update_managers;
use super::entries::{self, Managed, Operation};
use super::updater::without_meta;
use super::{FieldManager, write_managed};

impl FieldManager<'_> {
    /// Sets `metadata.managedFields` of `new` to what it is after `manager` made `new` of `live` (`None`: it is created). Call
    /// it after patching and defaulting, before admission.
    ///
    /// Entries in `new` count as the client's wish, except on subresources: an empty list or one empty entry drops all
    /// entries; those that cannot be read give way to those of `live`.
    pub fn update(&self, live: Option<&Value>, new: &mut Value, manager: &str) {
        if !new.get("metadata").is_some_and(Value::is_object) {
            return;
        }
        let mut managed = self.decode_live_or_new(live, new);
        new.remove_meta("managedFields");
        // Objects that nobody tracked before are not tracked from their first change on.
        let is_create = live.is_none_or(|live| live.uid().is_empty());
        if !managed.is_empty() || is_create {
            self.update_managed(live, new, &mut managed, manager);
        }
        write_managed(new, &managed);
    }

    fn decode_live_or_new(&self, live: Option<&Value>, new: &Value) -> Managed {
        let live = live.and_then(|live| live.at(&["metadata", "managedFields"]));
        let of_live = || entries::decode(live).unwrap_or_default();
        if !self.subresource.is_empty() {
            return of_live();
        }
        let given = new.at(&["metadata", "managedFields"]);
        if entries::is_reset(given) {
            return Managed::new();
        }
        entries::decode(given).ok().filter(|managed| !managed.is_empty()).unwrap_or_else(of_live)
    }

    pub(super) fn update_managed(&self, live: Option<&Value>, new: &Value, managed: &mut Managed, manager: &str) {
        let nothing = Value::Object(coracle_api_meta::Map::new());
        let updater = self.updater();
        let changed = updater.update(live.unwrap_or(&nothing), new, managed);
        let mut changed = without_meta(self.filter.apply(changed));
        if !changed.is_empty() {
            let id = self.id(manager, Operation::Update);
            if let Some(before) = managed.remove(&id) {
                changed.absorb(before.set);
            }
            let mut entry = updater.entry(changed);
            entry.time = Some(self.time.to_owned());
            managed.insert(id, entry);
        }
        cap_update_managers(managed);
    }
}
