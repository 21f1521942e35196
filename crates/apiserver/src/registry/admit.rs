//! Admission as the registry sees it: what a write is, and the two rounds that it passes.

use std::time::Instant;

use coracle_api_meta::{Status, Value};

use super::Target;
use crate::http::Ctx;

pub(crate) use coracle_api_access::admission::Operation;

/// One write on its way through admission.
pub(crate) struct Attempt<'a> {
    pub ctx: &'a Ctx,
    pub target: &'a Target,
    pub operation: Operation,
    pub subresource: &'a str,
    pub name: &'a str,
    pub old: Option<&'a Value>,
    pub dry_run: bool,
}

impl Attempt<'_> {
    /// About the main resource `plural` of `group`.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.target.resource.is(group, plural)
    }

    fn took(&self, step: &'static str, started: Instant) {
        self.ctx.server.metrics.admission.took(step, self.operation.as_str(), started.elapsed());
    }

    pub(crate) fn forbidden(&self, why: &str) -> Status {
        Status::forbidden(&self.target.resource.gvr(), self.name, why)
    }
}

/// May change the object.
pub(crate) async fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    let started = Instant::now();
    let result = crate::admission::mutate(attempt, object).await;
    attempt.took("admit", started);
    result
}

/// May refuse. `object` is null for deletions.
pub(crate) async fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let started = Instant::now();
    let result = crate::admission::validate(attempt, object).await;
    attempt.took("validate", started);
    result
}
