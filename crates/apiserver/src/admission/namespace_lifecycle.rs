//! NamespaceLifecycle: nothing is made in namespaces that are not there or on their way out; the first ones stay.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Cause, Status};

use super::find;
use crate::registry::admit::{Attempt, Operation};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn check(attempt: &Attempt<'_>) -> Result<(), Status> {
    let namespace = attempt.target.namespace.as_str();
    if attempt.operation != Operation::Create || namespace.is_empty() || !attempt.target.resource.stored {
        return Ok(());
    }
    let gvr = coracle_api_meta::Gvr::new("", "v1", "namespaces");
    let found = find(attempt.ctx, "namespaces", "", namespace);
    let found = found.ok_or_else(|| Status::not_found(&gvr, namespace))?;
    if found.meta_str("deletionTimestamp").is_empty() && found.str_at(&["status", "phase"]) != "Terminating" {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = attempt.forbidden(&why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}

pub(super) fn protect(attempt: &Attempt<'_>) -> Result<(), Status> {
    if attempt.operation == Operation::Delete && attempt.is("", "namespaces") && IMMORTAL.contains(&attempt.name) {
        return Err(attempt.forbidden("this namespace may not be deleted"));
    }
    Ok(())
}
