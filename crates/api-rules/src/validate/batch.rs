//! Jobs and cron jobs.

use std::collections::BTreeSet;

use coracle_api_meta::{FieldError, FieldPath, LabelSelector, Value, names};

use super::{cron, pod};
use crate::at::{At, Errors};
use crate::edit::{copy, each, make};
use crate::formats::regex;
use crate::meta::label_selector;
use crate::same::same;

const PARALLELISM_INDEXED_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const HIGH_PARALLELISM_MAX: i64 = 10_000;
const HIGH_FAILED_INDEXES_MAX: i64 = 10_000;
const MANAGED_BY_BYTES_MAX: usize = 63;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_BYTES_MAX: usize = 64 * 1024;

pub fn job(job: &At<'_>, errors: &mut Errors) {
    generated_selector(job, errors);
    whole_spec(&job.get("spec"), errors);
    let (spec, name) = (job.get("spec"), job.dig("metadata.name"));
    let completions = spec.number("completions");
    if spec.text("completionMode") == "Indexed" && completions > 0 {
        let host = format!("{}-{}", name.str(), completions - 1);
        if !names::is_dns1123_label(&host).is_empty() {
            name.invalid(errors, format!("will not able to create pod with invalid DNS label: {host}"));
        }
    }
}

/// Selector and labels are made from the uid, unless the user says otherwise.
fn generated_selector(job: &At<'_>, errors: &mut Errors) {
    if job.dig("spec.manualSelector").bool() || !job.dig("spec.selector").exists() {
        return;
    }
    let (uid, name) = (job.dig("metadata.uid").str(), job.dig("metadata.name").str());
    let labels = job.dig("spec.template.metadata.labels");
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    for (key, value) in expected {
        let found = labels.key(key);
        if !found.exists() {
            found.required(errors, format!("must be '{value}'"));
        } else if found.str() != value {
            found.invalid_as(errors, labels.value().clone(), format!("must be '{value}'"));
        }
    }
    let selector = job.dig("spec.selector");
    if let Ok(parsed) = LabelSelector::from_value(selector.value()) {
        let get = |key: &str| expected.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
        if !parsed.matches_with(get) {
            selector.invalid(errors, "`selector` not auto-generated");
        }
    }
}

fn whole_spec(spec: &At<'_>, errors: &mut Errors) {
    job_spec(spec, errors);
    let selector = spec.get("selector");
    if !selector.exists() {
        return selector.required(errors, "");
    }
    label_selector(&selector, errors);
    let labels = spec.dig("template.metadata.labels");
    let matches = |found: LabelSelector| found.matches(labels.value().as_object());
    if LabelSelector::from_value(selector.value()).is_ok_and(|found| !matches(found)) {
        labels.invalid(errors, "`selector` does not match template `labels`");
    }
}

