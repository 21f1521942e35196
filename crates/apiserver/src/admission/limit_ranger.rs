//! LimitRanger: defaults and bounds of resources per namespace. Source: `plugin/pkg/admission/limitranger`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Quantity, Status, Value};

use super::{all, is_new_pod};
use crate::registry::admit::{Attempt, Operation};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn limits(attempt: &Attempt<'_>, kind: &str) -> Vec<Value> {
    let ranges = all(attempt.ctx, "limitranges", &attempt.target.namespace);
    let items = ranges.iter().filter_map(|range| range.at(&["spec", "limits"])?.as_array().cloned()).flatten();
    items.filter(|item| item.str_at(&["type"]) == kind).collect()
}

pub(super) fn mutate(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_new_pod(attempt) {
        return Ok(());
    }
    let limits = limits(attempt, "Container");
    if limits.is_empty() {
        return Ok(());
    }
    let mut notes = Vec::new();
    for (list, label) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container.str_at(&["name"]).to_owned();
            for (field, source) in [("requests", "defaultRequest"), ("limits", "default")] {
                let mut set = Vec::new();
                for limit in &limits {
                    for (resource, amount) in limit.get(source).and_then(Value::as_object).into_iter().flatten() {
                        if container.at(&["resources", field, resource]).is_none() {
                            put(container, field, resource, amount);
                            set.push(resource.clone());
                        }
                    }
                }
                if !set.is_empty() {
                    set.sort();
                    let what = if field == "requests" { "request" } else { "limit" };
                    notes.push(format!("{} {what} for {label} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        if let Some(meta) = pod.meta_mut() {
            let annotations = meta.entry("annotations").or_insert_with(|| Value::Object(Default::default()));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(ANNOTATION.to_owned(), text.into());
            }
        }
    }
    Ok(())
}

fn put(container: &mut Value, field: &str, resource: &str, amount: &Value) {
    for (place, key) in [(&["resources"][..], "resources"), (&["resources", field][..], field)] {
        let parent = if place.len() == 1 { &mut *container } else { &mut container["resources"] };
        if !parent[key].is_object() {
            parent[key] = Value::Object(Default::default());
        }
    }
    container["resources"][field][resource] = amount.clone();
}

pub(super) fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let claim = attempt.is("", "persistentvolumeclaims");
    if !matches!(attempt.operation, Operation::Create | Operation::Update) || !(attempt.is("", "pods") || claim) {
        return Ok(());
    }
    if attempt.operation == Operation::Update && !claim {
        return Ok(());
    }
    let mut errors = Vec::new();
    if claim {
        for limit in limits(attempt, "PersistentVolumeClaim") {
            let asked = object.at(&["spec", "resources"]).cloned().unwrap_or_default();
            bounds(&limit, "PersistentVolumeClaim", &asked, &mut errors);
        }
    } else {
        let limits = limits(attempt, "Container");
        for list in ["containers", "initContainers"] {
            for container in object.at(&["spec", list]).and_then(Value::as_array).into_iter().flatten() {
                let resources = container.get("resources").cloned().unwrap_or_default();
                limits.iter().for_each(|limit| bounds(limit, "Container", &resources, &mut errors));
            }
        }
        for limit in self::limits(attempt, "Pod") {
            bounds(&limit, "Pod", &pod_sum(object), &mut errors);
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(attempt.forbidden(one)),
        many => Err(attempt.forbidden(&format!("[{}]", many.join(", ")))),
    }
}

fn amount(value: Option<&Value>) -> Option<Quantity> {
    Quantity::parse(&match value? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
    .ok()
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "0".to_owned(),
    }
}

/// Sums of requests and limits over the containers of a pod.
fn pod_sum(pod: &Value) -> Value {
    let mut sum = Value::Object(Default::default());
    for container in pod.at(&["spec", "containers"]).and_then(Value::as_array).into_iter().flatten() {
        for field in ["requests", "limits"] {
            for (resource, value) in
                container.at(&["resources", field]).and_then(Value::as_object).into_iter().flatten()
            {
                let so_far = sum.at(&[field, resource]).cloned();
                let total = match (amount(so_far.as_ref()), amount(Some(value))) {
                    (Some(a), Some(b)) => a.plus(&b).to_string(),
                    (None, Some(b)) => b.to_string(),
                    _ => continue,
                };
                sum[field][resource] = total.into();
            }
        }
    }
    sum
}

fn bounds(limit: &Value, kind: &str, resources: &Value, errors: &mut Vec<String>) {
    let asked = |field: &str, resource: &str| resources.at(&[field, resource]).cloned();
    for (resource, min) in limit.get("min").and_then(Value::as_object).into_iter().flatten() {
        let (request, cap) = (asked("requests", resource), asked("limits", resource));
        let low = |value: &Option<Value>| amount(value.as_ref()).zip(amount(Some(min))).is_some_and(|(a, b)| a < b);
        let wanted = text(Some(min));
        match &request {
            None => errors.push(format!("minimum {resource} usage per {kind} is {wanted}.  No request is specified")),
            Some(_) if low(&request) => errors.push(format!(
                "minimum {resource} usage per {kind} is {wanted}, but request is {}",
                text(request.as_ref())
            )),
            _ => {}
        }
        if cap.is_some() && low(&cap) {
            errors
                .push(format!("minimum {resource} usage per {kind} is {wanted}, but limit is {}", text(cap.as_ref())));
        }
    }
    for (resource, max) in limit.get("max").and_then(Value::as_object).into_iter().flatten() {
        let (request, cap) = (asked("requests", resource), asked("limits", resource));
        let high = |value: &Option<Value>| amount(value.as_ref()).zip(amount(Some(max))).is_some_and(|(a, b)| a > b);
        let wanted = text(Some(max));
        if kind == "PersistentVolumeClaim" {
            if high(&request) {
                errors.push(format!(
                    "maximum {resource} usage per {kind} is {wanted}, but request is {}",
                    text(request.as_ref())
                ));
            }
            continue;
        }
        match &cap {
            None => errors.push(format!("maximum {resource} usage per {kind} is {wanted}.  No limit is specified")),
            Some(_) if high(&cap) => {
                errors.push(format!(
                    "maximum {resource} usage per {kind} is {wanted}, but limit is {}",
                    text(cap.as_ref())
                ));
            }
            _ => {}
        }
        if high(&request) {
            errors.push(format!(
                "maximum {resource} usage per {kind} is {wanted}, but request is {}",
                text(request.as_ref())
            ));
        }
    }
}
