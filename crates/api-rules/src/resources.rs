//! Arithmetic over resource lists of containers and pods. Source: `k8s.io/component-helpers/resource`.

use std::collections::BTreeMap;

use coracle_api_meta::{Quantity, Value};

use crate::edit::{object, put};
use crate::same::quantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// The quantities of a `requests`, `limits`, `capacity` or `hard` map. What is no quantity is left out.
#[must_use]
pub fn amounts(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.get(name).map_or(*amount, |old| old.plus(amount));
        total.insert(name.clone(), sum);
    }
}

/// The greater of both, per name.
pub fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let old = total.get(name).copied();
        if old.is_none_or(|old| old < *amount) {
            total.insert(name.clone(), *amount);
        }
    }
}

#[must_use]
pub fn to_value(amounts: &Amounts) -> Value {
    Value::Object(amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect())
}

/// Writes each quantity of the map at `field` the canonical way, rounded up to thousandths.
pub fn canonical_list(owner: &mut Value, field: &str) {
    let Some(list) = object(owner, field) else { return };
    for (name, amount) in amounts(Some(list)) {
        let text = canonical(&amount).to_string();
        if list.get(&name).and_then(Value::as_str) != Some(&text) {
            put(list, &name, text);
        }
    }
}

/// Resource lists keep thousandths; anything finer is rounded up.
fn canonical(amount: &Quantity) -> Quantity {
    let millis = amount.milli_value();
    let exact = Quantity::from_millis(millis);
    if exact == *amount || millis == i64::MAX || millis == i64::MIN { *amount } else { exact }
}

/// `requests` and `limits`.
pub fn canonical_requirements(requirements: &mut Value) {
    canonical_list(requirements, "requests");
    canonical_list(requirements, "limits");
}

/// Resources that `spec.resources` of a pod may name.
#[must_use]
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn list<'v>(spec: &'v Value, field: &str) -> &'v [Value] {
    spec.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// True for init containers that keep running beside the others.
#[must_use]
pub fn is_sidecar(container: &Value) -> bool {
    container.get("restartPolicy").and_then(Value::as_str) == Some("Always")
}

/// What the containers need together: the running ones and the sidecars, or the largest moment of the start.
/// `which` is `requests` or `limits`.
#[must_use]
pub fn container_total(spec: &Value, which: &str) -> Amounts {
    let of = |container: &Value| amounts(container.get("resources").and_then(|own| own.get(which)));
    let mut total = Amounts::new();
    for container in list(spec, "containers") {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut start) = (Amounts::new(), Amounts::new());
    for container in list(spec, "initContainers") {
        let mut own = of(container);
        if is_sidecar(container) {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut start, &own);
    }
    raise(&mut total, &start);
    total
}

/// What the scheduler and quota count for a pod: containers, pod-level resources where set, and overhead.
/// `which` is `requests` or `limits`. Takes a pod's `spec`.
#[must_use]
pub fn pod_total(spec: &Value, which: &str) -> Amounts {
    let mut total = container_total(spec, which);
    for (name, amount) in amounts(spec.get("resources").and_then(|own| own.get(which))) {
        if is_pod_level(&name) {
            total.insert(name, amount);
        }
    }
    let overhead = amounts(spec.get("overhead"));
    if which == "requests" {
        add(&mut total, &overhead);
    } else {
        for (name, amount) in overhead {
            if let Some(old) = total.get(&name).copied().filter(|old| !old.is_zero()) {
                total.insert(name, old.plus(&amount));
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_need_their_largest_moment() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let spec = json!({"containers": [container("1"), container("500m")], "initContainers": [sidecar, container("2")],
            "overhead": {"cpu": "250m"}});
        assert_eq!(to_value(&pod_total(&spec, "requests")), json!({"cpu": "3250m"}));
        assert_eq!(to_value(&pod_total(&spec, "limits")), json!({}));
    }

    #[test]
    fn lists_become_canonical() {
        let mut owner = json!({"requests": {"cpu": 1, "memory": "1024Ki", "x": "0.0001"}});
        canonical_requirements(&mut owner);
        assert_eq!(owner, json!({"requests": {"cpu": "1", "memory": "1Mi", "x": "1m"}}));
    }
}
