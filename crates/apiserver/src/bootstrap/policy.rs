//! Bootstrap roles and bindings, from a table of facts (`policy.txt`).
//!
//! Lines: `role <namespace> <name> <labels> <aggregated labels>`, then its rules as `rule <verbs> <groups> <resources> <names>`
//! and `url <verbs> <urls>`; `bind <namespace> <name> <role kind> <role> <subjects>`. `-` is nothing, `""` the empty text.

use std::collections::BTreeMap;

use coracle_api_access::{PolicyRule, covers, rules_of};
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};
use serde_json::json;

use crate::bootstrap::{options, target_of};
use crate::http::Ctx;
use crate::registry::resources::item_name_of;
use crate::registry::{create, storage, update};

const TABLE: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

fn list(text: &str) -> Vec<String> {
    if text == "-" {
        return Vec::new();
    }
    text.split(',').map(|item| if item == "\"\"" { String::new() } else { item.to_owned() }).collect()
}

/// All roles, then all bindings.
pub(super) fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in TABLE.lines() {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            ["role", namespace, name, labels, aggregated] => objects.push(role(namespace, name, labels, aggregated)),
            ["rule", verbs, groups, resources, names] => add_rule(
                &mut objects,
                &PolicyRule {
                    verbs: list(verbs),
                    api_groups: list(groups),
                    resources: list(resources),
                    resource_names: list(names),
                    ..PolicyRule::default()
                },
            ),
            ["url", verbs, urls] => add_rule(
                &mut objects,
                &PolicyRule { verbs: list(verbs), non_resource_urls: list(urls), ..PolicyRule::default() },
            ),
            ["bind", namespace, name, kind, role, subjects @ ..] => {
                objects.push(binding(namespace, name, kind, role, subjects));
            }
            _ => {}
        }
    }
    aggregate(&mut objects);
    objects
}

fn add_rule(objects: &mut [Value], rule: &PolicyRule) {
    if let Some(rules) = objects.last_mut().and_then(|role| role.get_mut("rules")).and_then(Value::as_array_mut) {
        rules.push(rule.to_value());
    }
}

fn metadata(namespace: &str, name: &str) -> Value {
    let mut metadata = json!({"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"}});
    if namespace != "-" {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn role(namespace: &str, name: &str, labels: &str, aggregated: &str) -> Value {
    let kind = if namespace == "-" { "ClusterRole" } else { "Role" };
    let mut role = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata(namespace, name), "rules": []});
    for label in list(labels) {
        if let Some((key, value)) = label.split_once('=') {
            role["metadata"]["labels"][key] = value.into();
        }
    }
    if aggregated != "-" {
        let selectors: Vec<Value> =
            list(aggregated).iter().map(|label| json!({"matchLabels": {label.as_str(): "true"}})).collect();
        role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    }
    role
}

fn binding(namespace: &str, name: &str, kind: &str, role: &str, subjects: &[&str]) -> Value {
    let own = if namespace == "-" { "ClusterRoleBinding" } else { "RoleBinding" };
    let subjects: Vec<Value> = subjects
        .iter()
        .filter_map(|subject| {
            let (kind, name) = subject.split_once(':')?;
            Some(match (kind, name.split_once('/')) {
                ("ServiceAccount", Some((namespace, name))) => {
                    json!({"kind": kind, "name": name, "namespace": namespace})
                }
                _ => json!({"kind": kind, "apiGroup": GROUP, "name": name}),
            })
        })
        .collect();
    json!({"apiVersion": API_VERSION, "kind": own, "metadata": metadata(namespace, name),
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": subjects})
}

/// Fills the rules of aggregated roles for the start; a controller keeps them later.
fn aggregate(objects: &mut [Value]) {
    for _ in 0..3 {
        let mut by_label: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for role in objects.iter() {
            for (label, _) in role.labels().into_iter().flatten() {
                let rules = role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
                by_label.entry(label.clone()).or_default().extend(rules);
            }
        }
        for role in objects.iter_mut().filter(|role| role.get("aggregationRule").is_some()) {
            let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array).cloned();
            let labels = selectors
                .into_iter()
                .flatten()
                .filter_map(|selector| selector.get("matchLabels")?.as_object()?.keys().next().cloned());
            let mut rules: Vec<Value> = Vec::new();
            for rule in labels.filter_map(|label| by_label.get(&label)).flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            role["rules"] = rules.into();
        }
    }
}

/// Creates the object, or gives an existing role the rules it lacks. Source: `component-helpers/auth/rbac/reconciliation`.
pub(super) async fn ensure(ctx: &Ctx, object: Value) -> Result<(), Status> {
    let target = target_of(&ctx.server, &object)?;
    let found = ctx.server.store.local_get(&storage::key(&target.resource, &item_name_of(&object)));
    let Some(entry) = found else {
        let created = create::create_object(ctx, &target, object, &options("coracle")).await;
        return match created {
            Err(status) if !status.is("AlreadyExists") => Err(status),
            _ => Ok(()),
        };
    };
    let current = storage::object(&target.resource, &entry)?;
    let automatic = current.annotations().and_then(|all| all.get(AUTOUPDATE)).and_then(Value::as_str) == Some("true");
    if !automatic || object.get("rules").is_none() || object.get("aggregationRule").is_some() {
        return Ok(());
    }
    let missing = covers(&rules_of(&current), &rules_of(&object));
    if missing.is_empty() {
        return Ok(());
    }
    let mut change = |current: &Value| {
        let mut next = current.clone();
        let lacking = covers(&rules_of(current), &rules_of(&object));
        if let Some(rules) = next.get_mut("rules").and_then(Value::as_array_mut) {
            rules.extend(lacking.iter().map(PolicyRule::to_value));
        }
        Ok(next)
    };
    update::apply(ctx, &target, "", &options("coracle"), &mut change).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let objects = objects();
        let kinds = |kind: &str| objects.iter().filter(|object| object.kind() == kind).count();
        assert!(kinds("ClusterRole") > 60 && kinds("ClusterRoleBinding") > 40 && kinds("Role") > 5);
        let rules = objects.iter().map(|object| rules_of(object).len()).sum::<usize>();
        let lines = TABLE.lines().filter(|line| line.starts_with("rule ") || line.starts_with("url ")).count();
        assert!(rules > lines, "aggregated roles have rules of others");
        let view = objects.iter().find(|object| object.name() == "view").expect("view");
        assert!(!rules_of(view).is_empty());
    }
}
