//! Resource quotas and limit ranges.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api_meta::{FieldError, Quantity};

use super::pod::requirements::{container_resource_name, is_huge_page, is_native, resource_name, resource_value};
use crate::at::{At, Errors, IMMUTABLE};
use crate::same::quantity;

const QUOTA_NAMES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

fn quota_list(list: &At<'_>, errors: &mut Errors) {
    for (name, amount) in list.sorted_entries() {
        resource_name(&amount, name, errors);
        let standard = QUOTA_NAMES.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
        if !name.contains('/') && !standard {
            amount.invalid_as(errors, name, "must be a standard resource for quota");
        }
        resource_value(name, &amount, errors);
    }
}

pub fn quota(quota: &At<'_>, errors: &mut Errors) {
    let spec = quota.get("spec");
    quota_list(&spec.get("hard"), errors);
    scopes(&spec, errors);
    selector(&spec, errors);
    quota_list(&quota.dig("status.hard"), errors);
    quota_list(&quota.dig("status.used"), errors);
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const POD_COMPUTE: &[&str] =
    &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "pods"];

/// Which resources a scope can count.
fn counts(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ if SCOPES.contains(&scope) => POD_COMPUTE.contains(&resource),
        _ => true,
    }
}

fn conflicting(scopes: &BTreeSet<&str>) -> bool {
    let pair = |a: &str, b: &str| scopes.contains(a) && scopes.contains(b);
    pair("BestEffort", "NotBestEffort") || pair("Terminating", "NotTerminating")
}

fn scopes(spec: &At<'_>, errors: &mut Errors) {
    let list = spec.get("scopes");
    if list.is_empty() {
        return;
    }
    let mut seen = BTreeSet::new();
    for scope in list.strings() {
        if SCOPES.contains(&scope) {
            let misfits = spec.get("hard").entries().iter().any(|(name, _)| is_standard_misfit(scope, name));
            if misfits {
                list.invalid(errors, "unsupported scope applied to resource");
            }
        } else {
            list.invalid(errors, "unsupported scope");
        }
        seen.insert(scope);
    }
    if conflicting(&seen) {
        list.invalid(errors, "conflicting scopes");
    }
}

fn is_standard_misfit(scope: &str, resource: &str) -> bool {
    QUOTA_NAMES.contains(&resource) && !counts(scope, resource)
}

fn selector(spec: &At<'_>, errors: &mut Errors) {
    let selector = spec.get("scopeSelector");
    if !selector.exists() {
        return;
    }
    let list = selector.get("matchExpressions");
    let mut seen = BTreeSet::new();
    for term in list.items() {
        let (scope, operator, values) = (term.get("scopeName"), term.text("operator"), term.get("values"));
        // Upstream names the list here, and not the element.
        let named = list.with(term.value()).get("scopeName");
        if !SCOPES.contains(&scope.str()) {
            named.invalid(errors, "unsupported scope");
        } else if spec.get("hard").entries().iter().any(|(name, _)| is_standard_misfit(scope.str(), name)) {
            list.invalid(errors, "unsupported scope applied to resource");
        }
        let plain = SCOPES.contains(&scope.str()) && !matches!(scope.str(), "PriorityClass" | "VolumeAttributesClass");
        if plain && operator != "Exists" {
            let text = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            list.get("operator").with(term.get("operator").value()).invalid(errors, text);
        }
        let values = list.get("values").with(values.value());
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                values.required(
                    errors,
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.invalid(
                    errors,
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                list.get("operator").with(term.get("operator").value()).invalid(errors, "not a valid selector operator")
            }
        }
        seen.insert(scope.str());
    }
    if conflicting(&seen) {
        list.invalid_as(errors, spec.get("scopes").value().clone(), "conflicting scopes");
    }
}

pub fn quota_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let set = |quota: &At<'_>| -> BTreeSet<String> {
        quota.dig("spec.scopes").strings().into_iter().map(str::to_owned).collect()
    };
    if set(new) != set(old) {
        new.dig("spec.scopes").invalid(errors, IMMUTABLE);
    }
}

pub fn quota_status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    quota_list(&new.dig("status.hard"), errors);
    quota_list(&new.dig("status.used"), errors);
}

