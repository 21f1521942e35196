//! OpenAPI documents.

use coracle_api_meta::Status;

use crate::http::{Ctx, Reply};

/// `parts` are what follows `/openapi`.
pub(super) fn openapi(_ctx: &Ctx, _parts: &[&str]) -> Result<Reply, Status> {
    Err(Status::no_such_path())
}
