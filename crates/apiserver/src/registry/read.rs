//! One object.

use coracle_api_meta::Status;
use http::StatusCode;

use super::resources::item_name;
use super::{Target, forms, storage};
use crate::http::{Ctx, Reply};

pub(crate) async fn get(ctx: &Ctx, target: &Target) -> Result<Reply, Status> {
    let item = item_name(&target.namespace, &target.name);
    if let Some(wanted) = storage::revision(ctx.query.get("resourceVersion"))? {
        let latest = ctx.server.store.local_revision();
        if wanted > latest {
            return Err(storage::too_large(wanted.0, latest.0));
        }
    }
    let entry = storage::load(&ctx.server, &target.resource, &item).await?;
    let entry = entry.ok_or_else(|| Status::not_found(&target.resource.gvr(), &target.name))?;
    forms::one(ctx, &target.resource, StatusCode::OK, storage::served_bytes(&target.resource, &entry)?)
}
