//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: finds the policies, bindings and parameters that a write meets, and
//! acts on what `api-policy` decides. Source: `k8s.io/apiserver/pkg/admission/plugin/policy`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_api_access::Attributes;
use coracle_api_access::admission::Lookup;
use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Cause, GroupVersion, Gvk, LabelSelector, Status, Value};
use coracle_api_policy::{
    Action, Decision, MutatingPolicy, Query, Request, ValidatingPolicy, denial, expression_errors, matching, warning_of,
};
use serde_json::json;

use super::{View, options};
use crate::derived::Derived;
use crate::http::authz::objects as stored;
use crate::registry::admit::{Attempt, Operation};
use crate::registry::objects;

const GROUP: &str = "admissionregistration.k8s.io";
const VALIDATING: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
const VALIDATING_BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings";
const MUTATING: &str = "admissionregistration.k8s.io/mutatingadmissionpolicies";
const MUTATING_BINDINGS: &str = "admissionregistration.k8s.io/mutatingadmissionpolicybindings";
const VALIDATION_FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// What a write is to policies, as far as it must be made for them.
pub(super) struct Facts {
    kind: Gvk,
    resource: coracle_api_meta::Gvr,
    namespace: Option<Arc<Value>>,
    options: Value,
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
            options: options(attempt),
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
            namespace_object: self.namespace.as_deref(),
            options: Some(&self.options).filter(|options| options.is_object()),
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
        version: "",
        path: (!query.path.is_empty()).then_some(query.path.as_str()),
        selectors: None,
    };
    (View(attempt.ctx).allows(&attributes), String::new())
}

/// A policy as requests meet it: compiled once, with the bindings that name it.
pub(crate) struct Bound<P> {
    policy: Value,
    compiled: Arc<P>,
    bindings: Vec<Value>,
}

type All<P> = Derived<Vec<Bound<P>>>;
/// Compiled policies by UID and generation.
type Compiled<P> = Mutex<HashMap<(String, i64), Arc<P>>>;

/// All policies, made anew when one of them or of their bindings changes.
pub(crate) struct Policies {
    validating: All<ValidatingPolicy>,
    mutating: All<MutatingPolicy>,
}

impl Policies {
    pub(crate) fn new() -> Self {
        Self {
            validating: all(VALIDATING, VALIDATING_BINDINGS, ValidatingPolicy::compile),
            mutating: all(MUTATING, MUTATING_BINDINGS, MutatingPolicy::compile),
        }
    }
}

fn all<P: Send + Sync + 'static>(
    policies: &'static str,
    bindings: &'static str,
    compile: impl Fn(&Value) -> P + Send + Sync + 'static,
) -> All<P> {
    let known: Compiled<P> = Mutex::default();
    Derived::new(&[policies, bindings], move |store| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut policies = stored(store, policies);
        policies.sort_by(|a, b| a.name().cmp(b.name()));
        let bindings = stored(store, bindings);
        let bound: Vec<Bound<P>> = policies
            .into_iter()
            .map(|policy| {
                let key = key_of(&policy);
                let compiled = Arc::clone(known.entry(key).or_insert_with(|| Arc::new(compile(&policy))));
                let own = bindings.iter().filter(|binding| binding["spec"]["policyName"] == policy.name());
                Bound { bindings: own.cloned().collect(), compiled, policy }
            })
            .collect();
        known.retain(|key, _| bound.iter().any(|own| key_of(&own.policy) == *key));
        bound
    })
}

fn key_of(policy: &Value) -> (String, i64) {
    let generation = policy.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default();
    (policy.uid().to_owned(), generation)
}

/// Whether a policy's constraints match a request.
fn concerns<P>(own: &Bound<P>, request: &Request<'_>) -> bool {
    !own.bindings.is_empty() && matching::resources(&own.policy["spec"]["matchConstraints"], request)
}

