//! `metadata.managedFields`: who owns which fields, on writes of every kind, and server-side apply.
//!
//! Source: upstream's `k8s.io/apimachinery/pkg/util/managedfields` and structured-merge-diff v6 `merge`.

mod apply;
mod cap;
mod conflict;
mod entries;
mod last_applied;
mod prune;
mod scale;
mod update;
mod updater;
mod user_agent;
mod versions;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvk, Map, Value};
use coracle_api_schema::{Schemas, TypeId};

pub use conflict::{ApplyError, Conflict};
use entries::{Managed, ManagerId, Operation};
pub use entries::{revert_times_if_unchanged, validate_managed_fields};
pub use scale::{ScaleMapping, scale_to_parent, scale_to_subresource};
use updater::Updater;
pub use user_agent::manager_of;
pub use versions::{Converted, OneShape, Versions};

use crate::fields::FieldFilter;
use crate::typed::{Shape, Types};

/// Keeps track of who owns the fields of the objects of one resource, at one version, for one request.
#[derive(Clone, Copy)]
pub struct FieldManager<'a> {
    pub schemas: &'a Schemas,
    /// `None` for custom resources without a schema.
    pub ty: Option<TypeId>,
    /// Of the request; for subresources with a kind of their own (`scale`), that kind.
    pub gvk: &'a Gvk,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// Fields that the strategy resets in this kind of request.
    pub filter: &'a FieldFilter,
    pub versions: &'a dyn Versions,
    /// RFC 3339 in UTC with seconds: `2026-01-31T12:00:00Z`.
    pub time: &'a str,
}

impl<'a> FieldManager<'a> {
    fn types(&self) -> Types<'a> {
        Types { schemas: self.schemas }
    }

    fn shape(&self) -> Shape {
        self.ty.map_or(Shape::Custom, Shape::Typed)
    }

    fn id(&self, manager: &str, operation: Operation) -> ManagerId {
        ManagerId {
            manager: if manager.is_empty() { "unknown".to_owned() } else { manager.to_owned() },
            operation,
            api_version: if operation == Operation::Apply { String::new() } else { self.gvk.api_version() },
            subresource: self.subresource.to_owned(),
        }
    }

    fn updater(&self) -> Updater<'a> {
        Updater {
            types: self.types(),
            shape: self.shape(),
            api_version: self.gvk.api_version(),
            filter: self.filter,
            versions: self.versions,
        }
    }

    /// `default/web; apps/v1, Kind=Deployment`, for texts.
    fn name_of(object: &Value) -> String {
        let gvk = object.gvk().map(|gvk| gvk.to_string()).unwrap_or_default();
        format!("{}/{}; {gvk}", object.namespace(), object.name())
    }
}

/// Puts the entries into the object, or takes the field away when there are none.
fn write_managed(object: &mut Value, managed: &Managed) {
    match entries::encode(managed) {
        Some(entries) => object.set_meta("managedFields", entries),
        None => object.remove_meta("managedFields"),
    }
}

fn without_managed(object: Option<&Value>) -> Value {
    let Some(Value::Object(object)) = object else { return Value::Object(Map::new()) };
    let mut copy = Map::with_capacity(object.len());
    for (key, value) in object {
        let value = match value {
            Value::Object(metadata) if key == "metadata" => {
                let kept = metadata.iter().filter(|(field, _)| *field != "managedFields");
                Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect())
            }
            other => other.clone(),
        };
        copy.insert(key.clone(), value);
    }
    Value::Object(copy)
}
