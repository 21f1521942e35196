//! The stations of every request, in order: identity, limits, rights, work, and the note of it all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_api_meta::Status;
use coracle_client::Body;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt;

use super::authn::PeerAddress;
use super::query::Query;
use super::request_info::RequestInfo;
use super::websocket::Opening;
use super::{Ctx, Reply, authz, flow, impersonate, limits, reply};
use crate::server::Server;
use crate::{aggregation, discovery, registry, time};

const PATH_BYTES_MAX: usize = 64 * 1024;

/// Answers a request. Never fails and never panics: failures are answers.
pub(crate) async fn handle(server: Arc<Server>, request: Request<Body>) -> Reply {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let audit_id = audit_id(&parts.headers);
    let mut answer = match begin(&server, &mut parts, &audit_id).await {
        Ok((ctx, refused)) => {
            let ctx = Arc::new(ctx);
            server.audit.received(&ctx);
            let mut answer = match refused {
                Some(status) => failed(&ctx, &status),
                None => guarded(&ctx, Request::from_parts(parts, body)).await,
            };
            reply::add_warnings(&mut answer, ctx.take_warnings());
            let code = answer.status().as_u16();
            let bytes = http_body::Body::size_hint(answer.body()).exact();
            server.metrics.requests.observe(&ctx.info, code, started.elapsed(), bytes);
            server.audit.answered(&ctx, answer).await
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

/// The answer to a request that failed, which the audit log is to know of.
fn failed(ctx: &Ctx, status: &Status) -> Reply {
    ctx.trail.failed(status);
    reply::status(status)
}

fn audit_id(headers: &HeaderMap) -> String {
    let sent = headers.get("audit-id").and_then(|value| value.to_str().ok());
    sent.filter(|id| !id.is_empty() && id.len() <= 64).map_or_else(time::uid, str::to_owned)
}

/// Finds out who asks for what, and, for those who act as others, whether they may not.
fn begin<'a>(
    server: &'a Arc<Server>,
    parts: &'a mut Parts,
    audit_id: &'a str,
) -> BoxFuture<'a, Result<(Ctx, Option<Status>), Status>> {
    Box::pin(find_out(server, parts, audit_id))
}

async fn find_out(server: &Arc<Server>, parts: &mut Parts, audit_id: &str) -> Result<(Ctx, Option<Status>), Status> {
    let raw_query = parts.uri.query().unwrap_or_default().to_owned();
    if parts.uri.path().len() + raw_query.len() > PATH_BYTES_MAX {
        return Err(Status::failure(414, "", "the request URI is too long"));
    }
    let query = Query::parse(&raw_query);
    let info = RequestInfo::read(&parts.method, parts.uri.path(), &query);
    let identified = server.authenticator.request(server, parts).await;
    let user = identified.clone().unwrap_or_default();
    let (headers, method) = (parts.headers.clone(), parts.method.clone());
    let mut ctx = Ctx::new(Arc::clone(server), user, info, method, &raw_query, headers, audit_id.to_owned());
    ctx.peer_address = parts.extensions.get::<PeerAddress>().map(|address| address.0);
    ctx.trail = server.audit.trail(&ctx.info, &ctx.user);
    if let Err(status) = identified {
        server.audit.turned_away(&ctx, parts, &status);
        return Err(status);
    }
    match impersonate::apply(server, &ctx.user, &parts.headers).await {
        Ok(None) => Ok((ctx, None)),
        Ok(Some(other)) => {
            ctx.impersonator = Some(std::mem::replace(&mut ctx.user, other));
            Ok((ctx, None))
        }
        Err(status) => Ok((ctx, Some(status))),
    }
}

async fn guarded(ctx: &Arc<Ctx>, request: Request<Body>) -> Reply {
    let work = AssertUnwindSafe(timed(ctx, request)).catch_unwind();
    match work.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => failed(ctx, &status),
        Err(_) => {
            tracing::error!(path = %ctx.info.path, verb = %ctx.info.verb, "a request panicked");
            ctx.trail.panicked();
            failed(ctx, &Status::internal("the request panicked"))
        }
    }
}

async fn timed(ctx: &Arc<Ctx>, request: Request<Body>) -> Result<Reply, Status> {
    let endless = ctx.info.is_long_running(&ctx.query);
    if endless && ctx.info.verb != "watch" {
        authz::check(ctx).await?;
        return Ok(counted(ctx, route(ctx, request).await?));
    }
    let time_max = limits::time_max(ctx)?;
    let Some(class) = ctx.server.gate.classify(ctx) else { return work(ctx, request, time_max, endless).await };
    let entered = ctx.server.gate.enter(ctx, &class, time_max / 4).await;
    let mut answer = match entered {
        // A watch gives its seats back as soon as it is set up.
        Ok(seat) => {
            let answer = work(ctx, request, time_max, endless).await.unwrap_or_else(|status| failed(ctx, &status));
            if endless { answer } else { until_sent(answer, seat) }
        }
        Err(turned_away) => *turned_away,
    };
    flow::add_headers(&mut answer, &class);
    Ok(answer)
}

async fn work(ctx: &Arc<Ctx>, request: Request<Body>, time_max: Duration, endless: bool) -> Result<Reply, Status> {
    let _place = ctx.server.in_flight.enter(ctx.info.is_mutating());
    authz::check(ctx).await?;
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
