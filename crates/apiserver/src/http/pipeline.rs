//! The stations of every request, in order: identity, limits, rights, work, and the note of it all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_api_meta::Status;
use coracle_client::Body;
use futures::FutureExt;
use http::{HeaderValue, Request, header};
use http_body_util::BodyExt;

use super::query::Query;
use super::request_info::RequestInfo;
use super::websocket::Opening;
use super::{Ctx, Reply, authz, flow, impersonate, limits, reply};
use crate::server::Server;
use crate::{aggregation, discovery, registry, time};

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
            let bytes = http_body::Body::size_hint(answer.body()).exact();
            server.metrics.requests.observe(&ctx.info, code, started.0.elapsed(), bytes);
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
    let endless = ctx.info.is_long_running(&ctx.query);
    if endless && ctx.info.verb != "watch" {
        authz::check(ctx)?;
        return Ok(counted(ctx, route(ctx, request).await?));
    }
    let time_max = limits::time_max(ctx)?;
    let Some(class) = ctx.server.gate.classify(ctx) else { return work(ctx, request, time_max, endless).await };
    let entered = ctx.server.gate.enter(ctx, &class, time_max / 4).await;
    let mut answer = match entered {
        // A watch gives its seats back as soon as it is set up.
        Ok(seat) => {
            let answer = work(ctx, request, time_max, endless).await.unwrap_or_else(|status| reply::status(&status));
            if endless { answer } else { until_sent(answer, seat) }
        }
        Err(turned_away) => *turned_away,
    };
    flow::add_headers(&mut answer, &class);
    Ok(answer)
}

async fn work(ctx: &Arc<Ctx>, request: Request<Body>, time_max: Duration, endless: bool) -> Result<Reply, Status> {
    let _place = ctx.server.in_flight.enter(ctx.info.is_mutating());
    authz::check(ctx)?;
    if endless {
        return Ok(counted(ctx, route(ctx, request).await?));
    }
    match tokio::time::timeout(time_max, route(ctx, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::timeout("Timeout: request did not complete within the allotted timeout")),
    }
}

/// An answer that is made while it is sent keeps `seat` so long.
fn until_sent(answer: Reply, seat: flow::Seat) -> Reply {
    if http_body::Body::size_hint(answer.body()).exact().is_some() {
        return answer;
    }
    answer.map(|body| {
        let body = body.map_frame(move |frame| {
            let _ = &seat;
            frame
        });
        body.boxed_unsync()
    })
}

/// Counts a request without an end as long as its answer goes on.
fn counted(ctx: &Arc<Ctx>, answer: Reply) -> Reply {
    ctx.server.metrics.requests.run(&ctx.info, true);
    let running = Running(Arc::clone(ctx));
    answer.map(|body| {
        let body = body.map_frame(move |frame| {
            let _ = &running;
            frame
        });
        body.boxed_unsync()
    })
}

struct Running(Arc<Ctx>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.server.metrics.requests.run(&self.0.info, false);
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
