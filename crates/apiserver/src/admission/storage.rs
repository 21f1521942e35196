//! DefaultStorageClass, StorageObjectInUseProtection. Source: `plugin/pkg/admission/storage`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;

use super::{all, annotation};
use crate::registry::admit::{Attempt, Operation};

const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    if attempt.operation != Operation::Create {
        return Ok(());
    }
    if attempt.is("", "persistentvolumeclaims") {
        default_class(attempt, object);
        protect(object, "kubernetes.io/pvc-protection");
    } else if attempt.is("", "persistentvolumes") {
        protect(object, "kubernetes.io/pv-protection");
    } else if attempt.is("storage.k8s.io", "volumeattributesclasses") {
        protect(object, "kubernetes.io/vac-protection");
    }
    Ok(())
}

fn default_class(attempt: &Attempt<'_>, claim: &mut Value) {
    let named = claim.at(&["spec", "storageClassName"]).is_some_and(|name| !name.is_null())
        || !annotation(claim, "volume.beta.kubernetes.io/storage-class").is_empty();
    if named || !claim["spec"].is_object() {
        return;
    }
    let mut classes = all(attempt.ctx, "storage.k8s.io/storageclasses", "");
    classes.retain(|class| DEFAULT_CLASS.iter().any(|key| annotation(class, key) == "true"));
    // The newest of several; by name where they are of one second.
    classes.sort_by(|a, b| {
        b.meta_str("creationTimestamp").cmp(a.meta_str("creationTimestamp")).then(a.name().cmp(b.name()))
    });
    if let Some(class) = classes.first() {
        claim["spec"]["storageClassName"] = class.name().into();
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let Some(meta) = object.meta_mut() else { return };
    let list = meta.entry("finalizers").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|own| own == finalizer)
    {
        list.push(finalizer.into());
    }
}
