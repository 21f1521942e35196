//! Priority: names of priority classes become numbers. Source: `plugin/pkg/admission/priority`.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldError, FieldPath, Status, Value};

use super::{all, find, is_internal, is_new_pod};
use crate::registry::admit::{Attempt, Operation};

const CLASSES: &str = "scheduling.k8s.io/priorityclasses";
const SYSTEM_PREFIX: &str = "system-";
const USER_PRIORITY_MAX: i64 = 1_000_000_000;

pub(super) fn mutate(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_new_pod(attempt) {
        return Ok(());
    }
    let name = pod.str_at(&["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        let mut defaults = all(attempt.ctx, CLASSES, "");
        defaults.retain(|class| class.get("globalDefault") == Some(&Value::Bool(true)));
        defaults.sort_by_key(value_of);
        defaults.into_iter().next()
    } else {
        let class = find(attempt.ctx, CLASSES, "", &name);
        Some(class.ok_or_else(|| attempt.forbidden(&format!("no PriorityClass with name {name} was found")))?)
    };
    let priority = class.as_ref().map_or(0, value_of);
    let policy = class.as_ref().map_or("", |class| class.str_at(&["preemptionPolicy"]));
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy }.to_owned();
    if let Some(own) = pod.at(&["spec", "priority"]).and_then(Value::as_i64)
        && own != priority
    {
        return Err(attempt.forbidden(&format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    let own = pod.str_at(&["spec", "preemptionPolicy"]).to_owned();
    if !own.is_empty() && own != policy {
        return Err(attempt.forbidden(&format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    if !pod["spec"].is_object() {
        return Ok(());
    }
    if let Some(class) = class.filter(|_| name.is_empty()) {
        pod["spec"]["priorityClassName"] = class.name().into();
    }
    pod["spec"]["priority"] = priority.into();
    pod["spec"]["preemptionPolicy"] = policy.into();
    Ok(())
}

fn value_of(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}

/// Rules of the classes themselves.
pub(super) fn validate(attempt: &Attempt<'_>, class: &Value) -> Result<(), Status> {
    if !attempt.is("scheduling.k8s.io", "priorityclasses") || is_internal(attempt) {
        return Ok(());
    }
    if !matches!(attempt.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let gvk = attempt.target.resource.gvk();
    if attempt.operation == Operation::Create {
        if class.name().starts_with(SYSTEM_PREFIX) {
            let path = FieldPath::new("metadata").child("name");
            let error = FieldError::forbidden(
                &path,
                "priority class names with 'system-' prefix are reserved for system use only. error: only system priority classes may use it",
            );
            return Err(Status::invalid(&gvk, class.name(), &[error]));
        }
        if value_of(class) > USER_PRIORITY_MAX {
            let error = FieldError::forbidden(
                &FieldPath::new("value"),
                format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"),
            );
            return Err(Status::invalid(&gvk, class.name(), &[error]));
        }
    }
    if class.get("globalDefault") == Some(&Value::Bool(true)) {
        let other = all(attempt.ctx, CLASSES, "")
            .into_iter()
            .find(|own| own.get("globalDefault") == Some(&Value::Bool(true)) && own.name() != class.name());
        if let Some(other) = other {
            return Err(attempt.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name()
            )));
        }
    }
    Ok(())
}
