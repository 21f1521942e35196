//! What filters need to know of an object, read from its bytes once and kept beside them.

use std::sync::{Arc, OnceLock};

use coracle_api_meta::{LabelSelector, Map, Value};
use coracle_store::Entry;

use super::objects;
use super::resources::Resource;

/// The filterable side of one stored version of an object.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    labels: Option<Map>,
    /// Values of the kind's selectable fields, in the kind's order.
    fields: Vec<(String, String)>,
    /// Of custom resource definitions: the rows that they add.
    rows: OnceLock<Vec<Arc<Resource>>>,
}

impl Facts {
    fn read(resource: &Resource, entry: &Entry) -> Self {
        let Ok(mut object) = serde_json::from_slice::<Value>(&entry.value) else { return Self::default() };
        let fields = objects::selectable_values(resource, &object);
        let labels = object.get_mut("metadata").and_then(|meta| meta.get_mut("labels")).map(Value::take);
        let labels = match labels {
            Some(Value::Object(labels)) => Some(labels),
            _ => None,
        };
        Self { labels, fields, rows: OnceLock::new() }
    }

    /// The rows that the definition in `entry` adds, compiled once. `row` is that of definitions.
    pub(crate) fn rows(row: &Resource, entry: &Entry) -> Vec<Arc<Resource>> {
        let compile = || {
            let definition = serde_json::from_slice::<Value>(&entry.value).unwrap_or_default();
            crate::subresources::crd::rows(&definition).into_iter().map(Arc::new).collect()
        };
        Self::of(row, entry).rows.get_or_init(compile).clone()
    }

    /// Those of an entry, computed by the first who asks.
    pub(crate) fn of(resource: &Resource, entry: &Entry) -> Arc<Self> {
        let note = entry.note.get_or_init(|| Arc::new(Self::read(resource, entry)));
        Arc::clone(note).downcast().unwrap_or_default()
    }

    pub(crate) fn match_labels(&self, selector: &LabelSelector) -> bool {
        selector.matches(self.labels.as_ref())
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}
