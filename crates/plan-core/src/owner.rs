//! Controllers and what they own.

use coracle_api_types::Object;
use coracle_api_types::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::Action;

/// The owner that manages the object.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_deref().unwrap_or_default().iter().find(|owner| owner.controller == Some(true))
}

#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The reference that makes `owner` the controller.
pub fn controller_ref<K: Object>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What a controller does about an object that its selector or its uid names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Owned,
    /// It becomes ours: it matches and has no controller.
    Adopt,
    /// It was ours and does not match any more.
    Release,
    /// It is none of our business.
    Ignore,
}

/// Source: `pkg/controller/controller_ref_manager.go`.
pub fn claim<K: Object>(object: &K, owner: &ObjectMeta, matches: bool) -> Claim {
    let owner_uid = owner.uid.as_deref().unwrap_or_default();
    let owner_deleting = owner.deletion_timestamp.is_some();
    match controller_of(object.metadata()) {
        Some(controller) if controller.uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Owned,
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if !matches || owner_deleting || object.is_deleting() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The patch that adds a controller reference, guarded by the object's uid.
pub fn adopt<K: Object>(object: &K, owner: &OwnerReference) -> Action {
    let patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": [owner]}});
    Action::strategic(object, "", patch)
}

/// The patch that takes an owner reference away, guarded by the object's uid.
pub fn release<K: Object>(object: &K, owner_uid: &str) -> Action {
    let patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]}});
    Action::strategic(object, "", patch)
}
