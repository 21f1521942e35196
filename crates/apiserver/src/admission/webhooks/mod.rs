//! Admission by webhooks: mutating ones one after the other, validating ones at once.
//! Source: `k8s.io/apiserver/pkg/admission/plugin/webhook/{mutating,validating}`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use coracle_api_access::admission::webhook::{self, Hook, Matched};
use coracle_api_access::admission::{self as decide, Request};
use coracle_api_merge::json_patch;
use coracle_api_meta::{Gvr, Status, Value};
use coracle_api_policy::{Conditions, Query, Request as PolicyRequest, Verdict};
use futures::future::join_all;
use serde_json::json;

use super::policies::{Facts, asked};
use super::{View, options, with_request};
use crate::derived::Derived;
use crate::http::authz::objects as stored;
use crate::outgoing;
use crate::registry::admit::{Attempt, Operation};
use crate::registry::options::FieldValidation;
use crate::registry::resources::Resource;
use crate::registry::{conversion, objects};
use crate::server::Server;
use crate::time;

const MUTATING: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
const VALIDATING: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";

/// Why a hook gave no answer that counts.
enum Failure {
    /// It refuses, or what it did is an error whatever its policy.
    Refused(Box<Status>),
    /// It could not be asked; its policy decides.
    Call(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Configurations of one kind, and what was compiled of their hooks, in the order of all hooks.
pub(crate) struct Configurations {
    objects: Vec<Value>,
    known: Vec<Known>,
}

struct Known {
    configuration: String,
    /// `None` without conditions; otherwise what they are, or why they do not compile.
    conditions: Option<Result<Conditions, String>>,
}

/// All configurations, read anew when one changes.
pub(crate) struct Webhooks {
    mutating: Derived<Configurations>,
    validating: Derived<Configurations>,
}

impl Webhooks {
    pub(crate) fn new() -> Self {
        let all = |collection: &'static str| {
            Derived::new(&[collection], move |store| Configurations::of(stored(store, collection)))
        };
        Self { mutating: all(MUTATING), validating: all(VALIDATING) }
    }
}

impl Configurations {
    fn of(objects: Vec<Value>) -> Self {
        use coracle_api_meta::object::ObjectExt;
        let known = objects.iter().flat_map(|object| {
            webhook::hooks(object).map(|hook| Known {
                configuration: object.name().to_owned(),
                conditions: hook
                    .match_conditions()
                    .map(|own| Conditions::compile(own).map_err(|(_, why)| why.to_string())),
            })
        });
        Self { known: known.collect(), objects }
    }

    /// The hooks, each with what is known of it.
    fn hooks(&self) -> Vec<(Hook<'_>, &Known)> {
        self.objects.iter().flat_map(webhook::hooks).zip(&self.known).collect()
    }
}

/// The rows that serve the same objects.
fn equivalents(attempt: &Attempt<'_>) -> Vec<Arc<Resource>> {
    let own = &attempt.target.resource;
    let resources = attempt.ctx.server.resources();
    resources.all().iter().filter(|row| row.stored && row.collection == own.collection).cloned().collect()
}

fn matched(
    attempt: &Attempt<'_>,
    (hook, known): (&Hook<'_>, &Known),
    object: &Value,
    rows: &[Arc<Resource>],
) -> Result<Option<Matched>, Status> {
    let gvrs: Vec<Gvr> = rows.iter().map(|row| row.gvr()).collect();
    let matches = |request: &Request<'_>| webhook::matches(hook, request, object, &gvrs, &View(attempt.ctx));
    let Some(matched) = with_request(attempt, matches)? else { return Ok(None) };
    Ok(conditions_hold(attempt, hook, known, object)?.then_some(matched))
}

/// Whether the match conditions of a hook hold. Source: `webhook/matchconditions/matcher.go`.
fn conditions_hold(attempt: &Attempt<'_>, hook: &Hook<'_>, known: &Known, object: &Value) -> Result<bool, Status> {
    let Some(conditions) = &known.conditions else { return Ok(true) };
    let failed = |why: String| {
        if hook.ignores_failures() { Ok(false) } else { Err(attempt.forbidden(&why)) }
    };
    let compiled = match conditions {
        Ok(compiled) => compiled,
        Err(error) => return failed(error.clone()),
    };
    let facts = Facts::of(attempt);
    let ask = |query: &Query| asked(attempt, query);
    let request = PolicyRequest { ask: Some(&ask), ..facts.request(attempt, Some(object)) };
    match compiled.evaluate(&request) {
        Verdict::Match => Ok(true),
        Verdict::Skip => Ok(false),
        Verdict::Failed(why) => failed(why),
    }
}

/// The row whose form of the object a hook sees.
fn row<'a>(attempt: &'a Attempt<'_>, rows: &'a [Arc<Resource>], gvr: &Gvr) -> &'a Arc<Resource> {
    rows.iter().find(|row| row.gvr() == *gvr).unwrap_or(&attempt.target.resource)
}

