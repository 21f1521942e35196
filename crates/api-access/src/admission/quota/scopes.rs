//! Which objects a quota is about.

use std::collections::BTreeSet;

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::super::{Amounts, list};
use super::{Evaluator, selectors};

/// Whether an object is in all scopes of a quota.
#[must_use]
pub fn matches_scopes(quota: &Value, object: &Value, evaluator: &Evaluator) -> bool {
    selectors(quota).into_iter().all(|(scope, operator, values)| match evaluator {
        Evaluator::Pods => pod_in_scope(object, scope, operator, &values),
        Evaluator::VolumeClaims => {
            scope == "VolumeAttributesClass" && named(&attribute_classes(object), operator, &values)
        }
        _ => false,
    })
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod.str_at(&["spec", "priorityClassName"]);
            named(&Some(class).filter(|class| !class.is_empty()).into_iter().collect(), operator, values)
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether the names that an object has are selected.
fn named(names: &BTreeSet<&str>, operator: &str, values: &[&str]) -> bool {
    match operator {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        "In" => names.iter().any(|name| values.contains(name)),
        "NotIn" => names.is_empty() || names.iter().any(|name| !values.contains(name)),
        _ => false,
    }
}

pub(super) fn is_terminating(pod: &Value) -> bool {
    pod.at(&["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0)
}

/// Source: `qos.GetPodQOS`.
fn is_best_effort(pod: &Value) -> bool {
    let set = |owner: &Value, path: [&str; 2]| {
        let computes = |(name, amount): (&str, &coracle_api_meta::Quantity)| {
            matches!(name, "cpu" | "memory") && !amount.is_zero() && !amount.is_negative()
        };
        Amounts::at(owner, &path).iter().any(computes)
    };
    let any = |owner: &Value| set(owner, ["resources", "requests"]) || set(owner, ["resources", "limits"]);
    let containers = ["containers", "initContainers"].into_iter().flat_map(|kind| list(pod, &["spec", kind]));
    !pod.get("spec").is_some_and(any) && !containers.into_iter().any(any)
}

fn crosses_namespaces(pod: &Value) -> bool {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let crosses = |term: &Value| {
        list(term, &["namespaces"]).next().is_some() || term.get("namespaceSelector").is_some_and(Value::is_object)
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let mut required = list(pod, &["spec", "affinity", kind, REQUIRED]);
        let mut preferred =
            list(pod, &["spec", "affinity", kind, PREFERRED]).filter_map(|one| one.get("podAffinityTerm"));
        required.any(crosses) || preferred.any(crosses)
    })
}

fn attribute_classes(claim: &Value) -> BTreeSet<&str> {
    const PATHS: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    PATHS.into_iter().map(|path| claim.str_at(path)).filter(|name| !name.is_empty()).collect()
}