/// What holds for jobs and for the templates of cron jobs.
fn job_spec(spec: &At<'_>, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.get(field).non_negative(errors);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        spec.get("backoffLimitPerIndex").required(errors, "when maxFailedIndexes is specified");
    }
    managed_by(&spec.get("managedBy"), errors);
    completion_mode(spec, errors);
    let failure = spec.get("podFailurePolicy");
    if failure.exists() {
        failure_policy(spec, &failure, errors);
    }
    let success = spec.get("successPolicy");
    if success.exists() {
        if spec.text("completionMode") == "Indexed" {
            success_policy(spec, &success, errors);
        } else {
            success.invalid(errors, "requires indexed completion mode");
        }
    }
    let replacement = spec.get("podReplacementPolicy");
    let supported: &[&str] = if failure.exists() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    replacement.one_of_if_set(errors, supported);
    pod::template(&spec.get("template"), errors);
    let restart = spec.dig("template.spec.restartPolicy");
    match restart.str() {
        "Always" | "" => restart.required(errors, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if failure.exists() => {
            restart.invalid(errors, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        _ => restart.unsupported(errors, &["OnFailure", "Never"]),
    }
}

fn managed_by(managed: &At<'_>, errors: &mut Errors) {
    if !managed.exists() {
        return;
    }
    let text = managed.str();
    match text.split_once('/') {
        _ if text.is_empty() => managed.required(errors, ""),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            names::is_dns1123_subdomain(host).into_iter().for_each(|detail| managed.invalid_as(errors, host, detail));
            if !regex!(r"^[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$").is_match(path) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                managed.invalid_as(errors, path, detail);
            }
        }
        _ => managed.invalid(errors, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if text.len() > MANAGED_BY_BYTES_MAX {
        managed.too_long(errors, MANAGED_BY_BYTES_MAX);
    }
}

fn completion_mode(spec: &At<'_>, errors: &mut Errors) {
    let mode = spec.get("completionMode");
    mode.one_of_if_set(errors, &["NonIndexed", "Indexed"]);
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    let (failed, backoff) = (spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex"));
    if mode.str() != "Indexed" {
        for field in
            [&backoff, &failed].into_iter().filter(|field| field.exists() && matches!(mode.str(), "" | "NonIndexed"))
        {
            field.invalid(errors, "requires indexed completion mode");
        }
        return;
    }
    if !completions.exists() {
        completions.required(errors, "when completion mode is Indexed");
    }
    let bound = |at: &At<'_>, max: i64, when: &str, errors: &mut Errors| {
        if at.int() > max {
            at.invalid(errors, format!("must be less than or equal to {max}{when}"));
        }
    };
    bound(&parallelism, PARALLELISM_INDEXED_MAX, " when completion mode is Indexed", errors);
    if completions.exists() && failed.int() > completions.int() {
        failed.invalid(errors, "must be less than or equal to completions");
    }
    bound(&failed, FAILED_INDEXES_MAX, "", errors);
    if completions.int() > COMPLETIONS_SOFT_MAX && backoff.exists() {
        if !failed.exists() {
            failed.required(errors, format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}"));
        }
        let when = format!(" when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index");
        bound(&parallelism, HIGH_PARALLELISM_MAX, &when, errors);
        bound(&failed, HIGH_FAILED_INDEXES_MAX, &when, errors);
    }
}

fn failure_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut Errors) {
    let rules = policy.get("rules");
    if rules.len() > RULES_MAX {
        rules.too_many(errors, RULES_MAX);
    }
    for rule in rules.items() {
        let action = rule.get("action");
        let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
        match action.str() {
            "" => action.required(errors, "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                action.invalid(errors, "requires the backoffLimitPerIndex to be set");
            }
            _ => action.one_of(errors, &actions),
        }
        let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
        if codes.exists() {
            exit_codes(spec, &codes, errors);
        }
        pod_conditions(&conditions, errors);
        match (codes.exists(), conditions.is_empty()) {
            (true, false) => {
                rule.invalid_unshown(errors, "specifying both OnExitCodes and OnPodConditions is not supported");
            }
            (false, true) => {
                rule.invalid_unshown(errors, "specifying one of OnExitCodes and OnPodConditions is required");
            }
            _ => {}
        }
    }
}

fn pod_conditions(conditions: &At<'_>, errors: &mut Errors) {
    if conditions.len() > RULES_MAX {
        conditions.too_many(errors, RULES_MAX);
    }
    for pattern in conditions.items() {
        let (kind, status) = (pattern.get("type"), pattern.get("status"));
        kind.invalid_all(errors, names::is_qualified_name(kind.str()));
        if status.is_empty() {
            status.required(errors, "valid values: [\"False\" \"True\" \"Unknown\"]");
        } else {
            status.one_of(errors, &["False", "True", "Unknown"]);
        }
    }
}

fn exit_codes(spec: &At<'_>, codes: &At<'_>, errors: &mut Errors) {
    let (operator, container, values) = (codes.get("operator"), codes.get("containerName"), codes.get("values"));
    if operator.is_empty() {
        operator.required(errors, "valid values: [\"In\" \"NotIn\"]");
    } else {
        operator.one_of(errors, &["In", "NotIn"]);
    }
    let lists = ["containers", "initContainers"].map(|list| spec.dig("template.spec").get(list).items());
    let known = lists.iter().flatten().any(|one| one.text("name") == container.str());
    if container.exists() && !known {
        container.invalid(errors, "must be one of the container or initContainer names in the pod template");
    }
    if values.is_empty() {
        let shown = if values.exists() { values.value().clone() } else { Value::Null };
        values.invalid_as(errors, shown, "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        values.too_many(errors, EXIT_CODES_MAX);
    }
    let mut seen = BTreeSet::new();
    let numbers: Vec<i64> = values.items().iter().map(At::int).collect();
    for value in values.items() {
        if operator.str() == "In" && value.int() == 0 {
            value.invalid(errors, "must not be 0 for the In operator");
        }
        if !seen.insert(value.int()) {
            value.duplicate(errors);
        }
    }
    if !numbers.is_sorted() {
        values.invalid(errors, "must be ordered");
    }
}

fn success_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut Errors) {
    let rules = policy.get("rules");
    let completions = spec.number("completions");
    if rules.is_empty() {
        rules.required(errors, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > RULES_MAX {
        rules.too_many(errors, RULES_MAX);
    }
    for rule in rules.items() {
        let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if !count.exists() && !indexes.exists() {
            rule.required(errors, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = 0;
        if indexes.exists() {
            if indexes.len() > INDEXES_BYTES_MAX {
                indexes.too_long(errors, INDEXES_BYTES_MAX);
            }
            match parse_indexes(indexes.str(), completions) {
                Ok(found) => total = found,
                Err(text) => indexes.invalid(errors, format!("error parsing succeededIndexes: {text}")),
            }
        }
        if count.exists() {
            count.non_negative(errors);
            let mut bound = |max: i64, what: &str| {
                if count.int() > max {
                    count.invalid(errors, format!("must be less than or equal to {max} (the number of {what})"));
                }
            };
            bound(completions, "specified completions");
            if indexes.exists() {
                bound(total, "indexes in the specified succeededIndexes field");
            }
        }
    }
}

/// `1,3-5,7`, rising and below `completions`. Gives how many there are.
fn parse_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let mut last: Option<i64> = None;
    let mut total = 0;
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = interval.split('-').collect();
        if ends.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let mut numbers = Vec::new();
        for end in ends {
            let number: i64 =
                end.parse().map_err(|_| format!("cannot convert string to integer for index: {end:?}"))?;
            if number >= completions {
                return Err(format!("too large index: {end:?}"));
            }
            numbers.push(number);
        }
        let (first, end) = match numbers.as_slice() {
            [first, end] if first >= end => {
                return Err(format!("non-increasing order, previous: {first}, current: {end}"));
            }
            [first, end] => (*first, *end),
            [only] => (*only, *only),
            _ => continue,
        };
        if let Some(previous) = last.filter(|previous| *previous >= first) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

pub fn job_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    job(new, errors);
    let (completions, then) = (spec.get("completions"), before.get("completions"));
    if spec.text("completionMode") != "Indexed" {
        immutable(&completions, &then, errors);
    } else if completions.exists()
        && !same(completions.value(), then.value())
        && completions.int() != spec.number("parallelism")
    {
        completions.invalid(errors, "can only be modified in tandem with spec.parallelism");
    }
    immutable(&spec.get("selector"), &before.get("selector"), errors);
    template_update(&spec, old, errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(&spec.get(field), &before.get(field), errors);
    }
}

/// As everywhere, but a removed number is shown as `null`.
fn immutable(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if !same(new.value(), old.value()) {
        new.invalid_as(errors, new.value().clone(), crate::at::IMMUTABLE);
    }
}

/// A suspended job that has no pods may be sent elsewhere, with other resources.
fn template_update(spec: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let template = spec.get("template");
    let mut allowed = old.dig("spec.template").value().clone();
    let suspended = old.dig("spec.suspend").bool();
    let conditions = old.dig("status.conditions").items();
    let says_so = conditions.iter().any(|one| one.text("type") == "Suspended" && one.text("status") == "True");
    let started = old.get("status").has("startTime");
    if suspended && (!started || says_so) && old.dig("status.active").int() == 0 {
        allow_moves(&mut allowed, template.value());
    }
    if !same(template.value(), &allowed) {
        template.invalid(errors, crate::at::IMMUTABLE);
    }
}

fn allow_moves(allowed: &mut Value, new: &Value) {
    let part = |field: &str| new.get(field).cloned().unwrap_or_default();
    if let Some(meta) = make(allowed, "metadata") {
        copy(meta, &part("metadata"), "annotations");
        copy(meta, &part("metadata"), "labels");
    }
    let Some(spec) = make(allowed, "spec") else { return };
    let sent = part("spec");
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        copy(spec, &sent, field);
    }
    let affinity = sent.get("affinity").cloned().unwrap_or_default();
    if let Some(own) = make(spec, "affinity") {
        copy(own, &affinity, "nodeAffinity");
        if own.as_object().is_some_and(serde_json::Map::is_empty) && affinity.is_null() {
            crate::edit::remove(spec, "affinity");
        }
    }
    for list in ["containers", "initContainers"] {
        let containers = sent.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        for (container, sent) in
            each(spec, list).zip(&containers).filter(|(own, sent)| own.get("name") == sent.get("name"))
        {
            copy(container, sent, "resources");
        }
    }
}

// Status.

fn is(job: &At<'_>, kind: &str) -> bool {
    let conditions = job.dig("status.conditions").items();
    conditions.iter().any(|one| one.text("type") == kind && one.text("status") == "True")
}

pub fn job_status(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let status = new.get("status");
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        status.get(field).non_negative(errors);
    }
    uncounted(&status.get("uncountedTerminatedPods"), errors);
    conditions(new, old, errors);
    finished(new, errors);
    times(new, old, errors);
    indexes(new, errors);
    for field in ["failed", "succeeded"] {
        if status.number(field) < old.get("status").number(field) {
            let at = status.get(field);
            at.invalid_as(errors, at.int(), format!("cannot decrease the {field} counter"));
        }
    }
}

fn uncounted(pods: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for uid in ["succeeded", "failed"].iter().flat_map(|list| pods.get(list).items()) {
        if uid.is_empty() {
            uid.invalid(errors, "must not be empty");
        } else if !seen.insert(uid.str()) {
            uid.duplicate(errors);
        }
    }
}

fn conditions(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let at = FieldPath::new("status").child("conditions");
    let mut say = |bad: bool, text: String| {
        if bad {
            errors.push(FieldError::invalid_unshown(&at, text));
        }
    };
    let pairs = [
        ("Complete", "Failed"),
        ("Complete", "FailureTarget"),
        ("SuccessCriteriaMet", "Failed"),
        ("SuccessCriteriaMet", "FailureTarget"),
    ];
    for (a, b) in pairs {
        say(is(new, a) && is(new, b), format!("cannot set {a}=True and {b}=true conditions"));
    }
    for (end, sign) in [("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")] {
        let fresh = is(new, end) && !is(old, end);
        say(fresh && !is(new, sign), format!("cannot set {end}=True condition without the {sign}=true condition"));
    }
    for end in ["Failed", "Complete", "FailureTarget"] {
        say(is(old, end) && !is(new, end), format!("cannot disable the terminal {end}=True condition"));
    }
    let met = "SuccessCriteriaMet";
    say(is(old, met) && !is(new, met), "cannot disable the SuccessCriteriaMet=True condition".to_owned());
    let late = is(old, "Complete") && !is(old, met) && is(new, met);
    say(late, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions".to_owned());
}

fn finished(job: &At<'_>, errors: &mut Errors) {
    let status = job.get("status");
    if !is(job, "Complete") && !is(job, "Failed") {
        return;
    }
    for field in ["active", "terminating"].map(|field| (field, status.get(field))) {
        if field.1.int() > 0 {
            field.1.invalid(errors, format!("{}>0 is invalid for finished job", field.0));
        }
    }
    if !status.has("startTime") {
        status.get("startTime").required(errors, "startTime is required for finished job");
    }
    let pods = status.get("uncountedTerminatedPods");
    if !pods.get("succeeded").is_empty() || !pods.get("failed").is_empty() {
        pods.invalid(errors, "must be empty for finished job");
    }
}

fn times(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (status, before) = (new.get("status"), old.get("status"));
    let (end, start) = (status.get("completionTime"), status.get("startTime"));
    match (end.exists(), is(new, "Complete")) {
        (true, false) => end.invalid(errors, "cannot set completionTime when there is no Complete=True condition"),
        (false, true) => end.required(errors, "completionTime is required for Complete jobs"),
        _ => {}
    }
    if end.exists() && start.exists() && end.str() < start.str() {
        end.invalid(errors, "must be equal to or after `startTime`");
    }
    let (was_end, was_start) = (before.get("completionTime"), before.get("startTime"));
    if end.exists() && was_end.exists() && end.str() != was_end.str() {
        end.invalid(errors, crate::at::IMMUTABLE);
    }
    if was_start.exists() && start.str() != was_start.str() && !new.dig("spec.suspend").bool() {
        start.invalid(errors, "field is immutable for unsuspended job once set");
    }
}

fn indexes(job: &At<'_>, errors: &mut Errors) {
    let (spec, status) = (job.get("spec"), job.get("status"));
    let (completed, failed) = (status.get("completedIndexes"), status.get("failedIndexes"));
    let completions = spec.get("completions").opt_int();
    if !completed.is_empty() && spec.text("completionMode") != "Indexed" {
        completed.invalid(errors, "cannot set non-empty completedIndexes when non-indexed completion mode");
    }
    if failed.exists() && !spec.has("backoffLimitPerIndex") {
        failed.invalid(errors, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
    let lists = [("completedIndexes", &completed), ("failedIndexes", &failed)];
    for (name, list) in lists.into_iter().filter(|(_, list)| list.exists()) {
        if let Some(Err(text)) = completions.map(|completions| parse_indexes(list.str(), completions)) {
            list.invalid(errors, format!("error parsing {name}: {text}"));
        }
    }
    if status.number("ready") > status.number("active") {
        status.get("ready").invalid(errors, "cannot set more ready pods than active");
    }
}

// Cron jobs.

const CRON_NAME_BYTES_MAX: usize = 52;

pub fn cron_job(job: &At<'_>, errors: &mut Errors) {
    let spec = job.get("spec");
    let schedule = spec.get("schedule");
    if schedule.is_empty() {
        schedule.required(errors, "");
    } else {
        if let Err(text) = cron::check(schedule.str()) {
            schedule.invalid(errors, text);
        }
        if schedule.str().contains("TZ") {
            schedule.invalid(errors, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
    }
    spec.get("startingDeadlineSeconds").non_negative(errors);
    time_zone(&spec.get("timeZone"), errors);
    spec.get("concurrencyPolicy").required_one_of(errors, &["Allow", "Forbid", "Replace"]);
    let inner = spec.dig("jobTemplate.spec");
    job_spec(&inner, errors);
    if inner.has("selector") {
        inner.get("selector").invalid(errors, "`selector` will be auto-generated");
    }
    if inner.flag("manualSelector") {
        let path = inner.get("manualSelector").path();
        errors.push(FieldError::not_supported(&path, true, &["nil", "false"]));
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.get(field).non_negative(errors);
    }
    let name = job.dig("metadata.name");
    if name.len() > CRON_NAME_BYTES_MAX {
        name.invalid(errors, format!("must be no more than {CRON_NAME_BYTES_MAX} characters"));
    }
}

fn time_zone(zone: &At<'_>, errors: &mut Errors) {
    if !zone.exists() {
        return;
    }
    let name = zone.str();
    if name.is_empty() {
        return zone.invalid(errors, "timeZone must be nil or non-empty string");
    }
    let good = |part: &str| {
        !matches!(part, "." | "..") && !part.starts_with('-') && regex!(r"^[A-Za-z\.\-_0-9+]{1,14}$").is_match(part)
    };
    if !name.split('/').all(good) {
        return zone.invalid(errors, format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("local") {
        let text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        zone.invalid(errors, text);
    }
}

/// The name cannot change, and a zone in the schedule may stay.
pub fn cron_job_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    errors.retain(|error| error.path.as_str() != "metadata.name" || !error.detail.ends_with("52 characters"));
    if old.dig("spec.schedule").str().contains("TZ") && !new.get("spec").has("timeZone") {
        errors.retain(|error| !error.detail.starts_with("cannot use TZ or CRON_TZ"));
    }
}
