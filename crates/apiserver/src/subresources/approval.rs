//! Approval of certificate signing requests. Source: `plugin/pkg/admission/certificates/approval`.

use coracle_api_access::Attributes;
use coracle_api_meta::Status;
use coracle_api_meta::object::ObjectExt;

use crate::http::Ctx;
use crate::registry::{Target, storage};

/// The user must be allowed to approve for the signer.
pub(super) fn check(ctx: &Ctx, target: &Target) -> Result<(), Status> {
    may(ctx, target, "approve", "approve requests with")
}

/// The user must be allowed `verb` for the request's signer, or for all of its domain.
pub(crate) fn may(ctx: &Ctx, target: &Target, verb: &str, words: &str) -> Result<(), Status> {
    let resource = &target.resource;
    let entry = ctx.server.store.local_get(&storage::key(resource, &target.name));
    let Some(entry) = entry else { return Err(Status::not_found(&resource.gvr(), &target.name)) };
    let object = storage::object(resource, &entry)?;
    let signer = object.str_at(&["spec", "signerName"]);
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let allowed = [signer, &domain].into_iter().any(|name| {
        let attributes = Attributes { name, ..Attributes::resource(&ctx.user, verb, "certificates.k8s.io", "signers") };
        ctx.server.authorizer.allows(&*ctx.server.store, &attributes).is_some()
    });
    if allowed {
        return Ok(());
    }
    let why = format!("user not permitted to {words} signerName {signer:?}");
    Err(Status::forbidden(&resource.gvr(), &target.name, &why))
}
