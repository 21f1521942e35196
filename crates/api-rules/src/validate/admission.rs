//! Webhooks and policies. Whether expressions compile is for whoever can compile them.

use std::collections::BTreeSet;

use coracle_api_meta::names;

use super::webhook;
use crate::at::{At, Errors};
use crate::formats::regex;
use crate::meta::{label_name, label_selector};
use crate::same::same;

const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MUTATING_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
const MATCH_CONDITIONS_MAX: usize = 64;
const AUDIT_ANNOTATIONS_MAX: usize = 20;
const AUDIT_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
const CEL_RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What a configuration must keep; one that was let in by an older server may go on.
#[derive(Clone, Copy)]
struct Strictness {
    no_side_effects: bool,
    known_version: bool,
    unique_names: bool,
}

impl Strictness {
    const FULL: Self = Self { no_side_effects: true, known_version: true, unique_names: true };

    fn of_old(old: &At<'_>) -> Self {
        let hooks = old.get("webhooks").items();
        let names: BTreeSet<&str> = hooks.iter().map(|hook| hook.text("name")).collect();
        let versions = |hook: &At<'_>| {
            let versions = hook.get("admissionReviewVersions");
            versions.is_empty() || webhook::knows_version(&versions)
        };
        Self {
            no_side_effects: hooks.iter().all(|hook| NO_SIDE_EFFECTS.contains(&hook.text("sideEffects"))),
            known_version: hooks.iter().all(versions),
            unique_names: names.len() == hooks.len(),
        }
    }
}

pub fn webhooks(configuration: &At<'_>, errors: &mut Errors) {
    all_webhooks(configuration, Strictness::FULL, errors);
}

pub fn webhooks_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    all_webhooks(new, Strictness::of_old(old), errors);
}

fn all_webhooks(configuration: &At<'_>, strictness: Strictness, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for hook in configuration.get("webhooks").items() {
        self::hook(&hook, strictness, errors);
        let empty = "must specify one of v1, v1beta1";
        webhook::review_versions(&hook.get("admissionReviewVersions"), empty, strictness.known_version, errors);
        let name = hook.get("name");
        if strictness.unique_names && !name.is_empty() && !seen.insert(name.str()) {
            name.duplicate(errors);
        }
    }
}

fn hook(hook: &At<'_>, strictness: Strictness, errors: &mut Errors) {
    let name = hook.get("name");
    if name.is_empty() {
        name.required(errors, "");
    } else {
        let bad = names::is_dns1123_subdomain(name.str());
        if !bad.is_empty() {
            name.invalid(errors, bad.join(","));
        } else if name.str().split('.').count() < 3 {
            name.invalid(errors, "should be a domain with at least three segments separated by dots");
        }
    }
    hook.get("rules").items().iter().for_each(|one| rule(one, errors));
    hook.get("failurePolicy").one_of_if_set(errors, FAILURE_POLICIES);
    hook.get("matchPolicy").one_of_if_set(errors, MATCH_POLICIES);
    let effects = hook.get("sideEffects");
    let allowed = if strictness.no_side_effects { NO_SIDE_EFFECTS } else { SIDE_EFFECTS };
    if effects.exists() {
        effects.one_of(errors, allowed);
    } else {
        effects.required(errors, format!("must specify one of {}", allowed.join(", ")));
    }
    let seconds = hook.get("timeoutSeconds");
    if seconds.exists() && !(1..=30).contains(&seconds.int()) {
        seconds.invalid(errors, "the timeout value must be between 1 and 30 seconds");
    }
    label_selector(&hook.get("namespaceSelector"), errors);
    label_selector(&hook.get("objectSelector"), errors);
    hook.get("reinvocationPolicy").one_of_if_set(errors, REINVOCATION_POLICIES);
    webhook::client(&hook.get("clientConfig"), errors);
    match_conditions(&hook.get("matchConditions"), errors);
}

/// Reports `*` beside others.
fn lone_star(list: &At<'_>, other: &str, errors: &mut Errors) {
    let values = list.strings();
    if values.len() > 1 && values.contains(&"*") {
        list.invalid(errors, format!("if '*' is present, must not specify other {other}"));
    }
}

