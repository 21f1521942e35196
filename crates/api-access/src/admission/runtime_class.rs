//! RuntimeClass: overhead and scheduling of a class come into its pods. Source: `plugin/pkg/admission/runtimeclass`.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};

use super::{Amounts, Lookup, Request, fields, set, tolerations};

fn class(request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<Option<Arc<Value>>, Status> {
    let Some(name) = pod.at(&["spec", "runtimeClassName"]).and_then(Value::as_str) else { return Ok(None) };
    let found = lookup.find("node.k8s.io", "runtimeclasses", "", name);
    found.map(Some).ok_or_else(|| request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")))
}

fn overhead(class: &Value) -> Option<Amounts> {
    class.get("overhead").filter(|value| value.is_object()).map(|overhead| Amounts::at(overhead, &["podFixed"]))
}

fn mismatch(request: &Request<'_>) -> Status {
    request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
    if !request.is_new("", "pods") {
        return Ok(());
    }
    let Some(class) = class(request, pod, lookup)? else { return Ok(()) };
    if let Some(wanted) = overhead(&class) {
        let own = Amounts::at(pod, &["spec", "overhead"]);
        if !own.is_empty() && own != wanted {
            return Err(mismatch(request));
        }
        if let Some(spec) = pod.get_mut("spec").filter(|_| !wanted.is_empty()) {
            set(spec, "overhead", wanted.to_value());
        }
    }
    schedule(request, pod, &class)
}

fn schedule(request: &Request<'_>, pod: &mut Value, class: &Value) -> Result<(), Status> {
    let Some(scheduling) = class.get("scheduling").filter(|value| value.is_object()) else { return Ok(()) };
    for (key, wanted) in scheduling.get("nodeSelector").and_then(Value::as_object).into_iter().flatten() {
        if let Some(own) = pod.at(&["spec", "nodeSelector", key]).filter(|own| *own != wanted) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(request.forbidden(&format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(wanted),
                text(own)
            )));
        }
        if let Some(selector) = pod.get_mut("spec").and_then(|spec| fields(spec, "nodeSelector")) {
            selector.insert(key.clone(), wanted.clone());
        }
    }
    let items = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let own = items(pod.at(&["spec", "tolerations"]));
    let merged = tolerations::merge(&own, &items(scheduling.get("tolerations")));
    if let Some(spec) = pod.get_mut("spec").filter(|_| merged != own) {
        set(spec, "tolerations", merged);
    }
    Ok(())
}

pub(super) fn validate(request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Status> {
    if !request.is_new("", "pods") {
        return Ok(());
    }
    let class = class(request, pod, lookup)?;
    let set = pod.at(&["spec", "overhead"]).is_some_and(Value::is_object);
    match class.as_deref().and_then(overhead) {
        Some(wanted) if wanted != Amounts::at(pod, &["spec", "overhead"]) => Err(mismatch(request)),
        None if set => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            Err(request.forbidden(why))
        }
        _ => Ok(()),
    }
}
