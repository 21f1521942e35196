//! The stations of every request, in order: identity, limits, rights, work, and the note of it all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_api_meta::Status;
use coracle_client::Body;
use futures::FutureExt;
use http::{HeaderValue, Request, header};

use super::query::Query;
use super::request_info::RequestInfo;
use super::websocket::Opening;
use super::{Ctx, Reply, authz, impersonate, reply};
use crate::server::Server;
use crate::{aggregation, discovery, registry, time};

/// Requests that are not long-running are given up after this. Source: `--request-timeout`.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
const PATH_BYTES_MAX: usize = 64 * 1024;

/// Answers a request. Never fails and never panics: failures are answers.
pub(crate) async fn handle(server: Arc<Server>, request: Request<Body>) -> Reply {
    let started = (Instant::now(), time::now());
    let audit_id = audit_id(&request);
    let mut answer = match begin(&server, &request, &audit_id) {
        Ok(ctx) => {
            let ctx = Arc::new(ctx);
            let mut answer = guarded(&ctx, request).await;
            reply::add_warnings(&mut answer, ctx.take_warnings());
            let code = answer.status().as_u16();
            server.metrics.observe(&ctx.info, code, started.0.elapsed());
            if server.audit.wants(&ctx) {
                server.audit.record(&ctx, started.1, code);
            }
            answer
        }
        Err(status) => reply::status(&status),
    };
    let headers = answer.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&audit_id) {
        headers.insert("audit-id", value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    answer
}

fn audit_id(request: &Request<Body>) -> String {
    let sent = request.headers().get("audit-id").and_then(|value| value.to_str().ok());
    sent.filter(|id| !id.is_empty() && id.len() <= 64).map_or_else(time::uid, str::to_owned)
}

/// Finds out who asks for what.
fn begin(server: &Arc<Server>, request: &Request<Body>, audit_id: &str) -> Result<Ctx, Status> {
    let raw_query = request.uri().query().unwrap_or_default();
    if request.uri().path().len() + raw_query.len() > PATH_BYTES_MAX {
        return Err(Status::failure(414, "", "the request URI is too long"));
    }
    let query = Query::parse(raw_query);
    let info = RequestInfo::read(request.method(), request.uri().path(), &query);
    let user = server.authenticator.request(&server.config, &*server.store, request.extensions(), request.headers())?;
    let user = impersonate::apply(server, user, request.headers())?;
    Ok(Ctx::new(
        Arc::clone(server),
        user,
        info,
        request.method().clone(),
        raw_query,
        request.headers().clone(),
        audit_id.to_owned(),
    ))
}

async fn guarded(ctx: &Arc<Ctx>, request: Request<Body>) -> Reply {
    let work = AssertUnwindSafe(timed(ctx, request)).catch_unwind();
    match work.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => reply::status(&status),
        Err(_) => {
            tracing::error!(path = %ctx.info.path, verb = %ctx.info.verb, "a request panicked");
            reply::status(&Status::internal("the request panicked"))
        }
    }
}

async fn timed(ctx: &Arc<Ctx>, request: Request<Body>) -> Result<Reply, Status> {
    if ctx.info.is_long_running(&ctx.query) {
        authz::check(ctx)?;
        return route(ctx, request).await;
    }
    let exempt = ctx.user.in_group("system:masters") || !ctx.info.is_resource;
    let _place = if exempt { None } else { Some(ctx.server.in_flight.enter(ctx.info.is_mutating())?) };
    authz::check(ctx)?;
    match tokio::time::timeout(REQUEST_TIME_MAX, route(ctx, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::timeout(format!(
            "Timeout: request did not complete within requested timeout - context deadline exceeded ({}s)",
            REQUEST_TIME_MAX.as_secs()
        ))),
    }
}

async fn route(ctx: &Arc<Ctx>, mut request: Request<Body>) -> Result<Reply, Status> {
    if let Some(service) = ctx.server.aggregation.route(&*ctx.server.store, &ctx.info.path) {
        return aggregation::proxy(ctx, &service, request).await;
    }
    let opening = Opening::take(ctx, &mut request);
    let answer = if ctx.info.is_resource {
        registry::handle(ctx, request).await
    } else {
        discovery::handle(ctx, request).await
    }?;
    match opening {
        Some(opening) => opening.switch(ctx, answer),
        None => Ok(answer),
    }
}
