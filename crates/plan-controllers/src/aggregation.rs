//! Cluster roles that gather the rules of others. Source: `pkg/controller/clusterroleaggregation`.

use std::sync::Arc;

use coracle_api_types::Object;
use coracle_plan_core::select::{compile, matches};
use coracle_plan_core::{Action, Plan};
use k8s_openapi::api::rbac::v1::ClusterRole;

/// Whether the role gathers rules.
#[must_use]
pub fn aggregates(role: &ClusterRole) -> bool {
    role.aggregation_rule.as_ref().is_some_and(|rule| rule.cluster_role_selectors.is_some())
}

/// The plan for one role; `all` is sorted by name.
#[must_use]
pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Plan {
    let selectors = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_ref());
    let Some(selectors) = selectors else { return Plan::nothing() };
    let mut rules = Vec::new();
    for selector in selectors.iter().map(compile) {
        let gathered = all.iter().filter(|other| other.name() != role.name());
        for other in gathered.filter(|other| matches(&selector, other.metadata.labels.as_ref())) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Plan::nothing();
    }
    let mut role = role.clone();
    role.rules = Some(rules);
    let mut plan = Plan::nothing();
    plan.because("gather rules", "cluster roles that the role selects have changed");
    plan.push(Action::update(&role));
    plan
}
