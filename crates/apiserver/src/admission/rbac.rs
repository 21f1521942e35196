//! Nobody gives more than they have: roles and bindings. Source: `pkg/registry/rbac/{role,rolebinding}/policybased`.

use coracle_api_access::{Attributes, PolicyRule, covers, rules_of};
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Status, Value};

use crate::registry::admit::{Attempt, Operation};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let resource = &attempt.target.resource;
    if resource.group != GROUP || !matches!(attempt.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let user = &attempt.ctx.user;
    if user.in_group("system:masters") {
        return Ok(());
    }
    let is_role = matches!(resource.plural.as_str(), "roles" | "clusterroles");
    let namespace = attempt.target.namespace.as_str();
    let may = |verb: &str, plural: &str, name: &str| {
        let attributes = Attributes { namespace, name, ..Attributes::resource(user, verb, GROUP, plural) };
        attempt.ctx.server.authorizer.allows(&*attempt.ctx.server.store, &attributes).is_some()
    };
    let rbac = attempt.ctx.server.authorizer.rbac(&*attempt.ctx.server.store);
    let asked = if is_role {
        if may("escalate", &resource.plural, object.name()) {
            return Ok(());
        }
        rules_of(object)
    } else {
        let (kind, name) = (object.str_at(&["roleRef", "kind"]), object.str_at(&["roleRef", "name"]));
        let plural = if kind == "Role" { "roles" } else { "clusterroles" };
        if may("bind", plural, name) {
            return Ok(());
        }
        let gvr = coracle_api_meta::Gvr::new(GROUP, "v1", plural);
        let rules = rbac.role_rules(kind, namespace, name).ok_or_else(|| Status::not_found(&gvr, name))?;
        rules.to_vec()
    };
    if let Some(old) = attempt.old.filter(|old| is_role && rules_of(old) == asked) {
        let _ = old;
        return Ok(());
    }
    let missing = covers(&rbac.rules_for(user, namespace), &asked);
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = missing.iter().map(shown).collect();
    lines.sort();
    lines.dedup();
    Err(attempt.forbidden(&format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.username,
        user.groups,
        lines.join("\n")
    )))
}

/// Source: `rbachelpers.CompactString`.
fn shown(rule: &PolicyRule) -> String {
    let list = |items: &[String]| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(" ");
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(name, items)| format!("{name}:[{}]", list(items)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}
