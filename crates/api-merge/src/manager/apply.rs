//! Server-side apply.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::conflict::{ApplyError, Conflict};
use super::entries::{self, Entry, Managed, ManagerId, Operation};
use super::updater::without_meta;
use super::{FieldManager, last_applied, without_managed, write_managed};
use crate::fields::FieldSet;
use crate::typed::{Form, fields_of, merge, validate};
use crate::values;

/// Owns the fields that were there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager that takes over from client-side apply.
const KUBECTL: &str = "kubectl";

impl FieldManager<'_> {
    /// Applies a configuration: the live object with what `applied` says, without what `manager` applied before and nobody
    /// owns now, and with its `metadata.managedFields`. `live` is `None` when the object is created. The caller defaults,
    /// admits and validates the object after that.
    ///
    /// # Errors
    /// [`ApplyError::Conflicts`] when others own what would change and `force` is not set; [`ApplyError::BadRequest`] for
    /// another kind or version, or with `managedFields` in the configuration; [`ApplyError::Failed`] when the configuration
    /// does not fit the schema, has an item of an associative list twice, or the live entries cannot be read.
    pub fn apply(
        &self,
        live: Option<&Value>,
        applied: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApplyError> {
        self.check_applied(applied)?;
        let live_entries = live.and_then(|live| live.at(&["metadata", "managedFields"]));
        let mut managed = entries::decode(live_entries)
            .map_err(|error| ApplyError::Failed(format!("failed to decode managed fields: {error}")))?;
        let live = without_managed(live);
        if managed.is_empty() {
            self.update_managed(None, &live, &mut managed, BEFORE_FIRST_APPLY);
        }
        let config = self.read(applied)?;
        let attempt = Attempt { live: &live, applied, config: &config, id: self.id(manager, Operation::Apply) };
        let mut object = match self.attempt(&attempt, &mut managed, force) {
            Ok(object) => object,
            Err(conflicts) => {
                let rest = self.not_client_side(&live, manager, conflicts);
                if !rest.is_empty() {
                    return Err(ApplyError::Conflicts(rest));
                }
                self.attempt(&attempt, &mut managed, true).map_err(ApplyError::Conflicts)?
            }
        };
        if manager == KUBECTL && last_applied::of(&object).is_some() {
            last_applied::set(&mut object, applied);
        }
        write_managed(&mut object, &managed);
        Ok(object)
    }

    fn check_applied(&self, applied: &Value) -> Result<(), ApplyError> {
        let gvk = applied.gvk();
        if gvk.as_ref() != Some(self.gvk) {
            let shown = format!("{}, Kind={}", applied.api_version(), applied.kind());
            return Err(ApplyError::BadRequest(format!("invalid object type: {shown}")));
        }
        if applied.at(&["metadata", "managedFields"]).is_some_and(Value::is_array) {
            return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        Ok(())
    }

    fn read(&self, applied: &Value) -> Result<FieldSet, ApplyError> {
        let (types, shape) = (self.types(), self.shape());
        validate(types, shape, applied).map_err(|error| {
            ApplyError::Failed(format!("failed to create typed patch object ({}): {error}", Self::name_of(applied)))
        })?;
        Ok(self.filter.apply(fields_of(types, shape, applied)))
    }

    /// `managed` changes only when there is no conflict.
    fn attempt(&self, attempt: &Attempt<'_>, managed: &mut Managed, force: bool) -> Result<Value, Vec<Conflict>> {
        let updater = self.updater();
        let mut sets = managed.clone();
        updater.reconcile(&mut sets);
        let merged = merge(self.types(), self.shape(), attempt.live, attempt.applied);
        let last = sets.remove(&attempt.id);
        let time = last.as_ref().and_then(|last| last.time.clone());
        sets.insert(attempt.id.clone(), Entry { time, ..updater.entry(attempt.config.clone()) });
        let object = updater.prune(merged, &sets, last.as_ref());
        let is_changed = !values::equal(attempt.live, &object);
        if is_changed || sets.values().any(|entry| entry.api_version != updater.api_version) {
            updater.take_changed(attempt.live, (&object, Form::Plain), &mut sets, Some(&attempt.id), force)?;
        }
        if let Some(entry) = sets.get_mut(&attempt.id) {
            entry.set = without_meta(std::mem::take(&mut entry.set));
            if is_changed {
                entry.time = Some(self.time.to_owned());
            }
        }
        sets.retain(|_, entry| !entry.set.is_empty());
        *managed = sets;
        Ok(object)
    }

    /// The conflicts that remain when `kubectl` takes over fields that client-side apply set to what they still are.
    fn not_client_side(&self, live: &Value, manager: &str, conflicts: Vec<Conflict>) -> Vec<Conflict> {
        if manager != KUBECTL {
            return conflicts;
        }
        let api_version = self.gvk.api_version();
        match last_applied::still_true(self.types(), self.shape(), &api_version, live) {
            Some(allowed) => conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect(),
            None => conflicts,
        }
    }
}

struct Attempt<'v> {
    live: &'v Value,
    applied: &'v Value,
    /// The fields of `applied`.
    config: &'v FieldSet,
    id: ManagerId,
}
