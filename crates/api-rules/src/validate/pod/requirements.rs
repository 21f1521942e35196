//! Requests and limits.

use coracle_api_meta::{FieldError, Quantity, names};

use super::Context;
use crate::at::{At, Errors, NON_NEGATIVE};
use crate::resources::{amounts, container_total, is_pod_level};
use crate::same::quantity;

/// Names that need no domain.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const INTEGERS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

#[must_use]
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

#[must_use]
pub fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Known to Kubernetes itself: no domain, or `kubernetes.io`.
#[must_use]
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of someone else, counted in whole numbers.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// The name of any resource; true when it is good.
pub(crate) fn resource_name(at: &At<'_>, name: &str, errors: &mut Errors) -> bool {
    let texts = names::is_qualified_name(name);
    if !texts.is_empty() {
        texts.into_iter().for_each(|text| at.invalid_as(errors, name, text));
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        at.invalid_as(errors, name, "must be a standard resource type or fully qualified");
        return false;
    }
    true
}

pub(crate) fn container_resource_name(at: &At<'_>, name: &str, errors: &mut Errors) {
    resource_name(at, name, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            at.invalid_as(errors, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        at.invalid_as(errors, name, "doesn't follow extended resource name standard");
    }
}

/// An amount of a resource: not negative, and whole where parts make no sense.
pub(crate) fn resource_value(name: &str, amount: &At<'_>, errors: &mut Errors) {
    let Some(value) = quantity(amount.value()) else { return };
    if value.is_negative() {
        amount.invalid_as(errors, value.to_string(), NON_NEGATIVE);
    }
    if (INTEGERS.contains(&name) || is_extended(name)) && value.milli_value() % 1000 != 0 {
        amount.invalid_as(errors, value.to_string(), "must be an integer");
    }
}

/// One entry of requests, limits or overhead of a container.
pub(crate) fn container_resource(name: &str, amount: &At<'_>, errors: &mut Errors) {
    container_resource_name(amount, name, errors);
    resource_value(name, amount, errors);
    huge_page_value(name, amount, errors);
}

fn pod_resource(name: &str, amount: &At<'_>, errors: &mut Errors) {
    if resource_name(amount, name, errors) && !is_pod_level(name) {
        let supported = ["cpu", "hugepages-", "memory"];
        errors.push(FieldError::not_supported(&amount.path(), name, &supported));
    }
    resource_value(name, amount, errors);
    huge_page_value(name, amount, errors);
}

fn huge_page_value(name: &str, amount: &At<'_>, errors: &mut Errors) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let (Some(value), Ok(size)) = (quantity(amount.value()), Quantity::parse(size)) else { return };
    if size.value() <= 0 || value.value() % size.value() != 0 {
        amount.invalid_as(errors, value.to_string(), format!("{value} is not positive integer multiple of {name}"));
    }
}

/// `resources` of a container.
pub(crate) fn container(requirements: &At<'_>, claims: &[&str], errors: &mut Errors) {
    check(requirements, container_resource, errors);
    claim_names(&requirements.get("claims"), claims, errors);
}

fn check(requirements: &At<'_>, entry: fn(&str, &At<'_>, &mut Errors), errors: &mut Errors) {
    let (limits, requests) = (requirements.get("limits"), requirements.get("requests"));
    for (name, amount) in limits.sorted_entries() {
        entry(name, &amount, errors);
    }
    for (name, amount) in requests.sorted_entries() {
        entry(name, &amount, errors);
        let limit = limits.key(name);
        let Some(asked) = quantity(amount.value()) else { continue };
        match quantity(limit.value()) {
            Some(most) if asked != most && !overcommits(name) => {
                requests.invalid_as(errors, asked.to_string(), format!("must be equal to {name} limit of {most}"));
            }
            Some(most) if asked > most => {
                let text = format!("must be less than or equal to {name} limit of {most}");
                requests.invalid_as(errors, asked.to_string(), text);
            }
            None if !overcommits(name) => limits.required(errors, "Limit must be set for non overcommitable resources"),
            _ => {}
        }
    }
    let names: Vec<&str> = [&limits, &requests].iter().flat_map(|list| list.entries()).map(|(name, _)| name).collect();
    if names.iter().any(|name| is_huge_page(name)) && !names.iter().any(|name| matches!(*name, "cpu" | "memory")) {
        requirements.forbidden(errors, "HugePages require cpu or memory");
    }
}

fn claim_names(claims: &At<'_>, known: &[&str], errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for claim in claims.items() {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            claim.required(errors, "");
            continue;
        }
        let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
        let part_of = |other: &String| other.split_once('/').is_some_and(|(claim, _)| claim == name);
        if seen.iter().any(|other| other == name) {
            claim.duplicate_as(errors, name);
        } else {
            if !request.is_empty() {
                claim.get("request").invalid_all(errors, names::is_dns1123_label(request));
            }
            if seen.contains(&key) {
                claim.duplicate_as(errors, key.as_str());
            } else if request.is_empty() && seen.iter().any(part_of) {
                claim.duplicate_as(errors, name);
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut error = FieldError::not_found(&claim.path(), name);
            "must be one of the names in pod.spec.resourceClaims".clone_into(&mut error.detail);
            let mut known = known.to_vec();
            known.sort_unstable();
            error.detail +=
                &if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
            errors.push(error);
        }
    }
}

/// `resources` of the pod as a whole, KEP-2837.
pub(crate) fn pod_level(spec: &At<'_>, _: &Context<'_>, errors: &mut Errors) {
    let own = spec.get("resources");
    if !own.exists() {
        return;
    }
    if spec.dig("os.name").str() == "windows" {
        return own.forbidden(errors, "may not be set for a windows pod");
    }
    if own.has("claims") {
        own.get("claims").forbidden(errors, "claims may not be set for Resources at pod-level");
    }
    check(&own, pod_resource, errors);
    let (requests, limits) = (amounts(own.value().get("requests")), amounts(own.value().get("limits")));
    for (name, total) in container_total(spec.value(), "requests") {
        if let Some(asked) = requests.get(&name).filter(|asked| total > **asked) {
            let text = format!("must be greater than or equal to aggregate container requests of {total}");
            errors.push(FieldError::invalid(&own.get("requests").path().key(&name), asked.to_string(), text));
        }
    }
    for (name, total) in container_total(spec.value(), "limits").into_iter().filter(|(name, _)| is_huge_page(name)) {
        if let Some(most) = limits.get(&name).filter(|most| total > **most) {
            let text = format!("must be greater than or equal to aggregate container limits of {total}");
            errors.push(FieldError::invalid(&own.get("limits").path().key(&name), most.to_string(), text));
        }
    }
    for (index, container) in spec.get("containers").items().iter().enumerate() {
        for (name, limit) in amounts(Some(container.dig("resources.limits").value())) {
            if let Some(most) = limits.get(&name).filter(|most| limit > **most) {
                let path = own.get("containers").path().index(index).key(&name).child("limits");
                let text = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(&path, limit.to_string(), text));
            }
        }
    }
}
