//! Horizontal pod autoscalers, of both versions.

use coracle_api_meta::{ObjectExt, names};

use super::pod::requirements;
use crate::at::{At, Errors};
use crate::same::quantity;

const PERIOD_SECONDS_MAX: i64 = 1800;
const WINDOW_SECONDS_MAX: i64 = 3600;

pub fn autoscaler(autoscaler: &At<'_>, errors: &mut Errors) {
    let spec = autoscaler.get("spec");
    let (low, high) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if low.exists() && low.int() < 1 {
        low.invalid(errors, "must be greater than or equal to 1");
    }
    if high.int() == 0 {
        high.required(errors, "must be set and greater than 0");
    } else if high.int() < 0 {
        high.invalid(errors, "must be greater than or equal to 1");
    }
    if low.exists() && high.int() < low.int() {
        high.invalid_as(errors, high.int(), "must be greater than or equal to `minReplicas`");
    }
    reference(&spec.get("scaleTargetRef"), errors);
    if autoscaler.value().api_version() == "autoscaling/v1" {
        let percent = spec.get("targetCPUUtilizationPercentage");
        if percent.exists() && percent.int() < 1 {
            percent.invalid(errors, "must be greater than 0");
        }
        return;
    }
    spec.get("metrics").items().iter().for_each(|one| metric(one, errors));
    let behavior = spec.get("behavior");
    for rules in ["scaleUp", "scaleDown"].map(|field| behavior.get(field)).iter().filter(|rules| rules.exists()) {
        scaling_rules(rules, errors);
    }
}

fn reference(reference: &At<'_>, errors: &mut Errors) {
    for field in ["kind", "name"].map(|field| reference.get(field)) {
        if field.is_empty() {
            field.required(errors, "");
        } else {
            field.invalid_all(errors, names::is_path_segment(field.str()));
        }
    }
    let version = reference.get("apiVersion");
    if !version.is_empty() && coracle_api_meta::GroupVersion::parse(version.str()).is_none() {
        version.invalid(errors, format!("unexpected GroupVersion string: {}", version.str()));
    }
}

fn scaling_rules(rules: &At<'_>, errors: &mut Errors) {
    let window = rules.get("stabilizationWindowSeconds");
    if window.int() < 0 {
        window.invalid(errors, "must be greater than or equal to zero");
    }
    if window.int() > WINDOW_SECONDS_MAX {
        window.invalid(errors, format!("must be less than or equal to {WINDOW_SECONDS_MAX}"));
    }
    rules.get("selectPolicy").one_of_if_set(errors, &["Disabled", "Max", "Min"]);
    let policies = rules.get("policies");
    if policies.is_empty() {
        policies.required(errors, "must specify at least one Policy");
    }
    for policy in policies.items() {
        policy.get("type").one_of(errors, &["Percent", "Pods"]);
        policy.get("value").positive(errors);
        let period = policy.get("periodSeconds");
        period.positive(errors);
        if period.int() > PERIOD_SECONDS_MAX {
            period.invalid(errors, format!("must be less than or equal to {PERIOD_SECONDS_MAX}"));
        }
    }
    let tolerance = rules.get("tolerance");
    if let Some(value) = quantity(tolerance.value()).filter(|value| value.is_negative()) {
        tolerance.invalid_as(errors, value.to_string(), crate::at::NON_NEGATIVE);
    }
}

/// Types of metrics and the fields that go with them, in upstream's order.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn metric(metric: &At<'_>, errors: &mut Errors) {
    let kind = metric.get("type");
    if kind.is_empty() {
        kind.required(errors, "must specify a metric source type");
    }
    let names: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
    kind.one_of(errors, &names);
    let given: Vec<&'static str> = SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.has(field)).collect();
    if let Some(first) = given.first() {
        source(first, &metric.get(first), errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.str()).map(|(_, field)| *field);
    match expected {
        Some(field) if !metric.has(field) => {
            metric.get(field).required(errors, "must populate information for the given metric source");
        }
        Some(_) => {}
        None => kind.one_of(errors, &names),
    }
    if given.len() != 1 {
        for field in given.iter().filter(|field| Some(**field) != expected) {
            metric.get(field).forbidden(errors, "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: &At<'_>, errors: &mut Errors) {
    let target = source.get("target");
    let (value, average, percent) = (target.get("value"), target.get("averageValue"), target.get("averageUtilization"));
    match kind {
        "object" => reference(&source.get("describedObject"), errors),
        "resource" | "containerResource" => {
            let (name, container) = (source.get("name"), source.get("container"));
            if name.is_empty() {
                name.required(errors, "must specify a resource name");
            } else if kind == "containerResource" {
                requirements::container_resource_name(&name, name.str(), errors);
            }
            if kind == "containerResource" {
                if container.is_empty() {
                    container.required(errors, "must specify a container");
                } else {
                    container.invalid_all(errors, names::is_dns1123_label(container.str()));
                }
            }
        }
        _ => {}
    }
    if matches!(kind, "object" | "external" | "pods") {
        identifier(&source.get("metric").get("name"), errors);
    }
    metric_target(&target, errors);
    match kind {
        "object" if !value.exists() && !average.exists() => {
            average.required(errors, "must set either a target value or averageValue");
        }
        "external" if !value.exists() && !average.exists() => {
            average.required(errors, "must set either a target value for metric or a per-pod target");
        }
        "external" if value.exists() && average.exists() => {
            value.forbidden(errors, "may not set both a target value for metric and a per-pod target");
        }
        "pods" if !average.exists() => average.required(errors, "must specify a positive target averageValue"),
        "resource" | "containerResource" => match (percent.exists(), average.exists()) {
            (false, false) => {
                percent.required(errors, "must set either a target raw value or a target utilization");
            }
            (true, true) => average.forbidden(errors, "may not set both a target raw value and a target utilization"),
            _ => {}
        },
        _ => {}
    }
}

fn identifier(name: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        name.required(errors, "must specify a metric name");
    } else {
        name.invalid_all(errors, names::is_path_segment(name.str()));
    }
}

fn metric_target(target: &At<'_>, errors: &mut Errors) {
    let kind = target.get("type");
    if kind.is_empty() {
        kind.required(errors, "must specify a metric target type");
    }
    if !matches!(kind.str(), "Utilization" | "Value" | "AverageValue") {
        kind.invalid(errors, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"].map(|field| target.get(field)) {
        if quantity(field.value()).is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            field.invalid(errors, "must be positive");
        }
    }
    let percent = target.get("averageUtilization");
    if percent.exists() && percent.int() < 1 {
        percent.invalid(errors, "must be greater than 0");
    }
}