fn rule(rule: &At<'_>, errors: &mut Errors) {
    let required = |list: &At<'_>, errors: &mut Errors| {
        if list.is_empty() {
            list.required(errors, "");
        }
    };
    let (operations, groups, versions) = (rule.get("operations"), rule.get("apiGroups"), rule.get("apiVersions"));
    required(&operations, errors);
    lone_star(&operations, "operations", errors);
    operations.items().iter().for_each(|operation| operation.one_of(errors, OPERATIONS));
    required(&groups, errors);
    lone_star(&groups, "API groups", errors);
    required(&versions, errors);
    lone_star(&versions, "API versions", errors);
    versions.items().iter().filter(|version| version.is_empty()).for_each(|version| version.required(errors, ""));
    let resources = rule.get("resources");
    required(&resources, errors);
    self::resources(&resources, errors);
    rule.get("scope").one_of_if_set(errors, &["*", "Cluster", "Namespaced"]);
}

fn resources(resources: &At<'_>, errors: &mut Errors) {
    let (mut of_resource, mut of_subresource) = (BTreeSet::new(), BTreeSet::new());
    let (mut all, mut star, mut plain) = (false, false, false);
    for resource in resources.items() {
        let text = resource.str();
        if text.is_empty() {
            resource.required(errors, "");
            continue;
        }
        all |= text == "*/*";
        star |= text == "*";
        let Some((name, sub)) = text.split_once('/') else {
            // As upstream: only the last one without a subresource counts.
            plain = text != "*";
            continue;
        };
        if of_resource.contains(name) {
            resource.invalid(errors, format!("if '{name}/*' is present, must not specify {text}"));
        }
        if of_subresource.contains(sub) {
            resource.invalid(errors, format!("if '*/{sub}' is present, must not specify {text}"));
        }
        if sub == "*" {
            of_resource.insert(name);
        }
        if name == "*" {
            of_subresource.insert(sub);
        }
    }
    if resources.len() > 1 && all {
        resources.invalid(errors, "if '*/*' is present, must not specify other resources");
    }
    if star && plain {
        resources.invalid(errors, "if '*' is present, must not specify other resources without subresources");
    }
}

fn match_conditions(conditions: &At<'_>, errors: &mut Errors) {
    if conditions.len() > MATCH_CONDITIONS_MAX {
        conditions.too_many(errors, MATCH_CONDITIONS_MAX);
    }
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        let (name, expression) = (condition.get("name"), condition.get("expression"));
        if expression.str().trim().is_empty() {
            expression.required(errors, "");
        }
        if name.is_empty() {
            name.required(errors, "");
        } else {
            label_name(&name, name.str(), errors);
            if !seen.insert(name.str()) {
                name.duplicate(errors);
            }
        }
    }
}

pub fn validating_policy(policy: &At<'_>, errors: &mut Errors) {
    let spec = policy.get("spec");
    policy_start(&spec, &[], errors);
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for list in [&validations, &annotations] {
            list.required(errors, "validations or auditAnnotations must contain at least one item");
        }
        return;
    }
    validations.items().iter().for_each(|one| validation(one, errors));
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        annotations.invalid(errors, format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations"));
    }
    let name = policy.get("metadata").text("name");
    let mut seen = BTreeSet::new();
    for annotation in annotations.items() {
        let key = annotation.get("key");
        audit_annotation(&annotation, name, errors);
        if !seen.insert(key.str()) {
            key.duplicate(errors);
        }
    }
}

