//! A world of objects on which plans are carried out at once, and which notes what was done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use coracle_api_meta::{Gvr, ObjectExt, ObjectKey, Value};
use coracle_api_types::Object;
use coracle_plan_core::{Action, Plan, PlannedPatch, Target};
use serde_json::json;

#[derive(Default)]
pub struct World {
    objects: BTreeMap<Target, Value>,
    made: u64,
    pub log: String,
}

fn gvr<K: Object>() -> Gvr {
    Gvr::new(K::GROUP, K::VERSION, K::PLURAL)
}

impl World {
    pub fn add(&mut self, gvr: &Gvr, mut object: Value) {
        self.made += 1;
        if object.name().is_empty() {
            let name = format!("{}{}", object.meta_str("generateName"), self.made);
            object.set_meta("name", name);
        }
        if object.uid().is_empty() {
            object.set_meta("uid", format!("uid-{}", self.made));
        }
        object.set_meta("creationTimestamp", format!("2026-01-01T00:00:{:02}Z", self.made % 60));
        object.set_meta("resourceVersion", "1");
        object.set_meta("generation", 1);
        let key = object.object_key();
        self.objects.insert(Target::new(gvr.clone(), key), object);
    }

    pub fn put<K: Object>(&mut self, object: Value) {
        let object = K::from_value(&with_type::<K>(object)).expect("object of its type");
        self.add(&gvr::<K>(), object.to_value());
    }

    pub fn list<K: Object>(&self) -> Vec<Arc<K>> {
        let own = self.objects.iter().filter(|(target, _)| target.gvr == gvr::<K>());
        own.map(|(_, object)| Arc::new(K::from_value(object).expect("object of its type"))).collect()
    }

    pub fn get<K: Object>(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let object = self.objects.get(&Target::new(gvr::<K>(), key.clone()))?;
        Some(Arc::new(K::from_value(object).expect("object of its type")))
    }

    pub fn edit<K: Object>(&mut self, key: &ObjectKey, edit: impl FnOnce(&mut Value)) {
        let object = self.objects.get_mut(&Target::new(gvr::<K>(), key.clone())).expect("object");
        edit(object);
    }

    /// Changes the spec, which raises the generation.
    pub fn edit_spec<K: Object>(&mut self, key: &ObjectKey, edit: impl FnOnce(&mut Value)) {
        self.edit::<K>(key, |object| {
            edit(&mut object["spec"]);
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
            object.set_meta("generation", generation + 1);
        });
    }

    /// Notes and does everything; says whether there was anything.
    pub fn carry_out(&mut self, plan: &Plan) -> bool {
        for action in &plan.actions {
            self.note(action);
            self.apply(action);
        }
        !plan.is_nothing()
    }

    fn note(&mut self, action: &Action) {
        // Statuses and events about sizes are told by the test where they matter.
        match action {
            Action::Update { subresource: "status", object, .. } => {
                writeln!(self.log, "status of {}", object.name()).expect("string");
            }
            Action::Event(event) => writeln!(self.log, "  {}: {}", event.reason, event.message).expect("string"),
            Action::Update { object, .. } if object.pointer("/spec/replicas").is_some() => {
                writeln!(self.log, "update {} replicas {}", object.name(), object["spec"]["replicas"]).expect("string");
            }
            action => writeln!(self.log, "{action}").expect("string"),
        }
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Create { gvr, object, .. } => self.add(gvr, object.clone()),
            Action::Update { gvr, subresource, object } => {
                let target = Target::new(gvr.clone(), object.object_key());
                let stored = self.objects.get_mut(&target).expect("updated object");
                let mut updated = object.clone();
                if *subresource == "status" {
                    updated["spec"] = stored["spec"].clone();
                } else if updated["spec"] != stored["spec"] {
                    let generation = stored["metadata"]["generation"].as_i64().unwrap_or_default();
                    updated["status"] = stored["status"].clone();
                    updated.set_meta("generation", generation + 1);
                }
                *stored = updated;
            }
            Action::Patch { target, patch, .. } => {
                let (PlannedPatch::Json(patch) | PlannedPatch::Merge(patch) | PlannedPatch::Strategic(patch)) = patch;
                merge(self.objects.get_mut(target).expect("patched object"), patch);
            }
            Action::Delete { target, .. } => drop(self.objects.remove(target)),
            Action::Post { .. } | Action::Event(_) => {}
        }
    }
}

fn with_type<K: Object>(mut object: Value) -> Value {
    object["apiVersion"] = json!(K::API_VERSION);
    object["kind"] = json!(K::KIND);
    object
}

/// Merges as a merge patch does.
pub fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            into.as_object_mut().expect("object").shift_remove(name);
        } else {
            merge(&mut into[name.as_str()], value);
        }
    }
}
