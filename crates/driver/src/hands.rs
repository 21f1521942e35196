//! Carrying out plans.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use coracle_api_meta::{Gvr, Value};
use coracle_client::{Client, DeleteParams, DynamicApi, Error, EventRecorder, Patch, PatchParams, WriteParams};
use coracle_plan_core::{Action, EventPlan, ObjectRef, Plan, PlannedPatch, Propagation, Report, Target};
use futures::future::join_all;
use k8s_openapi::api::core::v1::ObjectReference;
use serde::Deserialize;

use crate::Caches;

/// Creates that run at once at the start; doubles while they succeed. Source: `SlowStartInitialBatchSize`.
const BATCH_FIRST: usize = 1;
const BATCH_MAX: usize = 64;
/// Deletes that run at once.
const DELETES_MAX: usize = 64;

/// Why a plan ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `create`, `update`, `patch`, `delete`, `post` or `read`.
    pub verb: &'static str,
    /// Plural of the resource.
    pub resource: String,
    /// The server's words.
    pub message: String,
    /// Status reason, empty when the server was not reached.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.verb, self.resource, self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    #[must_use]
    pub fn new(verb: &'static str, resource: &str, error: &Error) -> Self {
        let reason = error.status().map(|status| status.reason.clone()).unwrap_or_default();
        Self { verb, resource: resource.to_owned(), message: describe(error), reason }
    }

    /// An error of a read.
    #[must_use]
    pub fn read(resource: &str, error: &Error) -> Self {
        Self::new("read", resource, error)
    }
}

