//! The end of a namespace: pods first, then everything else, then its finalizer.
//! Source: `pkg/controller/namespace/deletion`.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api_meta::Gvr;
use coracle_api_types::Object;
use coracle_plan_core::time::{seconds, since};
use coracle_plan_core::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};

/// The finalizer that this controller takes away.
pub const FINALIZER: &str = "kubernetes";
/// Content that only finalizers hold is looked at again this often at first, and later more rarely.
const RETRY_SOON: Duration = Duration::from_secs(1);
const RETRY_LATER: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(30);

/// Objects of one resource that are still there.
#[derive(Debug, Clone)]
pub struct Remaining {
    pub gvr: Gvr,
    pub count: usize,
    pub finalizers: BTreeMap<String, usize>,
}

/// What is left of a namespace after its content was asked to go.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pub remaining: Vec<Remaining>,
    pub discovery_error: Option<String>,
    /// Calls that failed, and content that stays without a finalizer.
    pub errors: Vec<String>,
    /// Only pods were asked to go so far.
    pub pods_only: bool,
}

#[must_use]
pub fn is_finalized(namespace: &Namespace) -> bool {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()).is_none_or(Vec::is_empty)
}

/// Marks a namespace that is being deleted. `None` when it is marked already.
#[must_use]
pub fn mark(namespace: &Namespace) -> Option<Plan> {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Terminating") {
        return None;
    }
    let mut namespace = namespace.clone();
    namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    Some(Plan::from(vec![Action::update_status(&namespace)]))
}

/// Tells what is left, or lets the namespace go.
#[must_use]
pub fn plan(namespace: &Namespace, content: &Content, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let mut updated = namespace.clone();
    let conditions = updated.status.get_or_insert_default().conditions.get_or_insert_default();
    for (kind, failure) in failures(content) {
        set(conditions, kind, failure, now);
    }
    if updated != *namespace {
        plan.push(Action::update_status(&updated));
    }
    let empty = content.remaining.iter().all(|left| left.count == 0);
    if empty && content.errors.is_empty() && content.discovery_error.is_none() && !content.pods_only {
        let mut last = namespace.clone();
        // The call that finalizes is not guarded by a version: the status may have changed just before.
        last.metadata.resource_version = None;
        last.status = None;
        if let Some(finalizers) = last.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        plan.actions.clear();
        plan.because("finalize", "nothing is left in the namespace");
        plan.push(Action::Update {
            gvr: Gvr::new("", "v1", "namespaces"),
            subresource: "finalize",
            object: last.to_value(),
        });
        return plan;
    }
    let deleted = namespace.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    plan.requeue(if since(deleted, now) < SOON { RETRY_SOON } else { RETRY_LATER });
    plan
}

type Failure = Option<(&'static str, String)>;

fn failures(content: &Content) -> Vec<(&'static str, Failure)> {
    let mut errors = content.errors.clone();
    errors.sort();
    let failed = (!errors.is_empty()).then(|| {
        let text = format!("Failed to delete all resource types, {} remaining: {}", errors.len(), errors.join(", "));
        ("ContentDeletionFailed", text)
    });
    let mut all = vec![
        ("NamespaceDeletionDiscoveryFailure", content.discovery_error.clone().map(|text| ("DiscoveryFailed", text))),
        ("NamespaceDeletionGroupVersionParsingFailure", None),
        ("NamespaceDeletionContentFailure", failed),
    ];
    let (remaining, finalizers) = totals(content);
    all.push(("NamespaceContentRemaining", remaining));
    all.push(("NamespaceFinalizersRemaining", finalizers));
    all
}

fn totals(content: &Content) -> (Failure, Failure) {
    let mut resources: Vec<String> = Vec::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for left in content.remaining.iter().filter(|left| left.count > 0) {
        resources.push(format!("{}.{} has {} resource instances", left.gvr.resource, left.gvr.group, left.count));
        for (name, count) in &left.finalizers {
            *finalizers.entry(name).or_default() += count;
        }
    }
    resources.sort();
    let finalizers: Vec<String> =
        finalizers.into_iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let remaining = (!resources.is_empty())
        .then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", resources.join(", "))));
    let held = (!finalizers.is_empty()).then(|| {
        let text = format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", "));
        ("SomeFinalizersRemain", text)
    });
    (remaining, held)
}

fn success(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "NamespaceDeletionDiscoveryFailure" => ("ResourcesDiscovered", "All resources successfully discovered"),
        "NamespaceDeletionGroupVersionParsingFailure" => {
            ("ParsedGroupVersions", "All legacy kube types successfully parsed")
        }
        "NamespaceDeletionContentFailure" => {
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization")
        }
        "NamespaceContentRemaining" => ("ContentRemoved", "All content successfully removed"),
        _ => ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    }
}

fn set(conditions: &mut Vec<NamespaceCondition>, kind: &str, failure: Failure, now: Timestamp) {
    let status = if failure.is_some() { "True" } else { "False" };
    let (reason, message) = failure.unwrap_or_else(|| {
        let (reason, message) = success(kind);
        (reason, message.to_owned())
    });
    let before = conditions.iter_mut().find(|condition| condition.type_ == kind);
    let changed = before.as_ref().is_none_or(|before| before.status != status);
    let since =
        if changed { Some(seconds(now)) } else { before.as_ref().and_then(|own| own.last_transition_time.clone()) };
    let condition = NamespaceCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: since,
    };
    match before {
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
}
