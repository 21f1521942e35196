//! What the types of the kinds that a policy matches have against its expressions: `status.typeChecking`.
//! Source: `pkg/controller/validatingadmissionpolicystatus`, `policy/validating/typechecking.go`.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use coracle_api_cel::Ty;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{GroupVersion, Gvk, Status, Value};
use coracle_api_policy::type_check;
use coracle_api_schema::{builtin, cel};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bootstrap::{options, target_of};
use crate::http::Ctx;
use crate::http::authz::objects;
use crate::registry::resources::Resource;
use crate::registry::update;
use crate::server::Server;

const POLICIES: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
/// Kinds that one policy is checked with. Source: `maxTypesToCheck`.
const KINDS_MAX: usize = 10;

/// Checks policies whenever they change, until the server stops.
pub(crate) async fn run(server: Weak<Server>, stopping: CancellationToken) {
    let Some(mut changes) = server.upgrade().map(|server| server.store.changes(POLICIES)) else { return };
    loop {
        let Some(server) = server.upgrade() else { return };
        for policy in objects(&*server.store, POLICIES).iter().filter(|policy| is_unchecked(policy)) {
            if let Err(error) = check(&server, policy).await {
                tracing::warn!(%error, name = policy.name(), "check the types of a policy");
            }
        }
        drop(server);
        let alive = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            () = stopping.cancelled() => false,
        };
        if !alive {
            return;
        }
    }
}

fn generation(policy: &Value) -> i64 {
    policy.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default()
}

fn is_unchecked(policy: &Value) -> bool {
    let observed = policy.at(&["status", "observedGeneration"]).and_then(Value::as_i64).unwrap_or_default();
    generation(policy) > observed
}

async fn check(server: &Arc<Server>, policy: &Value) -> Result<(), Status> {
    let kinds = kinds(server, policy);
    let params = params(server, policy);
    let warnings = type_check(policy, &kinds, params.as_ref());
    let checking = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    let checked = generation(policy);
    let ctx = Ctx::internal(Arc::clone(server));
    let target = target_of(server, policy)?;
    let mut change = |current: &Value| {
        let mut next = current.clone();
        // A newer one is checked in its turn.
        if generation(current) == checked {
            if !next["status"].is_object() {
                next["status"] = json!({});
            }
            next["status"]["observedGeneration"] = checked.into();
            next["status"]["typeChecking"] = checking.clone();
        }
        Ok(next)
    };
    match update::apply(&ctx, &target, "status", &options("kube-controller-manager"), &mut change).await {
        Err(status) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The kinds that the policy names, with their types. Wildcards name none.
fn kinds(server: &Server, policy: &Value) -> Vec<(String, Ty)> {
    let resources = server.resources();
    let rules = policy.at(&["spec", "matchConstraints", "resourceRules"]).and_then(Value::as_array);
    let mut found: BTreeSet<Gvk> = BTreeSet::new();
    for rule in rules.into_iter().flatten() {
        let list = |field: &str| -> BTreeSet<&str> {
            rule.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let (groups, versions) = (list("apiGroups"), list("apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        for group in groups {
            for version in &versions {
                let plain = list("resources").into_iter().filter(|name| !name.contains(['*', '/']));
                found.extend(plain.filter_map(|plural| resources.find(group, version, plural)).map(|row| row.gvk()));
            }
        }
    }
    let rows = found.into_iter().take(KINDS_MAX).filter_map(|gvk| resources.find_kind(&gvk));
    rows.filter_map(|row| Some((shown(&row.gvk()), type_of(&row)?))).collect()
}

/// Source: `schema.GroupVersionKind`.
fn shown(gvk: &Gvk) -> String {
    format!("{}/{}, Kind={}", gvk.group, gvk.version, gvk.kind)
}

fn type_of(row: &Resource) -> Option<Ty> {
    match row.compiled() {
        Some(compiled) => Some(cel::ty(&compiled.schemas, compiled.root)),
        None => Some(cel::builtin_ty(builtin().kind(&row.gvk())?)),
    }
}

fn params(server: &Server, policy: &Value) -> Option<Ty> {
    let kind = policy.at(&["spec", "paramKind"])?;
    let version = GroupVersion::parse(kind.str_at(&["apiVersion"]))?;
    let gvk = Gvk::new(version.group, version.version, kind.str_at(&["kind"]));
    type_of(&*server.resources().find_kind(&gvk)?)
}