/// An error with its causes.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Carries out plans as one component. Clones are cheap.
#[derive(Clone)]
pub struct Hands {
    client: Client,
    recorder: EventRecorder,
    caches: Arc<Caches>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    metadata: WrittenMeta,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct WrittenMeta {
    name: String,
    resource_version: String,
}

fn written(bytes: &Bytes) -> WrittenMeta {
    serde_json::from_slice::<Written>(bytes).unwrap_or_default().metadata
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Hands {
    /// `component` is shown as the source of events. Needs a runtime around it.
    #[must_use]
    pub fn new(client: &Client, component: &str, caches: Arc<Caches>) -> Self {
        Self { client: client.clone(), recorder: EventRecorder::new(client, component, ""), caches }
    }

    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The first failure ends the plan. Afterwards the caches show what was written.
    pub async fn carry_out(&self, plan: &Plan) -> Result<(), Failure> {
        let mut latest: Vec<(Gvr, u64)> = Vec::new();
        let mut result = Ok(());
        let mut rest = plan.actions.as_slice();
        while let Some(first) = rest.first() {
            let group = match first {
                Action::Create { .. } | Action::Delete { .. } => neighbours(rest),
                _ => 1,
            };
            let (now, later) = rest.split_at(group);
            rest = later;
            result = self.group(now, &mut latest).await;
            if result.is_err() {
                break;
            }
        }
        for (gvr, version) in latest {
            self.caches.wait_version(&gvr, version).await;
        }
        result
    }

    async fn group(&self, actions: &[Action], latest: &mut Vec<(Gvr, u64)>) -> Result<(), Failure> {
        let mut size = if matches!(actions.first(), Some(Action::Create { .. })) { BATCH_FIRST } else { DELETES_MAX };
        let mut rest = actions;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            size = (size * 2).min(BATCH_MAX);
            let mut failed = None;
            for outcome in join_all(batch.iter().map(|action| self.one(action))).await {
                match outcome {
                    Ok(Some((gvr, version))) => note(latest, gvr, version),
                    Ok(None) => {}
                    Err(failure) => failed = failed.or(Some(failure)),
                }
            }
            if let Some(failure) = failed {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Answers the resource version that was written.
    async fn one(&self, action: &Action) -> Result<Option<(Gvr, u64)>, Failure> {
        match action {
            Action::Create { gvr, object, report, exists_is_fine } => {
                self.create(gvr, object, report.as_ref(), *exists_is_fine).await
            }
            Action::Update { gvr, subresource, object } => {
                let api = DynamicApi::namespaced(&self.client, gvr, text(object, "/metadata/namespace"));
                let name = text(object, "/metadata/name");
                let body = object.to_string().into_bytes();
                match api.update(name, subresource, body, &WriteParams::default()).await {
                    // What is gone needs no update.
                    Err(error) if error.is_not_found() => Ok(None),
                    answer => finish("update", gvr, answer),
                }
            }
            Action::Patch { target, subresource, patch } => {
                let patch = match patch {
                    PlannedPatch::Json(value) => Patch::Json(value.clone()),
                    PlannedPatch::Merge(value) => Patch::Merge(value.clone()),
                    PlannedPatch::Strategic(value) => Patch::Strategic(value.clone()),
                };
                let answer =
                    self.api(target).patch(&target.key.name, subresource, &patch, &PatchParams::default()).await;
                match answer {
                    Err(error) if error.is_not_found() => Ok(None),
                    answer => finish("patch", &target.gvr, answer),
                }
            }
            Action::Delete { target, uid, grace_seconds, propagation, report } => {
                self.delete(target, uid, *grace_seconds, *propagation, report.as_ref()).await
            }
            Action::Post { target, subresource, object } => {
                let body = object.to_string().into_bytes();
                let answer = self.api(target).create_subresource(&target.key.name, subresource, body).await;
                finish("post", &target.gvr, answer)
            }
            Action::Event(event) => {
                self.record(event);
                Ok(None)
            }
        }
    }

    fn api(&self, target: &Target) -> DynamicApi {
        DynamicApi::namespaced(&self.client, &target.gvr, &target.key.namespace)
    }

    async fn create(
        &self,
        gvr: &Gvr,
        object: &Value,
        report: Option<&Report>,
        exists_is_fine: bool,
    ) -> Result<Option<(Gvr, u64)>, Failure> {
        let api = DynamicApi::namespaced(&self.client, gvr, text(object, "/metadata/namespace"));
        match api.create(object.to_string().into_bytes(), &WriteParams::default()).await {
            Ok(bytes) => {
                if let Some(report) = report {
                    self.record(&report.succeeded(&written(&bytes).name));
                }
                finish("create", gvr, Ok(bytes))
            }
            Err(error) if error.is_already_exists() && exists_is_fine => Ok(None),
            // The namespace goes, and with it whoever wanted this.
            Err(error) if error.is_namespace_terminating() => Ok(None),
            Err(error) => {
                let failure = Failure::new("create", &gvr.resource, &error);
                if let Some(report) = report {
                    self.record(&report.failed(text(object, "/metadata/name"), &failure.message));
                }
                Err(failure)
            }
        }
    }

    async fn delete(
        &self,
        target: &Target,
        uid: &str,
        grace_seconds: Option<i64>,
        propagation: Option<Propagation>,
        report: Option<&Report>,
    ) -> Result<Option<(Gvr, u64)>, Failure> {
        let mut params = if uid.is_empty() { DeleteParams::default() } else { DeleteParams::uid(uid) };
        params.grace_period_seconds = grace_seconds;
        params.propagation_policy = propagation.map(|policy| policy.as_str().to_owned());
        match self.api(target).delete(&target.key.name, &params).await {
            Ok(bytes) => {
                if let Some(report) = report {
                    self.record(&report.succeeded(&target.key.name));
                }
                self.caches.wait_deleted(&target.gvr, &target.key, uid).await;
                finish("delete", &target.gvr, Ok(bytes))
            }
            // Gone, or another object took its name: with a uid given, a conflict says so.
            Err(error) if error.is_not_found() || (error.is_conflict() && !uid.is_empty()) => Ok(None),
            Err(error) => {
                let failure = Failure::new("delete", &target.gvr.resource, &error);
                if let Some(report) = report {
                    self.record(&report.failed(&target.key.name, &failure.message));
                }
                Err(failure)
            }
        }
    }

    /// Writes an event in the background.
    pub fn record(&self, event: &EventPlan) {
        self.recorder.event(&reference(&event.about), event.kind.as_str(), &event.reason, &event.message);
    }
}

fn reference(about: &ObjectRef) -> ObjectReference {
    let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    ObjectReference {
        api_version: text(&about.api_version),
        kind: text(&about.kind),
        namespace: text(&about.namespace),
        name: text(&about.name),
        uid: text(&about.uid),
        resource_version: text(&about.resource_version),
        field_path: None,
    }
}

fn finish(verb: &'static str, gvr: &Gvr, answer: coracle_client::Result<Bytes>) -> Result<Option<(Gvr, u64)>, Failure> {
    let bytes = answer.map_err(|error| Failure::new(verb, &gvr.resource, &error))?;
    let version = written(&bytes).resource_version.parse().ok();
    Ok(version.map(|version| (gvr.clone(), version)))
}

fn note(latest: &mut Vec<(Gvr, u64)>, gvr: Gvr, version: u64) {
    match latest.iter_mut().find(|(known, _)| *known == gvr) {
        Some((_, highest)) => *highest = version.max(*highest),
        None => latest.push((gvr, version)),
    }
}

/// How many actions at the start are of the same verb and resource.
fn neighbours(actions: &[Action]) -> usize {
    fn verb(action: &Action) -> Option<(&'static str, &Gvr)> {
        match action {
            Action::Create { gvr, .. } => Some(("create", gvr)),
            Action::Delete { target, .. } => Some(("delete", &target.gvr)),
            _ => None,
        }
    }
    let first = actions.first().and_then(verb);
    actions.iter().take_while(|action| verb(action) == first).count()
}
