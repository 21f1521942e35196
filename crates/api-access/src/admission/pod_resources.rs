//! What a pod as a whole asks for. Source: `k8s.io/component-helpers/resource`.

use std::collections::HashMap;

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::{Amounts, list};

/// How the parts of a pod are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodAmounts {
    /// By the spec, without the overhead: what LimitRanger compares.
    SpecOnly,
    /// With overhead, and with what the node gave while a resize is under way.
    Effective,
}

#[derive(Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

impl Side {
    fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

#[must_use]
pub fn pod_requests(pod: &Value, how: PodAmounts) -> Amounts {
    let mut sum = total(pod, Side::Requests, how);
    if how == PodAmounts::Effective {
        sum.add(&Amounts::at(pod, &["spec", "overhead"]));
    }
    sum
}

#[must_use]
pub fn pod_limits(pod: &Value, how: PodAmounts) -> Amounts {
    let mut sum = total(pod, Side::Limits, how);
    if how == PodAmounts::Effective {
        let limited = |name: &str| sum.get(name).is_some_and(|limit| !limit.is_zero());
        let overhead = Amounts::at(pod, &["spec", "overhead"]).only(limited);
        sum.add(&overhead);
    }
    sum
}

/// Resources that may be set for a pod as a whole.
pub(super) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether the pod itself, not only its containers, has resources.
pub(super) fn has_pod_level(pod: &Value) -> bool {
    let side = |field| Amounts::at(pod, &["spec", "resources", field]);
    side("requests").names().any(is_pod_level) || side("limits").names().any(is_pod_level)
}

fn total(pod: &Value, side: Side, how: PodAmounts) -> Amounts {
    let statuses = match how {
        PodAmounts::SpecOnly => HashMap::new(),
        PodAmounts::Effective => statuses(pod),
    };
    let infeasible = list(pod, &["status", "conditions"]).any(|condition| {
        condition.str_at(&["type"]) == "PodResizePending" && condition.str_at(&["reason"]) == "Infeasible"
    });
    let amounts = |container: &Value| {
        let status = statuses.get(container.str_at(&["name"])).copied();
        effective(container, status.filter(|status| status.get("resources").is_some()), side, infeasible)
    };
    let mut sum = Amounts::default();
    for container in list(pod, &["spec", "containers"]) {
        sum.add(&amounts(container));
    }
    let (mut restartable, mut init) = (Amounts::default(), Amounts::default());
    for container in list(pod, &["spec", "initContainers"]) {
        if container.str_at(&["restartPolicy"]) == "Always" {
            let own = amounts(container);
            sum.add(&own);
            restartable.add(&own);
            init.raise(&restartable);
        } else {
            let mut own = Amounts::at(container, &["resources", side.field()]);
            own.add(&restartable);
            init.raise(&own);
        }
    }
    sum.raise(&init);
    for (name, amount) in Amounts::at(pod, &["spec", "resources", side.field()]).only(is_pod_level).iter() {
        sum.set(name, *amount);
    }
    sum
}

fn statuses(pod: &Value) -> HashMap<&str, &Value> {
    let fields = ["containerStatuses", "initContainerStatuses"];
    fields.into_iter().flat_map(|field| list(pod, &["status", field])).map(|one| (one.str_at(&["name"]), one)).collect()
}

/// Source: `determineEffectiveRequests`, `determineEffectiveLimits`.
fn effective(container: &Value, status: Option<&Value>, side: Side, infeasible: bool) -> Amounts {
    let wanted = Amounts::at(container, &["resources", side.field()]);
    let Some(status) = status else { return wanted };
    let mut amounts = if infeasible { Amounts::default() } else { wanted };
    amounts.raise(&Amounts::at(status, &["resources", side.field()]));
    if matches!(side, Side::Requests) {
        amounts.raise(&Amounts::at(status, &["allocatedResources"]));
    }
    amounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_sidecars_and_overhead_count() {
        let pod = json!({"spec": {
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}}, {"name": "b"}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "300m", "memory": "1Gi"}}}],
            "overhead": {"cpu": "10m", "memory": "1Mi"}}});
        assert_eq!(pod_requests(&pod, PodAmounts::SpecOnly).shown(), "cpu=350m,memory=1Gi");
        assert_eq!(pod_requests(&pod, PodAmounts::Effective).shown(), "cpu=360m,memory=1025Mi");
        assert_eq!(pod_limits(&pod, PodAmounts::Effective).shown(), "cpu=1010m");
    }

    #[test]
    fn a_resize_counts_the_larger_of_both() {
        let pod = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "2"}}, "allocatedResources": {"cpu": "3"}}]}});
        assert_eq!(pod_requests(&pod, PodAmounts::Effective).shown(), "cpu=3");
        assert_eq!(pod_requests(&pod, PodAmounts::SpecOnly).shown(), "cpu=1");
    }
}
