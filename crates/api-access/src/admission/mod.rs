//! Built-in admission: what the plugins that are on by default make of a write, from values alone.
//!
//! [`mutate`] runs the plugins that change objects, [`validate`] those that refuse, both in upstream's order
//! (`pkg/kubeapiserver/options/plugins.go`). What plugins need to know of other objects comes through [`Lookup`].
//! [`quota`] stands alone: it is asked last, and its answer has to be stored. [`webhook`] says which webhooks are asked; calling them is not for here.

mod amounts;
mod default_toleration_seconds;
mod ingress_class;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod pod_resize;
mod pod_resources;
pub mod pod_security;
mod pod_topology_labels;
mod priority;
pub mod quota;
mod runtime_class;
mod service_account;
mod storage;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tolerations;
pub mod webhook;

pub use amounts::Amounts;
pub use pod_resources::{PodAmounts, pod_limits, pod_requests};

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvr, Map, Status, UserInfo, Value};

use crate::Attributes;

pub(crate) const MIRROR_POD: &str = "kubernetes.io/config.mirror";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As admission reviews spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One write. Source: `k8s.io/apiserver/pkg/admission.Attributes`.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub user: &'a UserInfo,
    pub operation: Operation,
    pub gvr: &'a Gvr,
    pub kind: &'a str,
    pub subresource: &'a str,
    /// Empty for objects of the cluster.
    pub namespace: &'a str,
    pub name: &'a str,
    /// The object as it is before an update or a deletion.
    pub old: Option<&'a Value>,
}

impl Request<'_> {
    /// About `plural` of `group`, and no subresource of it.
    #[must_use]
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.is_any(group, plural)
    }

    /// About `plural` of `group` or a subresource of it.
    #[must_use]
    pub fn is_any(&self, group: &str, plural: &str) -> bool {
        self.gvr.group == group && self.gvr.resource == plural
    }

    #[must_use]
    pub fn is_new(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.is(group, plural)
    }

    fn writes(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update)
    }

    /// Source: `admission.NewForbidden`.
    #[must_use]
    pub fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(self.gvr, if self.name.is_empty() { "Unknown" } else { self.name }, why)
    }
}

/// What plugins ask about other objects.
pub trait Lookup {
    /// An object as `resource` of `group` serves it. The namespace is empty for objects of the cluster.
    fn find(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of a namespace (empty: of the cluster), in the order of their names.
    fn all(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    fn allows(&self, attributes: &Attributes<'_>) -> bool;
    /// Five random characters that names may have.
    fn suffix(&self) -> String;
}

/// What a client and the audit log hear of an admitted request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    pub warnings: Vec<String>,
    /// Annotations of the audit event.
    pub audit: Vec<(String, String)>,
}

/// Runs the plugins that change objects. The object is what the client sent, with defaults.
pub fn mutate(request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
    namespace_lifecycle::admit(request, lookup)?;
    limit_ranger::mutate(request, object, lookup);
    service_account::mutate(request, object, lookup)?;
    node_restriction::admit(request, object, lookup)?;
    node_taint::mutate(request, object);
    priority::mutate(request, object, lookup)?;
    default_toleration_seconds::mutate(request, object);
    storage::default_class(request, object, lookup);
    storage::protect(request, object);
    runtime_class::mutate(request, object, lookup)?;
    ingress_class::mutate(request, object, lookup);
    pod_topology_labels::mutate(request, object, lookup);
    Ok(())
}

/// Runs the plugins that refuse. The object is as it would be stored; null for deletions.
pub fn validate(request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<Notes, Status> {
    namespace_lifecycle::protect(request)?;
    if request.operation == Operation::Delete {
        node_restriction::admit(request, object, lookup)?;
    }
    limit_ranger::validate(request, object, lookup)?;
    service_account::validate(request, object, lookup)?;
    let notes = pod_security::validate(request, object, lookup)?;
    priority::validate(request, object, lookup)?;
    storage::validate_resize(request, object, lookup)?;
    runtime_class::validate(request, object, lookup)?;
    pod_resize::validate(request, object, lookup)?;
    Ok(notes)
}

fn list<'a>(object: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    object.at(path).and_then(Value::as_array).into_iter().flatten()
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.annotations()?.get(key)?.as_str()
}

/// The fields at `field`, made where there are none. `None` when `object` is no object.
fn fields<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Map> {
    let place = object.as_object_mut()?.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if place.is_null() {
        *place = Value::Object(Map::new());
    }
    place.as_object_mut()
}

/// Appends to the list at `field`, made where there is none.
fn push(object: &mut Value, field: &str, item: Value) {
    let Some(owner) = object.as_object_mut() else { return };
    let place = owner.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if place.is_null() {
        *place = Value::Array(Vec::new());
    }
    if let Some(items) = place.as_array_mut() {
        items.push(item);
    }
}

fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(owner) = object.as_object_mut() {
        owner.insert(field.to_owned(), value.into());
    }
}

/// Source: `k8s.io/apimachinery/pkg/util/errors.Aggregate.Error`.
fn aggregate(errors: &[String]) -> Option<String> {
    let mut unique: Vec<&str> = Vec::new();
    for error in errors {
        if !unique.contains(&error.as_str()) {
            unique.push(error);
        }
    }
    match unique.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}
