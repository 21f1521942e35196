//! OwnerReferencesPermissionEnforcement, the part that blocks: who sets `blockOwnerDeletion` must be allowed to update the
//! owner's finalizers. Source: `plugin/pkg/admission/gc`.

use coracle_api_access::Attributes;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{GroupVersion, Gvk, Status, Value};

use crate::registry::admit::{Attempt, Operation};

fn blocking(object: &Value) -> Vec<&Value> {
    let list = object.meta().and_then(|meta| meta.get("ownerReferences")).and_then(Value::as_array);
    list.into_iter().flatten().filter(|owner| owner.get("blockOwnerDeletion") == Some(&Value::Bool(true))).collect()
}

pub(super) fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    if !matches!(attempt.operation, Operation::Create | Operation::Update) || !attempt.subresource.is_empty() {
        return Ok(());
    }
    let ctx = attempt.ctx;
    if ctx.user.in_group("system:masters") {
        return Ok(());
    }
    let before = attempt.old.map(blocking).unwrap_or_default();
    for owner in blocking(object) {
        if before.contains(&owner) {
            continue;
        }
        let Some(version) = GroupVersion::parse(owner.str_at(&["apiVersion"])) else { continue };
        let gvk = Gvk::new(version.group, version.version, owner.str_at(&["kind"]));
        let Some(resource) = ctx.server.resources().find_kind(&gvk) else { continue };
        let namespace = if resource.namespaced { attempt.target.namespace.as_str() } else { "" };
        let attributes = Attributes {
            subresource: "finalizers",
            namespace,
            name: owner.str_at(&["name"]),
            ..Attributes::resource(&ctx.user, "update", &resource.group, &resource.plural)
        };
        if ctx.server.authorizer.allows(&*ctx.server.store, &attributes).is_none() {
            return Err(attempt.forbidden(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , ",
            ));
        }
    }
    Ok(())
}
