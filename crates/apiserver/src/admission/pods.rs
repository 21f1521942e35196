//! DefaultTolerationSeconds, TaintNodesByCondition, RuntimeClass, ExtendedResourceToleration off: small changes of pods and nodes.

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;

use super::{find, is_new_pod};
use crate::registry::admit::{Attempt, Operation};

const TOLERATION_SECONDS: i64 = 300;
const DEFAULT_TOLERATIONS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    if attempt.is("", "pods") && matches!(attempt.operation, Operation::Create | Operation::Update) {
        default_tolerations(object);
    }
    if is_new_pod(attempt) {
        runtime_class(attempt, object)?;
    }
    if attempt.is("", "nodes") && attempt.operation == Operation::Create {
        taint_not_ready(object);
    }
    Ok(())
}

fn default_tolerations(pod: &mut Value) {
    if !pod["spec"].is_object() {
        return;
    }
    for key in DEFAULT_TOLERATIONS {
        let list = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).into_iter().flatten();
        let tolerated = list.into_iter().any(|own| {
            let effect = own.str_at(&["effect"]);
            let any_key = own.str_at(&["key"]).is_empty();
            (own.str_at(&["key"]) == key || any_key) && (effect.is_empty() || effect == "NoExecute")
        });
        if tolerated {
            continue;
        }
        let toleration =
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS});
        match pod["spec"].get_mut("tolerations").and_then(Value::as_array_mut) {
            Some(list) => list.push(toleration),
            None => pod["spec"]["tolerations"] = json!([toleration]),
        }
    }
}

/// Source: `plugin/pkg/admission/nodetaint`.
fn taint_not_ready(node: &mut Value) {
    const KEY: &str = "node.kubernetes.io/not-ready";
    let taint = json!({"key": KEY, "effect": "NoSchedule"});
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    match node["spec"].get_mut("taints").and_then(Value::as_array_mut) {
        Some(list) if list.iter().any(|own| own.str_at(&["key"]) == KEY && own.str_at(&["effect"]) == "NoSchedule") => {
        }
        Some(list) => list.push(taint),
        None => node["spec"]["taints"] = json!([taint]),
    }
}

/// Source: `plugin/pkg/admission/runtimeclass`.
fn runtime_class(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = pod.str_at(&["spec", "runtimeClassName"]).to_owned();
    if name.is_empty() {
        if pod.at(&["spec", "overhead"]).and_then(Value::as_object).is_some_and(|overhead| !overhead.is_empty()) {
            return Err(
                attempt.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
            );
        }
        return Ok(());
    }
    let Some(class) = find(attempt.ctx, "node.k8s.io/runtimeclasses", "", &name) else {
        return Err(attempt.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    if let Some(overhead) = class.at(&["overhead", "podFixed"]) {
        if pod.at(&["spec", "overhead"]).is_some_and(|own| own != overhead) {
            return Err(attempt.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"));
        }
        pod["spec"]["overhead"] = overhead.clone();
    }
    let selector = class.at(&["scheduling", "nodeSelector"]).and_then(Value::as_object);
    for (key, value) in selector.into_iter().flatten() {
        let own = pod.at(&["spec", "nodeSelector", key]);
        if own.is_some_and(|own| own != value) {
            return Err(attempt.forbidden(&format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                own.and_then(Value::as_str).unwrap_or_default()
            )));
        }
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    let tolerations = class.at(&["scheduling", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    if !tolerations.is_empty() {
        let mut list = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
        for toleration in tolerations {
            if !list.contains(&toleration) {
                list.push(toleration);
            }
        }
        pod["spec"]["tolerations"] = list.into();
    }
    Ok(())
}
