//! Workloads: replication controllers and group `apps`.

use coracle_api_meta::{FieldError, LabelSelector, Value};
use serde_json::json;

use super::pod;
use crate::at::{At, Errors};
use crate::formats::percent;
use crate::meta::label_selector;
use crate::same::same;

const MISMATCH: &str = "`selector` does not match template `labels`";

fn template_labels<'v>(template: &At<'v>) -> At<'v> {
    template.dig("metadata.labels")
}

/// What all templates that run for ever share.
fn always(template: &At<'_>, owner: &str, errors: &mut Errors) {
    let spec = template.get("spec");
    if spec.text("restartPolicy") != "Always" {
        spec.get("restartPolicy").unsupported(errors, &["Always"]);
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.exists() {
        deadline.forbidden(errors, format!("activeDeadlineSeconds in {owner} is not Supported"));
    }
}

pub fn pod_template(object: &At<'_>, errors: &mut Errors) {
    pod::template(&object.get("template"), errors);
}

pub fn replication_controller(object: &At<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    spec.get("minReadySeconds").non_negative(errors);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if selector.is_empty() {
        selector.required(errors, "");
    }
    if spec.has("replicas") {
        spec.get("replicas").non_negative(errors);
    } else {
        spec.get("replicas").required(errors, "");
    }
    if !template.exists() {
        return template.required(errors, "");
    }
    let labels = template_labels(&template);
    if selector.entries().iter().any(|(key, value)| labels.text(key) != value.str()) {
        labels.invalid(errors, MISMATCH);
    }
    pod::template(&template, errors);
    always(&template, "ReplicationController", errors);
}

/// A selector that is required; gives it when it can be used.
fn selector(selector: &At<'_>, owner: &str, errors: &mut Errors) -> Option<LabelSelector> {
    if !selector.exists() {
        selector.required(errors, "");
        return Some(LabelSelector::nothing());
    }
    label_selector(selector, errors);
    if selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty() {
        selector.invalid(errors, format!("empty selector is invalid for {owner}"));
    }
    match LabelSelector::from_value(selector.value()) {
        Ok(found) => Some(found),
        Err(_) => {
            selector.invalid(errors, if owner == "statefulset" { "" } else { "invalid label selector" });
            None
        }
    }
}

fn matched(template: &At<'_>, selector: &LabelSelector, errors: &mut Errors) {
    let labels = template_labels(template);
    if !selector.is_everything() && !selector.matches(labels.value().as_object()) {
        let shown = if labels.exists() { labels.value().clone() } else { Value::Null };
        labels.invalid_as(errors, shown, MISMATCH);
    }
}

fn replica_template(spec: &At<'_>, errors: &mut Errors) {
    let template = spec.get("template");
    if let Some(selector) = selector(&spec.get("selector"), "deployment", errors) {
        matched(&template, &selector, errors);
        pod::template(&template, errors);
        always(&template, "ReplicaSet", errors);
    }
}

pub fn replica_set(object: &At<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    spec.get("replicas").non_negative(errors);
    spec.get("minReadySeconds").non_negative(errors);
    replica_template(&spec, errors);
}

pub fn deployment(object: &At<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    spec.get("replicas").non_negative(errors);
    replica_template(&spec, errors);
    deployment_strategy(&spec.get("strategy"), errors);
    spec.get("minReadySeconds").non_negative(errors);
    spec.get("revisionHistoryLimit").non_negative(errors);
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline.exists() {
        deadline.non_negative(errors);
        if deadline.int() <= spec.number("minReadySeconds") {
            deadline.invalid(errors, "must be greater than minReadySeconds");
        }
    }
}

fn deployment_strategy(strategy: &At<'_>, errors: &mut Errors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.text("type") {
        "Recreate" if rolling.exists() => {
            rolling.forbidden(errors, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.exists() => rolling.required(errors, "this should be defaulted and never be nil"),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            count_or_percent(&unavailable, errors);
            count_or_percent(&surge, errors);
            if amount(&unavailable) == 0 && amount(&surge) == 0 {
                unavailable.invalid(errors, "may not be 0 when `maxSurge` is 0");
            }
            at_most_whole(&unavailable, errors);
        }
        _ => unsupported_strategy(strategy, &["Recreate", "RollingUpdate"], errors),
    }
}

/// Upstream prints its internal type.
fn unsupported_strategy(strategy: &At<'_>, supported: &[&str], errors: &mut Errors) {
    let rolling = strategy.get("rollingUpdate").value().clone();
    let shown = json!({"Type": strategy.text("type"), "RollingUpdate": rolling});
    errors.push(FieldError::not_supported(&strategy.path(), shown, supported));
}

/// An integer that is not negative, or a percentage.
pub(crate) fn count_or_percent(at: &At<'_>, errors: &mut Errors) {
    match at.value() {
        Value::String(text) => at.invalid_all(errors, percent(text)),
        _ => at.non_negative(errors),
    }
}

fn amount(at: &At<'_>) -> i64 {
    match at.value() {
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or_default(),
        _ => at.int(),
    }
}

pub(crate) fn at_most_whole(at: &At<'_>, errors: &mut Errors) {
    if at.str().ends_with('%') && percent(at.str()).is_empty() && amount(at) > 100 {
        at.invalid(errors, "must not be greater than 100%");
    }
}

pub fn daemon_set(object: &At<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (chosen, template) = (spec.get("selector"), spec.get("template"));
    label_selector(&chosen, errors);
    if let Ok(selector) = LabelSelector::from_value(chosen.value()) {
        let labels = template_labels(&template);
        if !selector.matches(labels.value().as_object()) {
            labels.invalid(errors, MISMATCH);
        }
    }
    if chosen.exists() && chosen.get("matchLabels").is_empty() && chosen.get("matchExpressions").is_empty() {
        chosen.invalid(errors, "empty selector is invalid for daemonset");
    }
    pod::template(&template, errors);
    always(&template, "DaemonSet", errors);
    spec.get("minReadySeconds").non_negative(errors);
    daemon_strategy(&spec.get("updateStrategy"), errors);
    spec.get("revisionHistoryLimit").non_negative(errors);
}

fn daemon_strategy(strategy: &At<'_>, errors: &mut Errors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.exists() => rolling.required(errors, ""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            [&unavailable, &surge].iter().for_each(|at| count_or_percent(at, errors));
            [&unavailable, &surge].iter().for_each(|at| at_most_whole(at, errors));
            match (amount(&unavailable) != 0, amount(&surge) != 0) {
                (true, true) => surge.invalid(errors, "may not be set when maxUnavailable is non-zero"),
                (false, false) => unavailable.required(errors, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => unsupported_strategy(strategy, &["OnDelete", "RollingUpdate"], errors),
    }
}

pub fn selector_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    new.dig("spec.selector").immutable(errors, &old.dig("spec.selector"));
}

// Stateful sets.

fn stateful_rolling(rolling: &At<'_>) -> Value {
    if !rolling.exists() {
        return Value::Null;
    }
    json!({"Partition": rolling.number("partition"), "MaxUnavailable": rolling.get("maxUnavailable").value()})
}

pub fn stateful_set(object: &At<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    stateful_fields(&spec, true, errors);
    let name = spec.get("serviceName");
    if !name.is_empty() {
        name.invalid_all(errors, coracle_api_meta::names::is_dns1123_label(name.str()));
    }
    stateful_template(&spec, errors);
}

fn stateful_fields(spec: &At<'_>, claims: bool, errors: &mut Errors) {
    let management = spec.get("podManagementPolicy");
    match management.str() {
        "" => management.required(errors, ""),
        "OrderedReady" | "Parallel" => {}
        _ => management.invalid(errors, "must be 'OrderedReady' or 'Parallel'"),
    }
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.text("type") {
        "" => strategy.required(errors, ""),
        "OnDelete" if rolling.exists() => {
            rolling.invalid_as(errors, stateful_rolling(&rolling), "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.get("partition").non_negative(errors);
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.exists() {
                count_or_percent(&unavailable, errors);
                if amount(&unavailable) == 0 {
                    unavailable.invalid(errors, "cannot be 0");
                }
                at_most_whole(&unavailable, errors);
            }
        }
        _ => {
            let shown = json!({"Type": strategy.text("type"), "RollingUpdate": stateful_rolling(&rolling)});
            strategy.invalid_as(errors, shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    if retention.exists() {
        retention.get("whenDeleted").one_of(errors, &["Delete", "Retain"]);
        retention.get("whenScaled").one_of(errors, &["Delete", "Retain"]);
    }
    for claim in spec.get("volumeClaimTemplates").items().iter().filter(|_| claims) {
        super::volumes::claim_spec(&claim.get("spec"), errors);
    }
    spec.get("replicas").non_negative(errors);
    spec.get("minReadySeconds").non_negative(errors);
    let start = spec.dig("ordinals.start");
    if start.int() < 0 {
        spec.get("ordinals.start").with(start.value()).non_negative(errors);
    }
}

/// Claims become volumes of the template; host names are the controller's.
fn stateful_template(spec: &At<'_>, errors: &mut Errors) {
    let template = spec.get("template");
    let Some(selector) = selector(&spec.get("selector"), "statefulset", errors) else { return };
    matched(&template, &selector, errors);
    let mut value = template.value().clone();
    let claims = spec.get("volumeClaimTemplates").items();
    if let Some(inner) = crate::edit::object(&mut value, "spec") {
        crate::edit::remove(inner, "subdomain");
        crate::edit::remove(inner, "hostname");
        let names: Vec<&str> = claims.iter().map(|claim| claim.dig("metadata.name").str()).collect();
        let own = inner.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        let kept = own.into_iter().filter(|volume| !names.iter().any(|name| volume["name"] == **name));
        let made = names.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        let volumes: Vec<Value> = made.chain(kept).collect();
        if !volumes.is_empty() {
            crate::edit::put(inner, "volumes", volumes);
        }
    }
    let mut found = Errors::new();
    pod::template(&At::placed(&value, template.path()), &mut found);
    errors.append(&mut found);
    always(&template, "StatefulSet", errors);
}

const STATEFUL_UPDATABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

pub fn stateful_set_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let spec = new.get("spec");
    let mut munged = spec.value().clone();
    for field in STATEFUL_UPDATABLE {
        crate::edit::copy(&mut munged, old.get("spec").value(), field);
    }
    if !same(&munged, old.get("spec").value()) {
        spec.forbidden(errors, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
    }
}

// Controller revisions.

pub fn controller_revision(revision: &At<'_>, errors: &mut Errors) {
    revision.get("revision").non_negative(errors);
    let data = revision.get("data");
    if !data.exists() {
        data.required(errors, "data is mandatory");
    } else if !data.value().is_object() {
        data.required(errors, "data must be a valid JSON object");
    }
}

pub fn controller_revision_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    new.get("data").immutable(errors, &old.get("data"));
}

// Status.

fn counts(status: &At<'_>, fields: &[&'static str], errors: &mut Errors) {
    fields.iter().for_each(|field| status.get(field).non_negative(errors));
}

fn at_most(status: &At<'_>, fields: &[&'static str], ready: &str, errors: &mut Errors) {
    let total = status.number("replicas");
    for field in fields.iter().map(|field| status.get(field)).filter(|field| field.int() > total) {
        field.invalid_as(errors, field.int(), "cannot be greater than status.replicas");
    }
    if status.number("availableReplicas") > status.number("readyReplicas") {
        status.get("availableReplicas").invalid(errors, format!("cannot be greater than {ready}"));
    }
}

fn collisions(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (now, before) = (new.dig("status.collisionCount"), old.dig("status.collisionCount"));
    if before.exists() && now.int() < before.int() {
        now.invalid_as(errors, now.int(), "cannot be decremented");
    }
}

pub fn replica_status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    let status = new.get("status");
    let fields = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    counts(&status, &fields, errors);
    counts(&status, &["terminatingReplicas"], errors);
    at_most(&status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], "readyReplicas", errors);
}

pub fn deployment_status(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let status = new.get("status");
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    counts(&status, &fields, errors);
    at_most(&status, &["updatedReplicas", "readyReplicas", "availableReplicas"], "readyReplicas", errors);
    collisions(new, old, errors);
}

pub fn daemon_set_status(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let fields = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    counts(&new.get("status"), &fields, errors);
    collisions(new, old, errors);
}

pub fn stateful_set_status(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let status = new.get("status");
    let replicas = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    counts(&status, &["replicas"], errors);
    counts(&status, &replicas, errors);
    counts(&status, &["observedGeneration", "collisionCount"], errors);
    at_most(&status, &replicas, "status.readyReplicas", errors);
    collisions(new, old, errors);
}
