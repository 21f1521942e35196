//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: finds the policies, bindings and parameters that a write meets, and
//! acts on what `api-policy` decides. Source: `k8s.io/apiserver/pkg/admission/plugin/policy`.

use coracle_api_access::Attributes;
use coracle_api_access::admission::Lookup;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Cause, GroupVersion, Gvk, LabelSelector, Status, Value};
use coracle_api_policy::{
    Action, Decision, MutatingPolicy, Query, Request, ValidatingPolicy, denial, expression_errors, matching, warning_of,
};

use super::View;
use crate::registry::admit::{Attempt, Operation};
use crate::registry::objects;

const GROUP: &str = "admissionregistration.k8s.io";

/// What a write is to policies, as far as it must be made for them.
pub(super) struct Facts {
    kind: Gvk,
    resource: coracle_api_meta::Gvr,
    namespace: Option<Value>,
}

impl Facts {
    pub(super) fn of(attempt: &Attempt<'_>) -> Self {
        let resource = &attempt.target.resource;
        let namespace = attempt.target.namespace.as_str();
        let within = !namespace.is_empty() && resource.plural != "namespaces";
        Self {
            kind: resource.gvk(),
            resource: resource.gvr(),
            namespace: within.then(|| View(attempt.ctx).find("", "namespaces", "", namespace)).flatten(),
        }
    }

    pub(super) fn request<'a>(&'a self, attempt: &'a Attempt<'_>, object: Option<&'a Value>) -> Request<'a> {
        Request {
            operation: attempt.operation.as_str(),
            kind: &self.kind,
            resource: &self.resource,
            subresource: attempt.subresource,
            namespace: &attempt.target.namespace,
            name: attempt.name,
            object: object.filter(|object| !object.is_null()),
            old_object: attempt.old,
            namespace_object: self.namespace.as_ref(),
            options: None,
            dry_run: attempt.dry_run,
            user: &attempt.ctx.user,
            ask: None,
        }
    }
}

/// Answers what expressions ask of `authorizer`.
pub(super) fn asked(attempt: &Attempt<'_>, query: &Query) -> (bool, String) {
    let account = query
        .service_account
        .as_ref()
        .map(|(namespace, name)| coracle_api_meta::UserInfo::service_account(namespace, name, ""));
    let attributes = Attributes {
        user: account.as_ref().unwrap_or(&attempt.ctx.user),
        verb: &query.verb,
        group: &query.group,
        resource: &query.resource,
        subresource: &query.subresource,
        namespace: &query.namespace,
        name: &query.name,
        path: (!query.path.is_empty()).then_some(query.path.as_str()),
    };
    (View(attempt.ctx).allows(&attributes), String::new())
}

/// Whether there are policies of a kind at all.
fn any(attempt: &Attempt<'_>, plural: &str) -> bool {
    attempt.ctx.server.store.local_count(&format!("{GROUP}/{plural}")) > 0
}

/// Policies of a kind whose constraints match, each with its bindings that match.
fn matched(attempt: &Attempt<'_>, plural: &str, request: &Request<'_>) -> Vec<(Value, Vec<Value>)> {
    let view = View(attempt.ctx);
    if matching::is_exempt(request) {
        return Vec::new();
    }
    let mut policies = view.all(GROUP, plural, "");
    policies.retain(|policy| matching::resources(&policy["spec"]["matchConstraints"], request));
    if policies.is_empty() {
        return Vec::new();
    }
    policies.sort_by(|a, b| a.name().cmp(b.name()));
    let bindings = view.all(GROUP, &plural.replace("policies", "policybindings"), "");
    let of = |policy: &Value| {
        let bound = bindings.iter().filter(|binding| {
            binding["spec"]["policyName"] == policy.name()
                && matching::resources(&binding["spec"]["matchResources"], request)
        });
        bound.cloned().collect()
    };
    policies.into_iter().map(|policy| (of(&policy), policy)).map(|(bindings, policy)| (policy, bindings)).collect()
}

/// The parameters with which a binding runs its policy; a policy without `paramKind` runs once without.
fn parameters(attempt: &Attempt<'_>, policy: &Value, binding: &Value) -> Result<Vec<Option<Value>>, String> {
    let kind = &policy["spec"]["paramKind"];
    let reference = &binding["spec"]["paramRef"];
    if !kind.is_object() {
        return Ok(vec![None]);
    }
    if !reference.is_object() {
        return Ok(vec![None]);
    }
    let (api_version, name) = (kind.str_at(&["apiVersion"]), kind.str_at(&["kind"]));
    let version = GroupVersion::parse(api_version);
    let row = version.and_then(|gv| attempt.ctx.server.resources().find_kind(&Gvk::new(gv.group, gv.version, name)));
    let missing = || format!("failed to find resource referenced by paramKind: '{api_version}, Kind={name}'");
    let row = row.ok_or_else(missing)?;
    let own = reference.str_at(&["namespace"]);
    let namespace = match (row.namespaced, own.is_empty()) {
        (false, _) => "",
        (true, false) => own,
        (true, true) => attempt.target.namespace.as_str(),
    };
    let view = View(attempt.ctx);
    let found = match reference["name"].as_str().filter(|name| !name.is_empty()) {
        Some(name) => view.find(&row.group, &row.plural, namespace, name).into_iter().collect(),
        None => {
            let selector = LabelSelector::from_value(&reference["selector"]).map_err(|error| error.to_string())?;
            let mut all = view.all(&row.group, &row.plural, namespace);
            all.retain(|object| selector.matches(object.labels()));
            all
        }
    };
    if found.is_empty() && reference["parameterNotFoundAction"] != "Allow" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found.into_iter().map(Some).collect())
}

