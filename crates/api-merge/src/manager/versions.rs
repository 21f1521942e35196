//! Other versions of an object, for managers that wrote through them.

use coracle_api_meta::{GroupVersion, Value};
use coracle_api_schema::{Schemas, TypeId};

/// Shows an object at the other versions of its group.
pub trait Versions {
    /// `None` when the version is not served; its managers are forgotten then.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Converted<'_>>;
}

/// An object at another version, with the types of that version.
pub struct Converted<'s> {
    pub object: Value,
    pub schemas: &'s Schemas,
    pub ty: Option<TypeId>,
}

/// Versions that differ in nothing but `apiVersion`.
pub struct OneShape<'s> {
    pub schemas: &'s Schemas,
    pub ty: Option<TypeId>,
}

impl Versions for OneShape<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Option<Converted<'_>> {
        let wanted = GroupVersion::parse(api_version)?;
        let current = object.get("apiVersion").and_then(Value::as_str).and_then(GroupVersion::parse);
        if current.is_some_and(|current| current.group != wanted.group) {
            return None;
        }
        let mut object = object.clone();
        if let Value::Object(map) = &mut object {
            map.insert("apiVersion".to_owned(), Value::from(api_version));
        }
        Some(Converted { object, schemas: self.schemas, ty: self.ty })
    }
}
