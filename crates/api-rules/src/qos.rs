//! The quality of service class of a pod. Source: `pkg/apis/core/v1/helper/qos`.

use coracle_api_meta::Value;

use crate::resources::{Amounts, add, amounts};

/// `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub fn class(pod: &Value) -> &'static str {
    let Some(spec) = pod.get("spec") else { return "BestEffort" };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    if let Some(own) = spec.get("resources").filter(|own| own.is_object()) {
        requests = compute(own.get("requests"));
        limits = compute(own.get("limits"));
        guaranteed = limits.is_empty() || limits.len() == 2;
    } else {
        for container in ["containers", "initContainers"].iter().flat_map(|list| items(spec, list)) {
            let own = container.get("resources");
            add(&mut requests, &compute(own.and_then(|own| own.get("requests"))));
            let limit = compute(own.and_then(|own| own.get("limits")));
            guaranteed &= limit.len() == 2;
            add(&mut limits, &limit);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn items<'v>(spec: &'v Value, list: &str) -> impl Iterator<Item = &'v Value> {
    spec.get(list).and_then(Value::as_array).into_iter().flatten()
}

/// Only cpu and memory count, and only above zero.
fn compute(list: Option<&Value>) -> Amounts {
    let mut found = amounts(list);
    found
        .retain(|name, amount| matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero() && !amount.is_negative());
    found
}

#[cfg(test)]
mod tests {
    use super::class;
    use serde_json::{Value, json};

    fn of(resources: &[Value]) -> &'static str {
        let containers: Vec<Value> = resources.iter().map(|own| json!({"resources": own})).collect();
        class(&json!({"spec": {"containers": containers}}))
    }

    #[test]
    fn classes() {
        let full = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(of(&[json!({})]), "BestEffort");
        assert_eq!(of(&[json!({"requests": full, "limits": full})]), "Guaranteed");
        assert_eq!(of(&[json!({"requests": full, "limits": full}), json!({})]), "Burstable");
        assert_eq!(of(&[json!({"requests": {"cpu": "0"}})]), "BestEffort");
        assert_eq!(of(&[json!({"requests": {"cpu": "1"}})]), "Burstable");
        assert_eq!(of(&[json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": full})]), "Guaranteed");
    }
}
