//! Who did what, as the policy wants it: one JSON line per stage of a request. Source: `audit.k8s.io/v1 Event`,
//! `k8s.io/apiserver/pkg/endpoints/filters/audit.go`.

mod event;
mod log;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use coracle_api_access::Attributes;
use coracle_api_meta::{Status, UserInfo, Value};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http_body_util::BodyExt;

use super::request_info::RequestInfo;
use super::{Ctx, Reply, authn, authz};
use crate::access::{AuditPolicy, Level, Stage};
use crate::config::AuditConfig;
use log::Lines;

/// Annotations of one event.
const ANNOTATIONS_MAX: usize = 256;

pub(crate) struct Audit {
    lines: Option<Lines>,
    policy: ArcSwap<AuditPolicy>,
}

/// What is written down of one request.
#[derive(Default)]
pub(crate) struct Trail {
    level: Level,
    omitted: Vec<Stage>,
    omit_managed_fields: bool,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    annotations: BTreeMap<String, String>,
    request: Option<Value>,
    response: Option<Value>,
    /// Of a request that failed.
    status: Option<Status>,
    panicked: bool,
}

impl Trail {
    fn of(policy: &AuditPolicy, attributes: &Attributes<'_>) -> Self {
        let verdict = policy.evaluate(attributes);
        let all = [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];
        Self {
            level: verdict.level,
            omitted: all.into_iter().filter(|stage| verdict.omits(*stage)).collect(),
            omit_managed_fields: verdict.omit_managed_fields,
            notes: Mutex::default(),
        }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn annotate(&self, key: &str, value: &str) {
        if self.level == Level::None {
            return;
        }
        let annotations = &mut self.notes().annotations;
        if annotations.len() < ANNOTATIONS_MAX {
            // The first word counts.
            annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }

    /// Whether annotations may show parts of objects.
    pub(crate) fn shows_requests(&self) -> bool {
        self.level >= Level::Request
    }

    /// What the client sent, decoded.
    pub(crate) fn request(&self, object: &Value) {
        if self.shows_requests() {
            self.notes().request.get_or_insert_with(|| self.shown(object.clone()));
        }
    }

    /// What the client sent, as it came: patches.
    pub(crate) fn request_bytes(&self, body: &[u8]) {
        if self.shows_requests()
            && let Ok(value) = serde_json::from_slice(body)
        {
            self.request(&value);
        }
    }

    /// What the client gets, in its whole form.
    pub(crate) fn response(&self, body: &[u8]) {
        if self.level < Level::RequestResponse {
            return;
        }
        if let Ok(value) = serde_json::from_slice(body) {
            let shown = self.shown(value);
            self.notes().response.get_or_insert(shown);
        }
    }

    pub(crate) fn failed(&self, status: &Status) {
        self.notes().status = Some(status.clone());
    }

    pub(crate) fn panicked(&self) {
        self.notes().panicked = true;
    }

    fn shown(&self, mut value: Value) -> Value {
        if self.omit_managed_fields {
            let strip = |object: &mut Value| {
                if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    meta.shift_remove("managedFields");
                }
            };
            strip(&mut value);
            for item in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                strip(item);
            }
        }
        value
    }
}

impl Audit {
    pub(crate) fn start(config: Option<&AuditConfig>) -> std::io::Result<Self> {
        let lines = config.map(Lines::start).transpose()?;
        let policy = config.and_then(|config| config.policy.clone()).unwrap_or_default();
        Ok(Self { lines, policy: ArcSwap::from_pointee(policy) })
    }

    /// What the policy wants to know of a request.
    pub(crate) fn trail(&self, info: &RequestInfo, user: &UserInfo) -> Trail {
        if self.lines.is_none() {
            return Trail::default();
        }
        Trail::of(&self.policy.load(), &authz::attributes_of(info, user, None))
    }

    fn write(&self, ctx: &Ctx, stage: Stage, code: u16) {
        let Some(lines) = &self.lines else { return };
        if ctx.trail.level != Level::None && !ctx.trail.omitted.contains(&stage) {
            lines.send(&event::event(ctx, stage, code));
        }
    }

    /// The request came in.
    pub(crate) fn received(&self, ctx: &Ctx) {
        self.write(ctx, Stage::RequestReceived, 0);
    }

    /// The request of nobody was turned away.
    pub(crate) fn turned_away(&self, ctx: &Ctx, parts: &Parts, status: &Status) {
        ctx.trail.failed(&Status { message: authn::attempted(parts), ..status.clone() });
        self.write(ctx, Stage::ResponseStarted, status.code);
        self.write(ctx, Stage::ResponseComplete, status.code);
    }

    /// The answer is there; of an endless one, its beginning.
    pub(crate) fn answered<'a>(&'a self, ctx: &'a Arc<Ctx>, answer: Reply) -> BoxFuture<'a, Reply> {
        Box::pin(self.tell(ctx, answer))
    }

    async fn tell(&self, ctx: &Arc<Ctx>, answer: Reply) -> Reply {
        if self.lines.is_none() || ctx.trail.level == Level::None {
            return answer;
        }
        let code = answer.status().as_u16();
        if ctx.trail.notes().panicked {
            self.write(ctx, Stage::Panic, code);
            return answer;
        }
        if ctx.info.is_long_running(&ctx.query) {
            self.write(ctx, Stage::ResponseStarted, code);
            let rest = Rest { ctx: Arc::clone(ctx), code };
            return answer.map(|body| {
                let body = body.map_frame(move |frame| {
                    let _ = &rest;
                    frame
                });
                body.boxed_unsync()
            });
        }
        let answer = if ctx.trail.level == Level::RequestResponse { keep(ctx, answer).await } else { answer };
        self.write(ctx, Stage::ResponseComplete, code);
        answer
    }
}

/// Reads the body of an answer for the event, where nothing knew it before.
async fn keep(ctx: &Ctx, answer: Reply) -> Reply {
    let json = answer.headers().get(http::header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let packed = answer.headers().contains_key(http::header::CONTENT_ENCODING);
    if !json || packed || !ctx.info.is_resource || ctx.trail.notes().response.is_some() {
        return answer;
    }
    let (head, body) = answer.into_parts();
    match body.collect().boxed().await {
        Ok(body) => {
            let bytes: Bytes = body.to_bytes();
            ctx.trail.response(&bytes);
            Reply::from_parts(head, coracle_client::full_body(bytes))
        }
        Err(error) => {
            tracing::debug!(%error, "read an answer for the audit log");
            Reply::from_parts(head, coracle_client::full_body(Bytes::new()))
        }
    }
}

/// Tells of the end of an answer when it is dropped.
struct Rest {
    ctx: Arc<Ctx>,
    code: u16,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.ctx.server.audit.write(&self.ctx, Stage::ResponseComplete, self.code);
    }
}
