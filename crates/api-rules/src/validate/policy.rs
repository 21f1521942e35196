//! Pod disruption budgets.

use serde_json::json;

use super::workloads::{at_most_whole, count_or_percent};
use crate::at::{At, Errors};

pub fn disruption_budget(budget: &At<'_>, errors: &mut Errors) {
    let spec = budget.get("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let part = |field| spec.get(field).value();
        // Upstream prints its internal type.
        let shown = json!({"MinAvailable": part("minAvailable"), "Selector": part("selector"),
            "MaxUnavailable": part("maxUnavailable"), "UnhealthyPodEvictionPolicy": part("unhealthyPodEvictionPolicy")});
        spec.invalid_as(errors, shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for bound in ["minAvailable", "maxUnavailable"].map(|field| spec.get(field)).iter().filter(|bound| bound.exists()) {
        count_or_percent(bound, errors);
        at_most_whole(bound, errors);
    }
    crate::meta::label_selector(&spec.get("selector"), errors);
    spec.get("unhealthyPodEvictionPolicy").one_of_if_set(errors, &["AlwaysAllow", "IfHealthyBudget"]);
}

pub fn disruption_budget_status(new: &At<'_>, _: &At<'_>, errors: &mut Errors) {
    let status = new.get("status");
    crate::meta::conditions(&status.get("conditions"), errors);
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        status.get(field).non_negative(errors);
    }
}