// Limit ranges.

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub fn limit_range(range: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for limit in range.dig("spec.limits").items() {
        let kind = limit.get("type");
        let texts = coracle_api_meta::names::is_qualified_name(kind.str());
        if !texts.is_empty() {
            kind.invalid_all(errors, texts);
        } else if !kind.str().contains('/') && !matches!(kind.str(), "Pod" | "Container" | "PersistentVolumeClaim") {
            kind.invalid(errors, "must be a standard limit type or fully qualified");
        }
        if !seen.insert(kind.str()) {
            kind.duplicate(errors);
        }
        limit_lists(&limit, kind.str(), errors);
        limit_relations(&limit, kind.str(), errors);
    }
}

fn limit_lists(limit: &At<'_>, kind: &str, errors: &mut Errors) {
    for list in LISTS.map(|list| (list, limit.get(list))) {
        if list.0 == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" {
            let storage = |list: &str| limit.get(list).has("storage");
            if !["min", "max"].iter().any(|list| storage(list)) {
                let text = "either minimum or maximum storage value is required, but neither was provided";
                limit.get("limits").required(errors, text);
            }
        }
        if kind == "Pod" && list.0.starts_with("default") {
            if !list.1.is_empty() {
                list.1.forbidden(errors, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in list.1.sorted_entries() {
            if matches!(kind, "Pod" | "Container") {
                container_resource_name(&amount, name, errors);
            } else {
                resource_name(&amount, name, errors);
            }
        }
    }
}

fn limit_relations(limit: &At<'_>, kind: &str, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    let mut lists: BTreeMap<&str, BTreeMap<&str, Quantity>> = BTreeMap::new();
    for list in LISTS.iter().filter(|list| kind != "Pod" || !list.starts_with("default")) {
        for (name, amount) in limit.get(list).entries() {
            names.insert(name);
            if let Some(amount) = quantity(amount.value()) {
                lists.entry(list).or_default().insert(name, amount);
            }
        }
    }
    for name in names {
        let get = |list: &str| lists.get(list).and_then(|list| list.get(name)).copied();
        relations_of(limit, name, &get, errors);
    }
}

fn relations_of(limit: &At<'_>, name: &str, get: &impl Fn(&str) -> Option<Quantity>, errors: &mut Errors) {
    let mut invalid = |list: &'static str, shown: Quantity, text: String| {
        let path = limit.get(list).path().key(name);
        errors.push(FieldError::invalid(&path, shown.to_string(), text));
    };
    let (min, max, default, request) = (get("min"), get("max"), get("default"), get("defaultRequest"));
    let exceeds = |a: Option<Quantity>, b: Option<Quantity>| a.zip(b).filter(|(a, b)| a > b);
    if let Some((min, max)) = exceeds(min, max) {
        invalid("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let Some((min, request)) = exceeds(min, request) {
        invalid("defaultRequest", request, format!("min value {min} is greater than default request value {request}"));
    }
    if let Some((request, max)) = exceeds(request, max) {
        invalid("defaultRequest", request, format!("default request value {request} is greater than max value {max}"));
    }
    if let Some((request, default)) = exceeds(request, default) {
        let text = format!("default request value {request} is greater than default limit value {default}");
        invalid("defaultRequest", request, text);
    }
    if let Some((min, default)) = exceeds(min, default) {
        invalid("default", min, format!("min value {min} is greater than default value {default}"));
    }
    if let Some((default, max)) = exceeds(default, max) {
        invalid("default", max, format!("default value {default} is greater than max value {max}"));
    }
    if let Some(ratio) = get("maxLimitRequestRatio") {
        if ratio < Quantity::from_units(1, coracle_api_meta::quantity::Format::DecimalSi) {
            invalid("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let Some((min, max)) = min.zip(max) {
            let bound = max.milli_value() as f64 / min.milli_value() as f64;
            if ratio.milli_value() as f64 / 1000.0 > bound {
                let text = format!("ratio {ratio} is greater than max/min = {bound:.6}");
                invalid("maxLimitRequestRatio", ratio, text);
            }
        }
    }
    if let Some((default, request)) = default.zip(request).filter(|(a, b)| a != b)
        && (!is_native(name) || is_huge_page(name))
    {
        let text = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        invalid("defaultRequest", request, text);
    }
}
