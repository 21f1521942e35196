//! Events, of both groups. They have one set of rules, and stricter ones for `events.k8s.io`.

use coracle_api_meta::{FieldError, FieldPath, names};

use crate::at::{At, Errors};
use crate::same::same;

const NAME_BYTES_MAX: usize = 128;
const NOTE_BYTES_MAX: usize = 1024;

/// What a field is called in a group.
struct Names {
    about: &'static str,
    message: &'static str,
    controller: &'static str,
}

const CORE: Names = Names { about: "involvedObject", message: "message", controller: "reportingComponent" };
const EVENTS: Names = Names { about: "regarding", message: "note", controller: "reportingController" };

fn invalid(errors: &mut Errors, field: &str, detail: impl Into<String>) {
    errors.push(FieldError::invalid(&FieldPath::new(field), "", detail));
}

fn required(errors: &mut Errors, field: &str) {
    errors.push(FieldError::required(&FieldPath::new(field), ""));
}

fn common(event: &At<'_>, own: &Names, errors: &mut Errors) {
    let namespace = event.dig("metadata.namespace");
    // Both groups report the names of the core group here.
    let about = event.get("involvedObject").with(event.get(own.about).value()).get("namespace");
    let mismatch = |allowed: &[&str]| match about.is_empty() {
        true => !allowed.contains(&namespace.str()),
        false => namespace.str() != about.str(),
    };
    if event.text("eventTime").is_empty() {
        if mismatch(&["", "default"]) {
            about.invalid(errors, "does not match event.namespace");
        }
    } else {
        if about.is_empty() && !["default", "kube-system"].contains(&namespace.str()) {
            about.invalid(errors, "does not match event.namespace");
        }
        timed(event, own, errors);
    }
    for text in names::is_dns1123_subdomain(namespace.str()) {
        errors.push(FieldError::invalid(&FieldPath::new("namespace"), namespace.str(), text));
    }
}

/// Events with a time of their own say who made them.
fn timed(event: &At<'_>, own: &Names, errors: &mut Errors) {
    let controller = event.text(own.controller);
    if controller.is_empty() {
        required(errors, own.controller);
    }
    for text in names::is_qualified_name(controller) {
        errors.push(FieldError::invalid(&FieldPath::new(own.controller), controller, text));
    }
    for field in ["reportingInstance", "action", "reason"] {
        if event.text(field).is_empty() {
            required(errors, field);
        }
        if event.text(field).len() > NAME_BYTES_MAX {
            invalid(errors, field, format!("can have at most {NAME_BYTES_MAX} characters"));
        }
    }
    if event.text(own.message).len() > NOTE_BYTES_MAX {
        invalid(errors, "message", format!("can have at most {NOTE_BYTES_MAX} characters"));
    }
}

pub fn create(event: &At<'_>, errors: &mut Errors) {
    common(event, &CORE, errors);
}

pub fn update(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    // The core group keeps no field of an event.
    errors.clear();
    common(new, &CORE, errors);
}

fn series(event: &At<'_>, errors: &mut Errors) {
    let series = event.get("series");
    if series.exists() {
        if series.number("count") < 2 {
            invalid(errors, "series.count", "should be at least 2");
        }
        if series.text("lastObservedTime").is_empty() {
            required(errors, "series.lastObservedTime");
        }
    }
}

pub fn create_v1(event: &At<'_>, errors: &mut Errors) {
    common(event, &EVENTS, errors);
    series(event, errors);
    if event.text("eventTime").is_empty() {
        required(errors, "eventTime");
    }
    let kind = event.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        invalid(errors, "type", format!("has invalid value: {kind}"));
    }
    let unset = [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ];
    for (field, shown) in unset {
        if event.value().get(field).is_some_and(|value| !crate::same::is_zero(value)) {
            invalid(errors, shown, "needs to be unset");
        }
    }
}

const FIXED: [(&str, &str); 13] = [
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

pub fn update_v1(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    common(new, &EVENTS, errors);
    if !same(new.get("series").value(), old.get("series").value()) {
        series(new, errors);
    }
    for (field, shown) in FIXED {
        let (now, before) = (new.get(field), old.get(field));
        new.get(shown).with(now.value()).immutable(errors, &before);
    }
}