/// What both kinds of policy begin with. `operations`: those that rules may name, if not all.
fn policy_start(spec: &At<'_>, operations: &[&str], errors: &mut Errors) {
    spec.get("failurePolicy").required_one_of(errors, FAILURE_POLICIES);
    let parameters = spec.get("paramKind");
    if parameters.exists() {
        parameter_kind(&parameters, errors);
    }
    let constraints = spec.get("matchConstraints");
    if constraints.exists() {
        match_resources(&constraints, errors);
        let rules = constraints.get("resourceRules");
        if rules.is_empty() {
            rules.required(errors, "");
        }
        only_operations(&constraints, operations, errors);
    } else {
        constraints.required(errors, "");
    }
    match_conditions(&spec.get("matchConditions"), errors);
    for variable in spec.get("variables").items() {
        let (name, expression) = (variable.get("name"), variable.get("expression"));
        if name.str().trim().is_empty() {
            name.required(errors, "name is not specified");
        } else if !is_cel_identifier(name.str()) {
            name.invalid(errors, "must be a valid CEL identifier");
        }
        if expression.str().trim().is_empty() {
            expression.required(errors, "expression is not specified");
        }
    }
}

fn is_cel_identifier(name: &str) -> bool {
    regex!("^[_a-zA-Z][_a-zA-Z0-9]*$").is_match(name) && !CEL_RESERVED.contains(&name)
}

fn only_operations(constraints: &At<'_>, operations: &[&str], errors: &mut Errors) {
    if operations.is_empty() {
        return;
    }
    let rules = constraints.get("resourceRules");
    for rule in rules.items() {
        for operation in rule.get("operations").items() {
            rules.get("operations").with(operation.value()).one_of(errors, operations);
        }
    }
}

fn parameter_kind(parameters: &At<'_>, errors: &mut Errors) {
    let (version, kind) = (parameters.get("apiVersion"), parameters.get("kind"));
    let text = version.str();
    if text.is_empty() {
        version.required(errors, "");
    } else if text.matches('/').count() > 1 {
        version.invalid(errors, format!("unexpected GroupVersion string: {text}"));
    } else {
        let (group, name) = text.split_once('/').unwrap_or(("", text));
        let bad = names::is_dns1123_subdomain(group);
        if !group.is_empty() && !bad.is_empty() {
            version.invalid_as(errors, group, bad.join(","));
        }
        let bad = names::is_dns1035_label(name);
        if name.is_empty() {
            version.invalid(errors, "version must be specified");
        } else if !bad.is_empty() {
            version.invalid_as(errors, name, bad.join(","));
        }
    }
    let bad = names::is_dns1035_label(&kind.str().to_lowercase());
    if kind.is_empty() {
        kind.required(errors, "");
    } else if !bad.is_empty() {
        kind.invalid(errors, format!("may have mixed case, but should otherwise match: {}", bad.join(",")));
    }
}

