//! ResourceQuota: what a write uses is charged in the same transaction that stores it.
//! Source: `k8s.io/apiserver/pkg/admission/plugin/resourcequota`.

use coracle_api_access::admission::quota as decide;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use coracle_store::{Condition, Expectation, Write};
use tokio::sync::MutexGuard;

use super::{is_internal, with_request};
use crate::registry::admit::Attempt;
use crate::registry::resources::item_name;
use crate::registry::storage;

/// What goes with the write of the object. Other writes that use quota wait while it is held.
#[derive(Default)]
pub(crate) struct Charge<'a> {
    _turn: Option<MutexGuard<'a, ()>>,
    pub expect: Vec<Expectation>,
    pub writes: Vec<Write>,
}

/// Refused when a quota of the namespace would be exceeded.
pub(crate) async fn charge<'a>(attempt: &Attempt<'a>, object: &Value) -> Result<Charge<'a>, Status> {
    let server = &attempt.ctx.server;
    let namespace = &attempt.target.namespace;
    if is_internal(attempt) || server.store.local_count("resourcequotas") == 0 {
        return Ok(Charge::default());
    }
    if !with_request(attempt, |request| decide::counts(request, object)) {
        return Ok(Charge::default());
    }
    let turn = server.state.quota.lock().await;
    let Some(resource) = server.resources().find("", "v1", "resourcequotas") else { return Ok(Charge::default()) };
    let entries = server.store.local_range("resourcequotas", &format!("{namespace}/"));
    let quotas = entries.iter().map(|entry| storage::object(&resource, entry)).collect::<Result<Vec<_>, _>>()?;
    let changed = with_request(attempt, |request| decide::check(request, object, &quotas))?;
    let mut charge = Charge { _turn: Some(turn), ..Charge::default() };
    if attempt.dry_run {
        return Ok(charge);
    }
    for quota in changed {
        let item = item_name(namespace, quota.name());
        let Some(entry) = entries.iter().find(|entry| entry.name() == item) else { continue };
        let key = storage::key(&resource, &item);
        charge.expect.push(Expectation { key, condition: Condition::Modified(entry.modified) });
        charge.writes.push(storage::put(server, &resource, &item, &quota));
    }
    Ok(charge)
}
