//! Pod disruption budgets.

use super::workloads::{at_most_whole, count_or_percent};
use crate::at::{At, Errors};

pub fn disruption_budget(budget: &At<'_>, errors: &mut Errors) {
    let spec = budget.get("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        spec.invalid(errors, "minAvailable and maxUnavailable cannot be both set");
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
