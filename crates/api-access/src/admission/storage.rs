//! DefaultStorageClass, StorageObjectInUseProtection, PersistentVolumeClaimResize.
//! Source: `plugin/pkg/admission/storage`.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Quantity, Status, Value};

use super::{Amounts, Lookup, Operation, Request, annotation, list, push, set};

const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Group, resource, and the finalizer that its objects get.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

/// The newest object, the first by name where several are of one second.
pub(super) fn newest(mut objects: Vec<Arc<Value>>) -> Option<Arc<Value>> {
    objects.sort_by(|a, b| {
        let created = |object: &Value| object.meta_str("creationTimestamp").to_owned();
        created(b).cmp(&created(a)).then_with(|| a.name().cmp(b.name()))
    });
    objects.into_iter().next()
}

pub(super) fn default_class(request: &Request<'_>, claim: &mut Value, lookup: &dyn Lookup) {
    let named = claim.at(&["spec", "storageClassName"]).is_some_and(|name| !name.is_null());
    if !request.is_new("", "persistentvolumeclaims") || named || annotation(claim, OLD_CLASS).is_some() {
        return;
    }
    let mut classes = lookup.all("storage.k8s.io", "storageclasses", "");
    classes.retain(|class| DEFAULT.iter().any(|key| annotation(class, key) == Some("true")));
    if let (Some(class), Some(spec)) = (newest(classes), claim.get_mut("spec")) {
        set(spec, "storageClassName", class.name());
    }
}

pub(super) fn protect(request: &Request<'_>, object: &mut Value) {
    let row = PROTECTED.iter().find(|(group, resource, _)| request.is_new(group, resource));
    let Some((_, _, finalizer)) = row else { return };
    if list(object, &["metadata", "finalizers"]).any(|own| own == finalizer) {
        return;
    }
    if let Some(meta) = object.get_mut("metadata") {
        push(meta, "finalizers", (*finalizer).into());
    }
}

/// The class of a claim, as the old annotation or the field has it.
pub(super) fn class_of(claim: &Value) -> &str {
    annotation(claim, OLD_CLASS).unwrap_or_else(|| claim.str_at(&["spec", "storageClassName"]))
}

pub(super) fn validate_resize(request: &Request<'_>, claim: &Value, lookup: &dyn Lookup) -> Result<(), Status> {
    if request.operation != Operation::Update || !request.is("", "persistentvolumeclaims") {
        return Ok(());
    }
    let Some(old) = request.old else { return Ok(()) };
    let size = |claim: &Value| {
        let requests = Amounts::at(claim, &["spec", "resources", "requests"]);
        requests.get("storage").copied().unwrap_or(Quantity::ZERO)
    };
    if size(claim) <= size(old) {
        return Ok(());
    }
    if old.str_at(&["status", "phase"]) != "Bound" {
        return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let name = class_of(claim);
    let class = lookup.find("storage.k8s.io", "storageclasses", "", name).filter(|_| name == class_of(old));
    let expands = class.and_then(|class| class.get("allowVolumeExpansion").and_then(Value::as_bool)).unwrap_or(false);
    if expands {
        return Ok(());
    }
    Err(request.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
