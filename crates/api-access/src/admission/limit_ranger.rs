//! LimitRanger: defaults and bounds of resources per namespace. Source: `plugin/pkg/admission/limitranger`.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Quantity, Status, Value};

use super::amounts::quantity;
use super::{Amounts, Lookup, Operation, PodAmounts, Request, aggregate, fields, list, pod_limits, pod_requests};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The limits of one type in the ranges of the namespace, range by range.
fn ranges(request: &Request<'_>, lookup: &dyn Lookup) -> Vec<Arc<Value>> {
    lookup.all("", "limitranges", request.namespace)
}

fn applies(request: &Request<'_>) -> bool {
    if request.old.is_some_and(|old| !old.meta_str("deletionTimestamp").is_empty()) || !request.writes() {
        return false;
    }
    let resize =
        request.is_any("", "pods") && request.subresource == "resize" && request.operation == Operation::Update;
    resize || request.is_new("", "pods") || request.is("", "persistentvolumeclaims")
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) {
    if !applies(request) || !request.is_any("", "pods") {
        return;
    }
    for range in ranges(request, lookup) {
        let (mut requests, mut limits) = (Amounts::default(), Amounts::default());
        for limit in list(&range, &["spec", "limits"]).filter(|limit| limit.str_at(&["type"]) == "Container") {
            for (name, amount) in Amounts::at(limit, &["defaultRequest"]).iter() {
                requests.set(name, *amount);
            }
            for (name, amount) in Amounts::at(limit, &["default"]).iter() {
                limits.set(name, *amount);
            }
        }
        let notes = fill(pod, &requests, &limits);
        if !notes.is_empty() {
            let text = format!("LimitRanger plugin set: {}", notes.join("; "));
            if let Some(annotations) = pod.get_mut("metadata").and_then(|meta| fields(meta, "annotations")) {
                annotations.insert(ANNOTATION.to_owned(), text.into());
            }
        }
    }
}

/// Gives every container what it does not set itself, and says so.
fn fill(pod: &mut Value, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut notes = Vec::new();
    for (kind, label) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(kind)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container.str_at(&["name"]).to_owned();
            for (field, what, defaults) in [("requests", "request", requests), ("limits", "limit", limits)] {
                let set = fill_side(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {label} {name}", set.join(", ")));
                }
            }
        }
    }
    notes
}

fn fill_side(container: &mut Value, field: &str, defaults: &Amounts) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults.iter() {
        if container.at(&["resources", field, name]).is_some() {
            continue;
        }
        let resources = fields(container, "resources").map(|_| ()).and_then(|()| container.get_mut("resources"));
        if let Some(side) = resources.and_then(|resources| fields(resources, field)) {
            side.insert(name.to_owned(), amount.to_string().into());
            set.push(name.to_owned());
        }
    }
    set
}

pub(super) fn validate(request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Status> {
    if !applies(request) {
        return Ok(());
    }
    for range in ranges(request, lookup) {
        let mut errors = Vec::new();
        for limit in list(&range, &["spec", "limits"]) {
            if request.is_any("", "pods") {
                pod_errors(limit, object, &mut errors);
            } else if limit.str_at(&["type"]) == "PersistentVolumeClaim" {
                claim_errors(limit, object, &mut errors);
            }
        }
        if let Some(why) = aggregate(&errors) {
            return Err(request.forbidden(&why));
        }
    }
    Ok(())
}

/// What an object asks for, compared with one limit.
struct Asked<'a> {
    kind: &'a str,
    requests: Amounts,
    limits: Amounts,
}

fn pod_errors(limit: &Value, pod: &Value, errors: &mut Vec<String>) {
    let kind = limit.str_at(&["type"]);
    match kind {
        "Container" => {
            for container in ["containers", "initContainers"].into_iter().flat_map(|field| list(pod, &["spec", field]))
            {
                let side = |field| Amounts::at(container, &["resources", field]);
                Asked { kind, requests: side("requests"), limits: side("limits") }.check(limit, errors);
            }
        }
        "Pod" => {
            let how = PodAmounts::SpecOnly;
            Asked { kind, requests: pod_requests(pod, how), limits: pod_limits(pod, how) }.check(limit, errors);
        }
        _ => {}
    }
}

fn claim_errors(limit: &Value, claim: &Value, errors: &mut Vec<String>) {
    let requests = Amounts::at(claim, &["spec", "resources", "requests"]);
    let asked = Asked { kind: "PersistentVolumeClaim", requests, limits: Amounts::default() };
    for (name, wanted) in bounds(limit, "min") {
        errors.extend(asked.below(&name, &wanted));
    }
    for (name, wanted) in bounds(limit, "max") {
        errors.extend(asked.request_above(&name, &wanted));
    }
}

fn bounds(limit: &Value, field: &str) -> Vec<(String, Quantity)> {
    let items = limit.get(field).and_then(Value::as_object).into_iter().flatten();
    items.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

impl Asked<'_> {
    fn check(&self, limit: &Value, errors: &mut Vec<String>) {
        for (name, wanted) in bounds(limit, "min") {
            errors.extend(self.below(&name, &wanted));
        }
        for (name, wanted) in bounds(limit, "max") {
            errors.extend(self.above(&name, &wanted));
        }
        for (name, wanted) in bounds(limit, "maxLimitRequestRatio") {
            errors.extend(self.ratio(&name, &wanted));
        }
    }

    fn below(&self, name: &str, wanted: &Quantity) -> Option<String> {
        let start = format!("minimum {name} usage per {} is {wanted}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{start}.  No request is specified")),
            (Some(own), _) if own < wanted => Some(format!("{start}, but request is {own}")),
            (_, Some(own)) if own < wanted => Some(format!("{start}, but limit is {own}")),
            _ => None,
        }
    }

    fn above(&self, name: &str, wanted: &Quantity) -> Option<String> {
        let start = format!("maximum {name} usage per {} is {wanted}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{start}.  No limit is specified")),
            (_, Some(own)) if own > wanted => Some(format!("{start}, but limit is {own}")),
            (Some(own), _) if own > wanted => Some(format!("{start}, but request is {own}")),
            _ => None,
        }
    }

    fn request_above(&self, name: &str, wanted: &Quantity) -> Option<String> {
        let start = format!("maximum {name} usage per {} is {wanted}", self.kind);
        match self.requests.get(name) {
            None => Some(format!("{start}.  No request is specified")),
            Some(own) if own > wanted => Some(format!("{start}, but request is {own}")),
            Some(_) => None,
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn ratio(&self, name: &str, wanted: &Quantity) -> Option<String> {
        let start = format!("{name} max limit to request ratio per {} is {wanted}", self.kind);
        let Some(request) = self.requests.get(name).filter(|own| !own.is_zero()) else {
            return Some(format!("{start}, but no request is specified or request is 0"));
        };
        let Some(limit) = self.limits.get(name).filter(|own| !own.is_zero()) else {
            return Some(format!("{start}, but no limit is specified or limit is 0"));
        };
        let large = i64::MAX / 1000;
        let ratio = if request.value() <= large && limit.value() <= large {
            limit.milli_value() as f64 / request.milli_value() as f64
        } else {
            limit.value() as f64 / request.value() as f64
        };
        let most = if wanted.value() <= large { wanted.milli_value() as f64 / 1000.0 } else { wanted.value() as f64 };
        (ratio > most).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}