async fn converted(server: &Server, from: &Resource, to: &Resource, object: &Value) -> Result<Value, Status> {
    let mut object = object.clone();
    if from.gvr() == to.gvr() || !object.is_object() {
        return Ok(object);
    }
    if from.custom.is_some() {
        return conversion::between(server, from, to, object).await;
    }
    objects::to_stored(from, &mut object);
    objects::to_served(to, &mut object);
    Ok(object)
}

/// Asks one hook.
async fn ask(
    attempt: &Attempt<'_>,
    hook: &Hook<'_>,
    row: &Resource,
    object: &Value,
    mutating: bool,
) -> Result<webhook::Answer, Failure> {
    if attempt.dry_run && !hook.is_free_of_side_effects() {
        return Err(webhook::no_dry_run(hook.name()).into());
    }
    let Some(version) = hook.review_version() else {
        return Err(Failure::Call(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
                .to_owned(),
        ));
    };
    let resource = &attempt.target.resource;
    let (uid, gvr, gvk) = (time::uid(), row.gvr(), row.gvk());
    let server = &attempt.ctx.server;
    let old = converted(server, resource, row, attempt.old.unwrap_or(&Value::Null)).await?;
    let object = converted(server, resource, row, object).await?;
    // Subresources of their own kind, and connections, are not of the resource's kind.
    let kind_of = |object: &Value| {
        use coracle_api_meta::object::ObjectExt;
        object.gvk().filter(|_| !attempt.subresource.is_empty())
    };
    let gvk = kind_of(&object).unwrap_or(gvk);
    let request_kind = kind_of(&object).unwrap_or_else(|| resource.gvk());
    let asked = webhook::Asked {
        uid: &uid,
        version,
        gvr: &gvr,
        gvk: &gvk,
        request_kind: &request_kind,
        object: &object,
        old: &old,
        options: &options(attempt),
        dry_run: attempt.dry_run,
    };
    let review = with_request(attempt, |request: &Request<'_>| webhook::review(request, &asked));
    let client = outgoing::Hook::read(hook.client_config()).map_err(Failure::Call)?;
    let timeout = Duration::from_secs(hook.timeout_seconds());
    let call = attempt.ctx.server.outgoing.call_hook(&client, &review, timeout, true);
    let answer = call.await.map_err(|why| Failure::Call(format!("failed to call webhook: {why}")))?;
    let answer = webhook::read(&answer, &uid, version, mutating)
        .map_err(|why| Failure::Call(format!("received invalid webhook response: {why}")))?;
    for warning in &answer.warnings {
        attempt.ctx.warn(warning.as_str());
    }
    for (key, value) in &answer.annotations {
        attempt.ctx.annotate(&format!("{}/{key}", hook.name()), value);
    }
    if answer.allowed { Ok(answer) } else { Err(webhook::denied(hook.name(), &answer.status).into()) }
}

/// What becomes of a failure by the hook's policy.
fn settle(attempt: &Attempt<'_>, hook: &Hook<'_>, place: &str, failure: Failure) -> Result<(), Status> {
    match failure {
        Failure::Refused(status) => Err(*status),
        Failure::Call(why) if hook.ignores_failures() => {
            attempt.ctx.annotate(&format!("failed-open.{place}"), hook.name());
            tracing::warn!(webhook = hook.name(), why, "webhook failed, which its policy ignores");
            Ok(())
        }
        Failure::Call(why) => Err(Status::internal(format!("failed calling webhook {:?}: {why}", hook.name()))),
    }
}

/// Lets hooks change the object; the ones that ask for it once more when others changed it after them.
pub(super) async fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    let store = &*attempt.ctx.server.store;
    if store.local_count(MUTATING) == 0 {
        return Ok(());
    }
    let configurations = attempt.ctx.server.webhooks.mutating.get(store);
    let hooks = configurations.hooks();
    let rows = equivalents(attempt);
    let (mut invoked, mut again) = (Vec::new(), Vec::new());
    let mut any = false;
    for (index, hook) in hooks.iter().enumerate() {
        let Some(changed) = mutate_once(attempt, hook, (0, index), object, &rows).await? else { continue };
        if changed {
            any = true;
            again.append(&mut invoked);
        }
        if hook.0.is_reinvoked() {
            invoked.push(index);
        }
    }
    if !any || !object.is_object() || attempt.operation == Operation::Delete {
        return Ok(());
    }
    // The built-in plugins see what the hooks made.
    let before = object.clone();
    with_request(attempt, |request| decide::mutate(request, object, &View(attempt.ctx)))?;
    if *object != before {
        again.append(&mut invoked);
    }
    again.sort_unstable();
    for (index, hook) in again.into_iter().filter_map(|index| Some((index, hooks.get(index)?))) {
        mutate_once(attempt, hook, (1, index), object, &rows).await?;
    }
    Ok(())
}

