//! Whether rules and selectors of policies and webhooks match a request.
//!
//! Source: `k8s.io/apiserver/pkg/admission/plugin/webhook/predicates` and `.../policy/matching`.

use coracle_api_meta::{LabelSelector, Map, Value, object::ObjectExt};

use crate::Request;

/// Whether `matchConstraints` or `matchResources` match. Nothing said matches everything; `rules` may be missing in bindings.
#[must_use]
pub fn resources(constraints: &Value, request: &Request<'_>) -> bool {
    if !constraints.is_object() {
        return true;
    }
    let equivalent = constraints["matchPolicy"] != "Exact";
    let any = |key: &str| {
        let rules = constraints[key].as_array().into_iter().flatten();
        let mut rules = rules.peekable();
        rules.peek().is_some().then(|| rules.any(|rule| named(rule, request) && self::rule(rule, equivalent, request)))
    };
    any("excludeResourceRules") != Some(true)
        && any("resourceRules").unwrap_or(true)
        && namespace(&constraints["namespaceSelector"], request)
        && object(&constraints["objectSelector"], request)
}

/// Requests that no policy sees: policies and webhook configurations themselves, and reviews of tokens and access.
#[must_use]
pub fn is_exempt(request: &Request<'_>) -> bool {
    let resource = request.resource.resource.as_str();
    match request.resource.group.as_str() {
        "admissionregistration.k8s.io" => true,
        "authentication.k8s.io" | "authorization.k8s.io" => resource.ends_with("reviews"),
        _ => false,
    }
}

fn named(rule: &Value, request: &Request<'_>) -> bool {
    let names = rule["resourceNames"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.is_empty() || names.iter().any(|name| name == request.name)
}

/// Whether a `RuleWithOperations` matches; `equivalent` takes other versions of the resource as the same.
#[must_use]
pub fn rule(rule: &Value, equivalent: bool, request: &Request<'_>) -> bool {
    let has = |key: &str, wanted: &str| {
        rule[key].as_array().into_iter().flatten().any(|value| value == wanted || value == "*")
    };
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => !request.namespace.is_empty() && !is_namespace(request),
        Some("Cluster") => request.namespace.is_empty() || is_namespace(request),
        _ => true,
    };
    scope
        && has("operations", request.operation)
        && has("apiGroups", &request.resource.group)
        && (equivalent || has("apiVersions", &request.resource.version))
        && rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str).any(|wanted| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            let any_subresource = subresource == "*" || (wanted == "*/*");
            (resource == "*" || resource == request.resource.resource)
                && (any_subresource || subresource == request.subresource)
        })
}

fn is_namespace(request: &Request<'_>) -> bool {
    request.resource.group.is_empty() && request.resource.resource == "namespaces"
}

/// Whether a `namespaceSelector` matches. Objects of the cluster match always, namespaces by their own labels.
#[must_use]
pub fn namespace(selector: &Value, request: &Request<'_>) -> bool {
    if is_empty(selector) {
        return true;
    }
    let labels = if is_namespace(request) {
        let object = request.object.or(request.old_object);
        object.and_then(|object| object.labels())
    } else if request.namespace.is_empty() {
        return true;
    } else {
        request.namespace_object.and_then(|namespace| namespace.labels())
    };
    selects(selector, labels)
}

/// Whether an `objectSelector` matches the new or the old object.
#[must_use]
pub fn object(selector: &Value, request: &Request<'_>) -> bool {
    if is_empty(selector) {
        return true;
    }
    let objects = [request.object, request.old_object].into_iter().flatten();
    objects.into_iter().any(|object| selects(selector, object.labels()))
}

fn is_empty(selector: &Value) -> bool {
    let empty = |key: &str| match &selector[key] {
        Value::Object(labels) => labels.is_empty(),
        Value::Array(expressions) => expressions.is_empty(),
        _ => true,
    };
    empty("matchLabels") && empty("matchExpressions")
}

fn selects(selector: &Value, labels: Option<&Map>) -> bool {
    LabelSelector::from_value(selector).is_ok_and(|selector| selector.matches(labels))
}