/// The bindings of a policy that match a request.
fn bound_to<'a, P>(own: &'a Bound<P>, request: &Request<'_>) -> Vec<&'a Value> {
    own.bindings.iter().filter(|binding| matching::resources(&binding["spec"]["matchResources"], request)).collect()
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
    Ok(found.into_iter().map(|found| Some(Arc::unwrap_or_clone(found))).collect())
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
    let store = &*attempt.ctx.server.store;
    if store.local_count(VALIDATING) == 0 {
        return Ok(());
    }
    let facts = Facts::of(attempt);
    let ask = |query: &Query| asked(attempt, query);
    let request = Request { ask: Some(&ask), ..facts.request(attempt, Some(object)) };
    if matching::is_exempt(&request) {
        return Ok(());
    }
    let policies = attempt.ctx.server.policies.validating.get(store);
    let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut denial = Ok(());
    for own in policies.iter().filter(|own| concerns(own, &request)) {
        for binding in bound_to(own, &request) {
            let decisions = decide(attempt, own, binding, &request, &mut annotations);
            denial = denial.and(act(attempt, &own.policy, binding, &decisions));
        }
    }
    for (key, values) in annotations {
        attempt.ctx.annotate(&key, &values.join(", "));
    }
    denial
}

/// What a policy says of a request with the parameters of one binding.
fn decide(
    attempt: &Attempt<'_>,
    own: &Bound<ValidatingPolicy>,
    binding: &Value,
    request: &Request<'_>,
    annotations: &mut BTreeMap<String, Vec<String>>,
) -> Vec<Decision> {
    let found = match parameters(attempt, &own.policy, binding) {
        Ok(found) => found,
        Err(_) if own.policy["spec"]["failurePolicy"] == "Ignore" => return Vec::new(),
        Err(error) => {
            let message = format!("failed to configure binding: {error}");
            return vec![Decision { index: 0, message, reason: String::new() }];
        }
    };
    let mut decisions = Vec::new();
    for params in &found {
        let outcome = own.compiled.evaluate(request, params.as_ref());
        decisions.extend(outcome.decisions);
        for (key, value) in outcome.annotations {
            let values = annotations.entry(format!("{}/{key}", own.policy.name())).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    decisions
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

/// Denies, warns or notes, as the binding says.
fn act(attempt: &Attempt<'_>, policy: &Value, binding: &Value, decisions: &[Decision]) -> Result<(), Status> {
    let actions = Action::of(binding);
    for decision in decisions {
        if actions.contains(&Action::Warn) {
            attempt.ctx.warn(warning_of(policy.name(), binding.name(), decision));
        }
    }
    if actions.contains(&Action::Audit) && !decisions.is_empty() {
        let failures: Vec<Value> = decisions
            .iter()
            .map(|decision| {
                json!({"message": decision.message, "policy": policy.name(), "binding": binding.name(),
                    "expressionIndex": decision.index, "validationActions": binding["spec"]["validationActions"]})
            })
            .collect();
        attempt.ctx.annotate(VALIDATION_FAILURE, &Value::from(failures).to_string());
    }
    match decisions.first().filter(|_| actions.contains(&Action::Deny)) {
        Some(decision) => Err(denied(attempt, denial(policy.name(), binding.name(), decision), &decision.reason)),
        None => Ok(()),
    }
}

/// Lets the mutating policies change an object; those that ask for it see it again when others changed it after them.
pub(super) fn mutate(attempt: &Attempt<'_>, object: &mut Value) -> Result<(), Status> {
    let store = &*attempt.ctx.server.store;
    let writes = matches!(attempt.operation, Operation::Create | Operation::Update);
    if !writes || store.local_count(MUTATING) == 0 {
        return Ok(());
    }
    let facts = Facts::of(attempt);
    if matching::is_exempt(&facts.request(attempt, Some(object))) {
        return Ok(());
    }
    let all = attempt.ctx.server.policies.mutating.get(store);
    let policies: Vec<&Bound<MutatingPolicy>> =
        all.iter().filter(|own| concerns(own, &facts.request(attempt, Some(object)))).collect();
    let mut seen: Vec<Option<Value>> = vec![None; policies.len()];
    for again in [false, true] {
        for (own, seen) in policies.iter().zip(&mut seen) {
            if again && (!own.compiled.reinvoke || seen.as_ref() == Some(object)) {
                continue;
            }
            for binding in bound_to(own, &facts.request(attempt, Some(object))) {
                change(attempt, &facts, &own.compiled, &own.policy, binding, object)?;
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
