//! A server that is asked by SubjectAccessReview. Source: `k8s.io/apiserver/plugin/pkg/authorizer/webhook`.

use std::time::Duration;

use coracle_api_access::{Attributes, Requirement};
use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use serde_json::{Map, json};

use super::Verdict;
use crate::access::{OnFailure, WebhookMode};
use crate::cache::Cache;
use crate::remote::Remote;

/// Answers that are remembered, and how large a question may be for that. Source: `maxControllerCacheSize` and others.
const CACHED_MAX: usize = 8192;
const CACHED_QUESTION_BYTES_MAX: usize = 10_000;

pub(super) struct Webhook {
    mode: WebhookMode,
    remote: Remote,
    answers: Cache<String, Verdict>,
}

impl Webhook {
    pub(super) fn new(mode: &WebhookMode) -> Result<Self, String> {
        let remote = Remote::new(&mode.server, "kube-apiserver")?;
        Ok(Self { mode: mode.clone(), remote, answers: Cache::new(CACHED_MAX) })
    }

    pub(super) async fn decide(&self, attributes: &Attributes<'_>) -> Verdict {
        let spec = spec(attributes);
        if let Some(verdict) = self.known(&spec) {
            return verdict;
        }
        let answer = self.remote.ask_with_retries(&self.review(&spec), self.mode.times.timeout).await;
        self.learn(&spec, answer)
    }

    /// As [`Webhook::decide`], without waiting on this thread's tasks.
    pub(super) fn decide_now(&self, attributes: &Attributes<'_>) -> Verdict {
        let spec = spec(attributes);
        if let Some(verdict) = self.known(&spec) {
            return verdict;
        }
        let answer = self.remote.ask_from_a_thread(&self.review(&spec), self.mode.times.timeout);
        self.learn(&spec, answer)
    }

    /// What needs no question.
    fn known(&self, spec: &Value) -> Option<Verdict> {
        match self.matches(spec) {
            Ok(true) => self.answers.get(&spec.to_string()),
            Ok(false) => Some(Verdict::NoOpinion { reason: String::new(), error: None }),
            Err(error) => Some(self.failed(error)),
        }
    }

    /// One condition that does not hold is enough, whatever becomes of the others.
    fn matches(&self, spec: &Value) -> Result<bool, String> {
        let mut failure = None;
        for condition in &self.mode.conditions.0 {
            match condition.holds(spec) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(true), Err)
    }

    fn failed(&self, error: String) -> Verdict {
        tracing::warn!(authorizer = %self.mode.name, %error, "ask a webhook whether a request is allowed");
        match self.mode.on_failure {
            OnFailure::NoOpinion => Verdict::NoOpinion { reason: String::new(), error: Some(error) },
            OnFailure::Deny => Verdict::Deny(error),
        }
    }

    fn review(&self, spec: &Value) -> Value {
        let mut spec = spec.clone();
        // The beta called groups by the singular.
        if self.mode.version == "v1beta1"
            && let Some(groups) = spec.as_object_mut().and_then(|spec| spec.shift_remove("groups"))
        {
            spec["group"] = groups;
        }
        json!({"kind": "SubjectAccessReview", "apiVersion": format!("authorization.k8s.io/{}", self.mode.version),
            "metadata": {}, "spec": spec, "status": {"allowed": false}})
    }

    fn learn(&self, spec: &Value, answer: Result<Value, String>) -> Verdict {
        let status = match answer {
            Ok(answer) => answer.get("status").cloned().unwrap_or_default(),
            Err(error) => return self.failed(error),
        };
        let reason = status.str_at(&["reason"]).to_owned();
        let flag = |field: &str| status.get(field).and_then(Value::as_bool).unwrap_or(false);
        let error = Some(status.str_at(&["evaluationError"]).to_owned()).filter(|error| !error.is_empty());
        if let Some(error) = &error {
            tracing::debug!(authorizer = %self.mode.name, %error, "a webhook answered in part");
        }
        let (verdict, cached, ttl) = match (flag("allowed"), flag("denied")) {
            (true, false) => (Verdict::Allow(reason), self.mode.cache_authorized, self.mode.times.authorized_ttl),
            (false, true) => (Verdict::Deny(reason), self.mode.cache_unauthorized, self.mode.times.unauthorized_ttl),
            (false, false) => {
                let quiet = Verdict::NoOpinion { reason, error: None };
                (quiet, self.mode.cache_unauthorized, self.mode.times.unauthorized_ttl)
            }
            (true, true) => {
                return self.failed("webhook subject access review returned both allow and deny response".to_owned());
            }
        };
        let question = spec.to_string();
        if cached && ttl > Duration::ZERO && question.len() < CACHED_QUESTION_BYTES_MAX {
            self.answers.put(question, verdict.clone(), ttl);
        }
        verdict
    }
}

/// `SubjectAccessReviewSpec`, without what is empty.
fn spec(attributes: &Attributes<'_>) -> Value {
    let text = |fields: &[(&str, &str)]| -> Map<String, Value> {
        let given = fields.iter().filter(|(_, value)| !value.is_empty());
        given.map(|(field, value)| ((*field).to_owned(), Value::from(*value))).collect()
    };
    let mut spec = Map::new();
    match attributes.path {
        Some(path) => {
            let fields = text(&[("path", path), ("verb", attributes.verb)]);
            spec.insert("nonResourceAttributes".to_owned(), fields.into());
        }
        None => {
            let mut fields = text(&[
                ("namespace", attributes.namespace),
                ("verb", attributes.verb),
                ("group", attributes.group),
                ("version", attributes.version),
                ("resource", attributes.resource),
                ("subresource", attributes.subresource),
                ("name", attributes.name),
            ]);
            if let Some(selectors) = attributes.selectors {
                for (field, terms) in [("fieldSelector", &selectors.field), ("labelSelector", &selectors.label)] {
                    if !terms.is_empty() {
                        fields.insert(field.to_owned(), json!({"requirements": requirements(terms)}));
                    }
                }
            }
            spec.insert("resourceAttributes".to_owned(), fields.into());
        }
    }
    let user = attributes.user;
    spec.extend(text(&[("user", &user.username)]));
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
    spec.extend(text(&[("uid", &user.uid)]));
    spec.into()
}

fn requirements(terms: &[Requirement]) -> Vec<Value> {
    let term = |term: &Requirement| {
        let mut value = json!({"key": term.key, "operator": term.operator});
        if !term.values.is_empty() {
            value["values"] = json!(term.values);
        }
        value
    };
    terms.iter().map(term).collect()
}
