//! PodSecurity: namespaces say by labels what their pods may be. Source: `k8s.io/pod-security-admission`.

mod baseline;
mod checks;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

pub use checks::{Finding, evaluate};
pub use policy::{Level, LevelVersion, Policy, Version};

use std::collections::BTreeMap;

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{Gvk, Status, Value};

use super::{Lookup, Notes, Operation, Request, list};

/// Pods of a namespace that are looked at when its level changes.
const PODS_MAX: usize = 3000;
const IGNORED_SUBRESOURCES: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
/// Group, resource, and where the pod template is.
const CONTROLLERS: [(&str, &str, &[&str]); 8] = [
    ("", "podtemplates", &["template"]),
    ("", "replicationcontrollers", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    ("batch", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
];

pub(super) fn validate(request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<Notes, Status> {
    if !request.writes() {
        return Ok(Notes::default());
    }
    if request.is("", "namespaces") {
        return namespace(request, object, lookup);
    }
    if request.is_any("", "pods") {
        return pod(request, object, lookup);
    }
    let row = CONTROLLERS.iter().find(|(group, resource, _)| request.is(group, resource));
    let Some(template) = row.and_then(|(_, _, path)| object.at(path)) else { return Ok(Notes::default()) };
    let Some(policy) = policy_of(request.namespace, lookup) else { return Ok(Notes::default()) };
    let mut notes = Notes::default();
    judge(&policy, template, &mut notes);
    Ok(notes)
}

/// The policy of a namespace, or `None` when it allows everything.
fn policy_of(namespace: &str, lookup: &dyn Lookup) -> Option<Policy> {
    let namespace = lookup.find("", "namespaces", "", namespace)?;
    let (policy, errors) = Policy::read(&namespace);
    (!errors.is_empty() || !policy.is_privileged()).then_some(policy)
}

fn pod(request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<Notes, Status> {
    let mut notes = Notes::default();
    if IGNORED_SUBRESOURCES.contains(&request.subresource) {
        return Ok(notes);
    }
    let Some(policy) = policy_of(request.namespace, lookup) else { return Ok(notes) };
    if request.operation == Operation::Update && !request.old.is_some_and(|old| is_significant(pod, old)) {
        return Ok(notes);
    }
    let findings = evaluate(policy.enforce, pod);
    if !findings.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&findings));
        return Err(request.forbidden(&why));
    }
    notes.audit.push(("pod-security.kubernetes.io/enforce-policy".to_owned(), policy.enforce.to_string()));
    judge(&policy, pod, &mut notes);
    Ok(notes)
}

/// What is no reason to refuse: audit and warnings.
fn judge(policy: &Policy, pod: &Value, notes: &mut Notes) {
    let would = |asked: LevelVersion| {
        let findings = evaluate(asked, pod);
        (!findings.is_empty()).then(|| format!("would violate PodSecurity \"{asked}\": {}", details(&findings)))
    };
    if let Some(text) = would(policy.audit) {
        notes.audit.push(("pod-security.kubernetes.io/audit-violations".to_owned(), text));
    }
    notes.warnings.extend(would(policy.warn));
}

fn details(findings: &[Finding]) -> String {
    let one = |finding: &Finding| {
        if finding.detail.is_empty() {
            finding.reason.clone()
        } else {
            format!("{} ({})", finding.reason, finding.detail)
        }
    };
    findings.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn is_significant(pod: &Value, old: &Value) -> bool {
    let images = |pod: &Value, kind: &str| {
        let all = list(pod, &["spec", kind]);
        all.map(|container| container.str_at(&["image"]).to_owned()).collect::<Vec<_>>()
    };
    if ["containers", "initContainers"].into_iter().any(|kind| images(pod, kind) != images(old, kind)) {
        return true;
    }
    list(pod, &["spec", "ephemeralContainers"]).any(|container| {
        let same_name = |own: &&Value| own.str_at(&["name"]) == container.str_at(&["name"]);
        let before = list(old, &["spec", "ephemeralContainers"]).find(same_name);
        before.is_none_or(|before| before.str_at(&["image"]) != container.str_at(&["image"]))
    })
}

fn namespace(request: &Request<'_>, namespace: &Value, lookup: &dyn Lookup) -> Result<Notes, Status> {
    let mut notes = Notes::default();
    let (policy, errors) = Policy::read(namespace);
    let invalid = || Err(Status::invalid(&Gvk::new("", "v1", "Namespace"), request.name, &errors));
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return if errors.is_empty() { Ok(notes) } else { invalid() };
    };
    let (before, old_errors) = Policy::read(old);
    if !errors.is_empty() && errors != old_errors {
        return invalid();
    }
    let (new, was) = (policy.enforce, before.enforce);
    let looser = new.version == was.version && new.level <= was.level;
    if new != was && new.level != Level::Privileged && !looser {
        notes.warnings = existing_pods(request.name, new, lookup);
    }
    Ok(notes)
}

/// What is said of pods that are already there when the level of their namespace rises.
fn existing_pods(namespace: &str, enforce: LevelVersion, lookup: &dyn Lookup) -> Vec<String> {
    let pods = lookup.all("", "pods", namespace);
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(PODS_MAX) {
        let reasons: Vec<String> = evaluate(enforce, pod).into_iter().map(|finding| finding.reason).collect();
        if !reasons.is_empty() {
            let (name, count) = found.entry(reasons.join(", ")).or_insert_with(|| (pod.name().to_owned(), 0));
            if pod.name() < name.as_str() {
                pod.name().clone_into(name);
            }
            *count += 1;
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}