/// The Status of a denied write.
fn denied(attempt: &Attempt<'_>, message: String, reason: &str) -> Status {
    let mut status = attempt.forbidden(&message);
    let reason = if reason.is_empty() { "Invalid" } else { reason };
    status.code = match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    reason.clone_into(&mut status.reason);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { message, ..Cause::default() });
    }
    status
}

/// Holds a write against the validating policies.
pub(super) fn validate(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    compiles(attempt, object)?;
    if !any(attempt, "validatingadmissionpolicies") {
        return Ok(());
    }
    let facts = Facts::of(attempt);
    let ask = |query: &Query| asked(attempt, query);
    let request = Request { ask: Some(&ask), ..facts.request(attempt, Some(object)) };
    for (policy, bindings) in matched(attempt, "validatingadmissionpolicies", &request) {
        if bindings.is_empty() {
            continue;
        }
        let compiled = ValidatingPolicy::compile(&policy);
        for binding in &bindings {
            let decisions = match parameters(attempt, &policy, binding) {
                Ok(found) => {
                    let outcomes = found.iter().map(|params| compiled.evaluate(&request, params.as_ref()));
                    outcomes.flat_map(|outcome| outcome.decisions).collect()
                }
                Err(_) if policy["spec"]["failurePolicy"] == "Ignore" => Vec::new(),
                Err(error) => {
                    let message = format!("failed to configure binding: {error}");
                    vec![Decision { index: 0, message, reason: String::new() }]
                }
            };
            act(attempt, &policy, binding, &decisions)?;
        }
    }
    Ok(())
}

/// Whether the expressions of a policy or webhook configuration that is written compile.
fn compiles(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let resource = &attempt.target.resource;
    if resource.group != GROUP || !attempt.subresource.is_empty() || object.is_null() {
        return Ok(());
    }
    let known: Vec<_> = attempt.old.map(|old| expression_errors(&resource.kind, old)).unwrap_or_default();
    let mut errors = expression_errors(&resource.kind, object);
    // What was stored with an error may stay.
    errors.retain(|error| !known.contains(error));
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&resource.gvk(), attempt.name, &errors)) }
}

/// Denies or warns, as the binding says.
fn act(attempt: &Attempt<'_>, policy: &Value, binding: &Value, decisions: &[Decision]) -> Result<(), Status> {
    let actions = Action::of(binding);
    for decision in decisions {
        if actions.contains(&Action::Warn) {
            attempt.ctx.warn(warning_of(policy.name(), binding.name(), decision));
        }
    }
    match decisions.first().filter(|_| actions.contains(&Action::Deny)) {
        Some(decision) => Err(denied(attempt, denial(policy.name(), binding.name(), decision), &decision.reason)),
        None => Ok(()),
    }
}

/// Lets the mutating policies change an object; those that ask for it see it again when others changed it after them.
pub(super) fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    let writes = matches!(attempt.operation, Operation::Create | Operation::Update);
    if !writes || !any(attempt, "mutatingadmissionpolicies") {
        return Ok(());
    }
    let facts = Facts::of(attempt);
    let policies = matched(attempt, "mutatingadmissionpolicies", &facts.request(attempt, Some(object)));
    let mut seen: Vec<Option<Value>> = vec![None; policies.len()];
    for again in [false, true] {
        for ((policy, bindings), seen) in policies.iter().zip(&mut seen) {
            if bindings.is_empty() {
                continue;
            }
            let compiled = MutatingPolicy::compile(policy);
            if again && (!compiled.reinvoke || seen.as_ref() == Some(object)) {
                continue;
            }
            for binding in bindings {
                change(attempt, &facts, &compiled, policy, binding, object)?;
            }
            *seen = Some(object.clone());
        }
    }
    Ok(())
}

fn change(
    attempt: &Attempt<'_>,
    facts: &Facts,
    compiled: &MutatingPolicy,
    policy: &Value,
    binding: &Value,
    object: &mut Value,
) -> Result<(), Status> {
    let failed = |error: String| {
        let message = format!("policy '{}' with binding '{}' denied request: {error}", policy.name(), binding.name());
        if compiled.fail { Err(denied(attempt, message, "")) } else { Ok(()) }
    };
    let found = match parameters(attempt, policy, binding) {
        Ok(found) => found,
        Err(error) => return failed(error),
    };
    let Some((schemas, ty)) = objects::types(&attempt.target.resource) else { return Ok(()) };
    for params in found {
        let ask = |query: &Query| asked(attempt, query);
        let request = Request { ask: Some(&ask), ..facts.request(attempt, Some(object)) };
        let changed = compiled.evaluate(&request, params.as_ref(), schemas, ty);
        match changed {
            Ok(Some(changed)) => *object = changed,
            Ok(None) => {}
            Err(error) => return failed(error.to_string()),
        }
    }
    Ok(())
}
