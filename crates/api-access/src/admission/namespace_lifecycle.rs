//! NamespaceLifecycle: nothing is made in namespaces that are missing or on their way out; the first ones stay.
//! Source: `k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Cause, Gvr, Status};

use super::{Lookup, Operation, Request};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn admit(request: &Request<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let namespace = request.namespace;
    let review = request.is_any("authorization.k8s.io", "localsubjectaccessreviews");
    let new = request.operation == Operation::Create;
    if !new || namespace.is_empty() || review || request.is_any("", "namespaces") {
        return Ok(());
    }
    let gvr = Gvr::new("", "v1", "namespaces");
    let found = lookup.find("", "namespaces", "", namespace).ok_or_else(|| Status::not_found(&gvr, namespace))?;
    if found.meta_str("deletionTimestamp").is_empty() && found.str_at(&["status", "phase"]) != "Terminating" {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = request.forbidden(&why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}

pub(super) fn protect(request: &Request<'_>) -> Result<(), Status> {
    let delete = request.operation == Operation::Delete && request.is("", "namespaces");
    if delete && IMMORTAL.contains(&request.name) {
        return Err(request.forbidden("this namespace may not be deleted"));
    }
    Ok(())
}