/// Whether the object changed, or `None` when the hook was not asked. What was done is told to the audit log.
async fn mutate_once(
    attempt: &Attempt<'_>,
    (hook, known): &(Hook<'_>, &Known),
    (round, index): (usize, usize),
    object: &mut Value,
    rows: &[Arc<Resource>],
) -> Result<Option<bool>, Status> {
    let place = format!("mutating.webhook.admission.k8s.io/round_{round}_index_{index}");
    let mutated = mutate_by(attempt, hook, known, &place, object, rows).await?;
    if let Some(mutated) = mutated {
        let note = json!({"configuration": known.configuration, "webhook": hook.name(), "mutated": mutated});
        let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}");
        attempt.ctx.annotate(&key, &note.to_string());
    }
    Ok(mutated)
}

async fn mutate_by(
    attempt: &Attempt<'_>,
    hook: &Hook<'_>,
    known: &Known,
    place: &str,
    object: &mut Value,
    rows: &[Arc<Resource>],
) -> Result<Option<bool>, Status> {
    let Some(matched) = matched(attempt, (hook, known), object, rows)? else { return Ok(None) };
    let row = row(attempt, rows, &matched.gvr);
    let answer = match ask(attempt, hook, row, object, true).await {
        Ok(answer) => answer,
        Err(failure) => return settle(attempt, hook, place, failure).map(|()| Some(false)),
    };
    let Some(patch) = answer.patch else { return Ok(Some(false)) };
    let decoded = base64::engine::general_purpose::STANDARD.decode(patch).ok();
    let Some(patch) = decoded.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else {
        let why = "received undecodable patch in webhook response".to_owned();
        return settle(attempt, hook, place, Failure::Call(why)).map(|()| Some(false));
    };
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(Some(false));
    }
    if !object.is_object() {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name()
        )));
    }
    let seen = converted(&attempt.ctx.server, &attempt.target.resource, row, object).await?;
    let patched = json_patch(seen, &patch).map_err(Status::internal)?;
    let patched = read_again(attempt, row, patched).await?;
    let changed = patched != *object;
    *object = patched;
    Ok(Some(changed))
}

/// A patched object as if a client had sent it: without fields that the kind has not, with defaults.
async fn read_again(attempt: &Attempt<'_>, row: &Resource, patched: Value) -> Result<Value, Status> {
    if !matches!(attempt.subresource, "" | "status") {
        return Ok(patched);
    }
    let custom = row.compiled();
    let bytes = patched.to_string();
    let validation = FieldValidation::Ignore;
    let read = objects::decode(attempt.ctx, "application/json", bytes.as_bytes(), &row.gvk(), custom, validation);
    let read = read.map_err(|status| Status::internal(status.message))?;
    let mut object = converted(&attempt.ctx.server, row, &attempt.target.resource, &read).await?;
    objects::default(&attempt.target.resource, &mut object);
    Ok(object)
}

/// Asks all validating hooks; the first refusal in their order counts.
pub(super) async fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let store = &*attempt.ctx.server.store;
    if store.local_count(VALIDATING) == 0 {
        return Ok(());
    }
    let configurations = attempt.ctx.server.webhooks.validating.get(store);
    let rows = equivalents(attempt);
    let mut asked = Vec::new();
    for (index, (hook, known)) in configurations.hooks().into_iter().enumerate() {
        if let Some(matched) = matched(attempt, (&hook, known), object, &rows)? {
            asked.push((format!("validating.webhook.admission.k8s.io/round_0_index_{index}"), hook, matched));
        }
    }
    let calls = asked.iter().map(|(place, hook, matched)| async {
        let row = row(attempt, &rows, &matched.gvr);
        match ask(attempt, hook, row, object, false).await {
            Ok(_) => Ok(()),
            Err(failure) => settle(attempt, hook, place, failure),
        }
    });
    join_all(calls).await.into_iter().collect()
}
