//! Priority: names of priority classes become numbers. Source: `plugin/pkg/admission/priority`.

use std::sync::Arc;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};

use super::{Lookup, Operation, Request, set};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";
const LOWER: &str = "PreemptLowerPriority";

fn value_of(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}

/// The default class; the lowest where there are several.
fn default_class(lookup: &dyn Lookup) -> Option<Arc<Value>> {
    let mut classes = lookup.all(GROUP, CLASSES, "");
    classes.retain(|class| class.get("globalDefault") == Some(&Value::Bool(true)));
    classes.into_iter().min_by_key(|class| value_of(class))
}

pub(super) fn mutate(request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
    if !request.is("", "pods") || !pod.get("spec").is_some_and(Value::is_object) {
        return Ok(());
    }
    match (request.operation, request.old) {
        (Operation::Create, _) => on_create(request, pod, lookup),
        (Operation::Update, Some(old)) => {
            for field in ["priority", "preemptionPolicy"] {
                let kept = old.at(&["spec", field]).filter(|value| !value.is_null());
                let missing = pod.at(&["spec", field]).is_none_or(Value::is_null);
                if let (Some(value), true, Some(spec)) = (kept, missing, pod.get_mut("spec")) {
                    set(spec, field, value.clone());
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn on_create(request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let name = pod.str_at(&["spec", "priorityClassName"]);
    let class = if name.is_empty() {
        default_class(lookup)
    } else {
        let found = lookup.find(GROUP, CLASSES, "", name);
        Some(found.ok_or_else(|| request.forbidden(&format!("no PriorityClass with name {name} was found")))?)
    };
    let priority = class.as_deref().map_or(0, value_of);
    let policy = match &class {
        Some(class) => class.str_at(&["preemptionPolicy"]).to_owned(),
        None => LOWER.to_owned(),
    };
    if let Some(own) = pod.at(&["spec", "priority"]).and_then(Value::as_i64).filter(|own| *own != priority) {
        return Err(request.forbidden(&format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    let own = pod.str_at(&["spec", "preemptionPolicy"]);
    if !policy.is_empty() && !own.is_empty() && own != policy {
        return Err(request.forbidden(&format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    let Some(spec) = pod.get_mut("spec") else { return Ok(()) };
    if let Some(class) = class {
        set(spec, "priorityClassName", class.name());
    }
    set(spec, "priority", priority);
    if !policy.is_empty() {
        set(spec, "preemptionPolicy", policy);
    }
    Ok(())
}

/// One class is the default.
pub(super) fn validate(request: &Request<'_>, class: &Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let is_default = class.get("globalDefault") == Some(&Value::Bool(true));
    if !request.is(GROUP, CLASSES) || !request.writes() || !is_default {
        return Ok(());
    }
    match default_class(lookup) {
        Some(other) if request.operation == Operation::Create || other.name() != class.name() => Err(request
            .forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name()
            ))),
        _ => Ok(()),
    }
}
