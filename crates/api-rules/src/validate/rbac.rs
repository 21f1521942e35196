//! Roles and bindings.

use coracle_api_meta::names;
use serde_json::json;

use crate::at::{At, Errors};
use crate::same::same;

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(role: &At<'_>, errors: &mut Errors) {
    role.get("rules").items().iter().for_each(|one| rule(one, true, errors));
}

pub fn cluster_role(role: &At<'_>, errors: &mut Errors) {
    role.get("rules").items().iter().for_each(|one| rule(one, false, errors));
    let aggregation = role.get("aggregationRule");
    if aggregation.exists() {
        let selectors = aggregation.get("clusterRoleSelectors");
        if selectors.is_empty() {
            selectors.required(errors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        selectors.items().iter().for_each(|selector| crate::meta::label_selector(selector, errors));
    }
}

fn rule(rule: &At<'_>, namespaced: bool, errors: &mut Errors) {
    if rule.get("verbs").is_empty() {
        rule.get("verbs").required(errors, "verbs must contain at least one value");
    }
    let urls = rule.get("nonResourceURLs");
    if !urls.is_empty() {
        if namespaced {
            urls.invalid(errors, "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.get(field).is_empty()) {
            urls.invalid(errors, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if rule.get("apiGroups").is_empty() {
        rule.get("apiGroups").required(errors, "resource rules must supply at least one api group");
    }
    if rule.get("resources").is_empty() {
        rule.get("resources").required(errors, "resource rules must supply at least one resource");
    }
}

pub fn role_binding(binding: &At<'_>, errors: &mut Errors) {
    role_ref(binding, &["Role", "ClusterRole"], errors);
    binding.get("subjects").items().iter().for_each(|one| subject(one, true, errors));
}

pub fn cluster_role_binding(binding: &At<'_>, errors: &mut Errors) {
    role_ref(binding, &["ClusterRole"], errors);
    binding.get("subjects").items().iter().for_each(|one| subject(one, false, errors));
}

fn role_ref(binding: &At<'_>, kinds: &[&str], errors: &mut Errors) {
    let role = binding.get("roleRef");
    role.get("apiGroup").one_of(errors, &[GROUP]);
    role.get("kind").one_of(errors, kinds);
    let name = role.get("name");
    if name.is_empty() {
        name.required(errors, "");
    } else {
        name.invalid_all(errors, names::is_path_segment(name.str()));
    }
}

fn subject(subject: &At<'_>, namespaced: bool, errors: &mut Errors) {
    let (name, group) = (subject.get("name"), subject.get("apiGroup"));
    if name.is_empty() {
        name.required(errors, "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                name.invalid_all(errors, names::is_dns1123_subdomain(name.str()));
            }
            if !group.is_empty() {
                group.unsupported(errors, &[""]);
            }
            if !namespaced && subject.text("namespace").is_empty() {
                subject.get("namespace").required(errors, "");
            }
        }
        "User" | "Group" => group.one_of(errors, &[GROUP]),
        _ => subject.get("kind").unsupported(errors, &["ServiceAccount", "User", "Group"]),
    }
}

pub fn binding_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if !same(new.get("roleRef").value(), old.get("roleRef").value()) {
        let role = new.get("roleRef");
        // Upstream prints its internal type.
        let shown = json!({"APIGroup": role.text("apiGroup"), "Kind": role.text("kind"), "Name": role.text("name")});
        role.invalid_as(errors, shown, "cannot change roleRef");
    }
}