fn match_resources(resources: &At<'_>, errors: &mut Errors) {
    resources.get("matchPolicy").required_one_of(errors, MATCH_POLICIES);
    for field in ["namespaceSelector", "objectSelector"] {
        let selector = resources.get(field);
        if selector.exists() {
            label_selector(&selector, errors);
        } else {
            selector.required(errors, "");
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for one in resources.get(field).items() {
            let mut seen = BTreeSet::new();
            for name in one.get("resourceNames").items() {
                name.invalid_all(errors, names::is_path_segment(name.str()));
                if !seen.insert(name.str()) {
                    name.duplicate(errors);
                }
            }
            rule(&one, errors);
        }
    }
}

fn validation(validation: &At<'_>, errors: &mut Errors) {
    let get = |field| validation.get(field);
    let (expression, message, made) = (get("expression"), get("message"), get("messageExpression"));
    if expression.str().trim().is_empty() {
        expression.required(errors, "expression is not specified");
    }
    for text in [made, message.clone()] {
        if !text.is_empty() && text.str().trim().is_empty() {
            text.invalid(errors, "must be non-empty if specified");
        }
    }
    if message.str().trim().contains(['\n', '\r']) {
        message.invalid(errors, "must not contain line breaks");
    }
    get("reason").one_of_if_set(errors, &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}

fn audit_annotation(annotation: &At<'_>, policy: &str, errors: &mut Errors) {
    let (key, expression) = (annotation.get("key"), annotation.get("valueExpression"));
    if policy.is_empty() {
        key.invalid(errors, "requires metadata.name be non-empty");
    } else {
        let name = coracle_api_meta::Value::from(format!("{policy}/{}", key.str()));
        label_name(&key.with(&name), name.as_str().unwrap_or_default(), errors);
    }
    let bytes = expression.str().trim().len();
    if bytes == 0 {
        expression.required(errors, "valueExpression is not specified");
    } else if bytes > AUDIT_EXPRESSION_BYTES_MAX {
        expression.required(errors, format!("must not exceed {AUDIT_EXPRESSION_BYTES_MAX} bytes in length"));
    }
}

fn binding(spec: &At<'_>, operations: &[&str], errors: &mut Errors) {
    let name = spec.get("policyName");
    if name.is_empty() {
        name.required(errors, "");
    } else {
        name.invalid_all(errors, names::is_dns1123_subdomain(name.str()));
    }
    let parameters = spec.get("paramRef");
    if parameters.exists() {
        parameter_ref(&parameters, errors);
    }
    let resources = spec.get("matchResources");
    if resources.exists() {
        match_resources(&resources, errors);
        only_operations(&resources, operations, errors);
    }
}

fn parameter_ref(parameters: &At<'_>, errors: &mut Errors) {
    let (name, selector) = (parameters.get("name"), parameters.get("selector"));
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        name.invalid_all(errors, names::is_path_segment(name.str()));
        if selector.exists() {
            name.forbidden(errors, both);
        }
    }
    if selector.exists() {
        label_selector(&selector, errors);
        if !name.is_empty() {
            selector.forbidden(errors, both);
        }
    }
    if name.is_empty() && !selector.exists() {
        parameters.required(errors, "one of name or selector must be specified");
    }
    parameters.get("parameterNotFoundAction").required_one_of(errors, &["Deny", "Allow"]);
}

pub fn validating_binding(binding: &At<'_>, errors: &mut Errors) {
    let spec = binding.get("spec");
    self::binding(&spec, &[], errors);
    let actions = spec.get("validationActions");
    let mut seen = BTreeSet::new();
    for action in actions.items() {
        action.one_of(errors, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.str()) {
            action.duplicate(errors);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "repeating the same validation failure information in the API response and headers serves no purpose";
        actions.invalid(errors, format!("must not contain both Deny and Warn ({why})"));
    }
    if seen.is_empty() {
        actions.required(errors, "at least one validation action is required");
    }
}

pub fn mutating_policy(policy: &At<'_>, errors: &mut Errors) {
    let spec = policy.get("spec");
    policy_start(&spec, MUTATING_OPERATIONS, errors);
    let mutations = spec.get("mutations");
    if mutations.is_empty() {
        mutations.required(errors, "mutations must contain at least one item");
    }
    mutations.items().iter().for_each(|one| mutation(one, errors));
    spec.get("reinvocationPolicy").required_one_of(errors, REINVOCATION_POLICIES);
}

fn mutation(mutation: &At<'_>, errors: &mut Errors) {
    let kind = mutation.get("patchType");
    let (wanted, other) = match kind.str() {
        "" => return kind.required(errors, ""),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => return kind.unsupported(errors, &["ApplyConfiguration", "JSONPatch"]),
    };
    let (wanted, unwanted) = (mutation.get(wanted), mutation.get(other));
    if !wanted.exists() {
        wanted.required(errors, format!("must be specified when patchType is {}", kind.str()));
    } else if wanted.text("expression").trim().is_empty() {
        wanted.get("expression").required(errors, "");
    }
    if unwanted.exists() {
        let detail = format!("must not be specified when patchType is {}", kind.str());
        unwanted.invalid_as(errors, format!("{{{other}}}"), detail);
    }
}

pub fn mutating_binding(binding: &At<'_>, errors: &mut Errors) {
    self::binding(&binding.get("spec"), MUTATING_OPERATIONS, errors);
}

/// Conditions and warnings of a policy's status.
pub fn policy_status(policy: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let status = policy.get("status");
    if same(status.value(), old.get("status").value()) {
        return;
    }
    for warning in status.dig("typeChecking.expressionWarnings").items() {
        for field in ["warning", "fieldRef"] {
            let part = warning.get(field);
            if part.str().trim().is_empty() {
                part.required(errors, "");
            }
        }
    }
    crate::meta::conditions(&status.get("conditions"), errors);
}
