//! Label selectors of typed objects.

use std::collections::BTreeMap;

use coracle_api_meta::selector::Requirement;
use coracle_api_types::k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;

pub use coracle_api_meta::LabelSelector;

/// Compiles a typed selector; one that cannot be understood selects nothing.
#[must_use]
pub fn compile(selector: &TypedSelector) -> LabelSelector {
    let mut compiled = LabelSelector::everything();
    for (key, value) in selector.match_labels.iter().flatten() {
        compiled.requirements.push(Requirement::Equals(key.clone(), value.clone()));
    }
    for expression in selector.match_expressions.iter().flatten() {
        let key = expression.key.clone();
        let values = || expression.values.iter().flatten().cloned().collect();
        compiled.requirements.push(match expression.operator.as_str() {
            "In" => Requirement::In(key, values()),
            "NotIn" => Requirement::NotIn(key, values()),
            "Exists" => Requirement::Exists(key),
            "DoesNotExist" => Requirement::NotExists(key),
            _ => return LabelSelector::nothing(),
        });
    }
    compiled
}

/// `None` selects nothing.
#[must_use]
pub fn compile_opt(selector: Option<&TypedSelector>) -> LabelSelector {
    selector.map_or_else(LabelSelector::nothing, compile)
}

#[must_use]
pub fn from_map(labels: &BTreeMap<String, String>) -> LabelSelector {
    LabelSelector::from_pairs(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

#[must_use]
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    selector.matches_with(|key| labels?.get(key).map(String::as_str))
}
