//! Access to the metadata of a dynamic object.

use crate::{GroupVersion, Gvk, Map, ObjectKey, Value};

/// Reads and writes of what every object has. Reads of missing or mistyped fields give the empty value.
pub trait ObjectExt {
    fn api_version(&self) -> &str;
    fn kind(&self) -> &str;
    fn gvk(&self) -> Option<Gvk>;
    fn meta(&self) -> Option<&Map>;
    /// Makes `metadata` when it is missing. `None` when the value is not an object.
    fn meta_mut(&mut self) -> Option<&mut Map>;
    /// A string field of `metadata`.
    fn meta_str(&self, field: &str) -> &str;
    fn set_meta(&mut self, field: &str, value: impl Into<Value>);
    fn remove_meta(&mut self, field: &str);
    fn name(&self) -> &str {
        self.meta_str("name")
    }
    fn namespace(&self) -> &str {
        self.meta_str("namespace")
    }
    fn uid(&self) -> &str {
        self.meta_str("uid")
    }
    fn resource_version(&self) -> &str {
        self.meta_str("resourceVersion")
    }
    fn object_key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace(), self.name())
    }
    fn labels(&self) -> Option<&Map>;
    fn annotations(&self) -> Option<&Map>;
    /// The value at a path of field names.
    fn at(&self, path: &[&str]) -> Option<&Value>;
    /// The string at a path of field names, or empty.
    fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }
}

impl ObjectExt for Value {
    fn api_version(&self) -> &str {
        self.str_at(&["apiVersion"])
    }

    fn kind(&self) -> &str {
        self.str_at(&["kind"])
    }

    fn gvk(&self) -> Option<Gvk> {
        let gv = GroupVersion::parse(self.api_version())?;
        (!self.kind().is_empty()).then(|| Gvk::new(gv.group, gv.version, self.kind()))
    }

    fn meta(&self) -> Option<&Map> {
        self.get("metadata")?.as_object()
    }

    fn meta_mut(&mut self) -> Option<&mut Map> {
        let meta = self.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if meta.is_null() {
            *meta = Value::Object(Map::new());
        }
        meta.as_object_mut()
    }

    fn meta_str(&self, field: &str) -> &str {
        self.meta().and_then(|meta| meta.get(field)).and_then(Value::as_str).unwrap_or_default()
    }

    fn set_meta(&mut self, field: &str, value: impl Into<Value>) {
        if let Some(meta) = self.meta_mut() {
            meta.insert(field.to_owned(), value.into());
        }
    }

    fn remove_meta(&mut self, field: &str) {
        if let Some(meta) = self.meta_mut() {
            meta.shift_remove(field);
        }
    }

    fn labels(&self) -> Option<&Map> {
        self.meta()?.get("labels")?.as_object()
    }

    fn annotations(&self) -> Option<&Map> {
        self.meta()?.get("annotations")?.as_object()
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, field| value.get(field))
    }
}
