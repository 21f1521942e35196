//! Rules and selectors.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvr, LabelSelector, Map, Status, Value};

use super::super::{Lookup, Operation, Request, list};
use super::Hook;

/// A webhook that is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// As the rule names it: another version of the request's resource, where the hook wants equivalents.
    pub gvr: Gvr,
}

/// Kinds that decide about admission are not subject to it. Source: `IsExemptAdmissionConfigurationResource`.
const EXEMPT: [&str; 6] = [
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// Whether a hook is asked about a write. `equivalents` are the other resources that serve the same objects.
pub fn matches(
    hook: &Hook<'_>,
    request: &Request<'_>,
    object: &Value,
    equivalents: &[Gvr],
    lookup: &dyn Lookup,
) -> Result<Option<Matched>, Status> {
    if request.gvr.group == "admissionregistration.k8s.io" && EXEMPT.contains(&request.gvr.resource.as_str()) {
        return Ok(None);
    }
    let Some(matched) = by_rules(hook, request, equivalents) else { return Ok(None) };
    let selected = selects_namespace(hook, request, object, lookup)? && selects_object(hook, request, object)?;
    Ok(selected.then_some(matched))
}

fn by_rules(hook: &Hook<'_>, request: &Request<'_>, equivalents: &[Gvr]) -> Option<Matched> {
    let of = |gvr: &Gvr| list(hook.0, &["rules"]).any(|rule| rule_matches(rule, request, gvr));
    if of(request.gvr) {
        return Some(Matched { gvr: request.gvr.clone() });
    }
    // Source: `SetDefaults_ValidatingWebhook`: equivalents are matched unless told otherwise.
    if hook.0.str_at(&["matchPolicy"]) == "Exact" {
        return None;
    }
    let other = |gvr: &&Gvr| *gvr != request.gvr && of(gvr);
    equivalents.iter().find(other).map(|gvr| Matched { gvr: gvr.clone() })
}

fn rule_matches(rule: &Value, request: &Request<'_>, gvr: &Gvr) -> bool {
    let has = |field: &str, wanted: &str| {
        list(rule, &[field]).filter_map(Value::as_str).any(|own| own == "*" || own == wanted)
    };
    let of_cluster = request.namespace.is_empty() || (gvr.group.is_empty() && gvr.resource == "namespaces");
    let scope = match rule.str_at(&["scope"]) {
        "Namespaced" => !of_cluster,
        "Cluster" => of_cluster,
        _ => true,
    };
    let resource = list(rule, &["resources"]).filter_map(Value::as_str).any(|own| {
        let (resource, subresource) = own.split_once('/').unwrap_or((own, ""));
        (resource == "*" || resource == gvr.resource) && (subresource == "*" || subresource == request.subresource)
    });
    scope
        && has("operations", request.operation.as_str())
        && has("apiGroups", &gvr.group)
        && has("apiVersions", &gvr.version)
        && resource
}

fn selector(hook: &Hook<'_>, field: &str) -> Result<LabelSelector, Status> {
    match hook.0.get(field).filter(|selector| selector.is_object()) {
        Some(selector) => LabelSelector::from_value(selector).map_err(Status::internal),
        None => Ok(LabelSelector::everything()),
    }
}

fn selects_namespace(
    hook: &Hook<'_>,
    request: &Request<'_>,
    object: &Value,
    lookup: &dyn Lookup,
) -> Result<bool, Status> {
    let is_namespace = request.gvr.group.is_empty() && request.gvr.resource == "namespaces";
    let selector = selector(hook, "namespaceSelector")?;
    if selector.is_everything() || (request.namespace.is_empty() && !is_namespace) {
        return Ok(true);
    }
    let written = matches!(request.operation, Operation::Create | Operation::Update) && request.subresource.is_empty();
    if is_namespace && written {
        return Ok(selector.matches(object.labels()));
    }
    let name = if is_namespace { request.name } else { request.namespace };
    let gvr = Gvr::new("", "v1", "namespaces");
    let namespace = lookup.find("", "namespaces", "", name).ok_or_else(|| Status::not_found(&gvr, name))?;
    Ok(selector.matches(namespace.labels()))
}

fn selects_object(hook: &Hook<'_>, request: &Request<'_>, object: &Value) -> Result<bool, Status> {
    let selector = selector(hook, "objectSelector")?;
    let none = Map::new();
    let selects = |object: &Value| object.is_object() && selector.matches(Some(object.labels().unwrap_or(&none)));
    Ok(selector.is_everything() || selects(object) || request.old.is_some_and(selects))
}
