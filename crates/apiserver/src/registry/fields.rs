//! What filters need to know of an object, read from its bytes once and kept beside them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use coracle_api_meta::{LabelSelector, Map, Status, Value};
use coracle_store::Entry;

use super::definition::Definition;
use super::objects;
use super::resources::Resource;

/// The filterable side of one stored version of an object.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    labels: Option<Map>,
    /// Values of the kind's selectable fields, in the kind's order.
    fields: Vec<(String, String)>,
    /// Of custom resource definitions: what they define.
    described: OnceLock<Arc<Described>>,
    /// Of custom resources: what reading makes of the stored bytes.
    forms: Mutex<Vec<Form>>,
    /// Bytes of the object's message in protobuf lists.
    message_size: OnceLock<u32>,
    /// The object, kept where many requests look at it.
    object: OnceLock<Option<Arc<Value>>>,
}

/// Forms that are kept: of as many versions.
const FORMS_MAX: usize = 8;

#[derive(Debug)]
struct Form {
    definition: Weak<Definition>,
    version: usize,
    /// `None`: as stored.
    bytes: Option<Bytes>,
}

/// What a custom resource definition defines.
#[derive(Debug, Default)]
pub(crate) struct Described {
    pub rows: Vec<Arc<Resource>>,
    pub names: Names,
}

/// The names that a definition holds in its group. Source: `status.acceptedNames`.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub definition: String,
    pub group: String,
    /// Plural, singular and short names.
    pub resources: Vec<String>,
    /// Kind and kind of lists.
    pub kinds: Vec<String>,
    /// Whether it has all the names that it wants.
    pub accepted: bool,
    pub terminating: bool,
}

impl Facts {
    fn read(resource: &Resource, entry: &Entry) -> Self {
        let Ok(mut object) = serde_json::from_slice::<Value>(&entry.value) else { return Self::default() };
        // Those of custom resources depend on the version that is asked for.
        let of_custom = resource.custom.is_some();
        let fields = if of_custom { Vec::new() } else { objects::selectable_values(resource, &object) };
        let labels = object.get_mut("metadata").and_then(|meta| meta.get_mut("labels")).map(Value::take);
        let labels = match labels {
            Some(Value::Object(labels)) => Some(labels),
            _ => None,
        };
        Self { labels, fields, ..Self::default() }
    }

    /// What the definition in `entry` defines, read once. `row` is that of definitions.
    pub(crate) fn described(row: &Resource, entry: &Entry) -> Arc<Described> {
        let read = || {
            let definition = serde_json::from_slice::<Value>(&entry.value).unwrap_or_default();
            Arc::new(crate::subresources::crd::describe(&definition, entry))
        };
        Arc::clone(Self::of(row, entry).described.get_or_init(read))
    }

    /// What is kept of the entry in a version: `None` when nothing is, `Some(None)` when it is as stored.
    pub(crate) fn form(&self, definition: &Arc<Definition>, version: usize) -> Option<Option<Bytes>> {
        let forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |form: &&Form| form.version == version && form.definition.as_ptr() == Arc::as_ptr(definition);
        forms.iter().find(own).map(|form| form.bytes.clone())
    }

    pub(crate) fn keep_form(&self, definition: &Arc<Definition>, version: usize, bytes: Option<Bytes>) {
        let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        forms.retain(|form| form.definition.strong_count() > 0);
        if forms.len() < FORMS_MAX {
            forms.push(Form { definition: Arc::downgrade(definition), version, bytes });
        }
    }

    /// Those of an entry, computed by the first who asks.
    pub(crate) fn of(resource: &Resource, entry: &Entry) -> Arc<Self> {
        let note = entry.note.get_or_init(|| Arc::new(Self::read(resource, entry)));
        Arc::clone(note).downcast().unwrap_or_default()
    }

    pub(crate) fn message_size(&self, measure: impl FnOnce() -> Result<usize, Status>) -> Result<usize, Status> {
        if let Some(size) = self.message_size.get() {
            return Ok(*size as usize);
        }
        let size = measure()?;
        let _ = self.message_size.set(u32::try_from(size).unwrap_or(u32::MAX));
        Ok(size)
    }

    /// The stored object, decoded once. For the few objects that admission looks at again and again.
    pub(crate) fn object(&self, entry: &Entry) -> Option<Arc<Value>> {
        self.object.get_or_init(|| serde_json::from_slice(&entry.value).ok().map(Arc::new)).clone()
    }

    pub(crate) fn match_labels(&self, selector: &LabelSelector) -> bool {
        selector.matches(self.labels.as_ref())
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}
