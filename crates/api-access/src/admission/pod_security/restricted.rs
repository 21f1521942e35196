//! The restricted level: what hardened pods have to say.

use std::collections::BTreeSet;

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::super::list;
use super::baseline::{bad_seccomp, masked_proc_mount};
use super::checks::{Finding, has_user_namespace, is_windows, named, names_where, plural, quoted, setters};

type Set = BTreeSet<String>;

/// Versions since which pods of Windows need not set what only Linux has.
const WINDOWS_EXEMPT_SINCE: u32 = 25;
const USER_NAMESPACES_SINCE: u32 = 35;
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn exempt(pod: &Value, minor: u32) -> bool {
    minor >= WINDOWS_EXEMPT_SINCE && is_windows(pod)
}

pub(super) fn allow_privilege_escalation(pod: &Value, minor: u32) -> Option<Finding> {
    const PATH: [&str; 2] = ["securityContext", "allowPrivilegeEscalation"];
    if exempt(pod, minor) {
        return None;
    }
    let names = names_where(pod, |container| container.at(&PATH) != Some(&Value::Bool(false)));
    (!names.is_empty()).then(|| {
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&names));
        Finding::new("allowPrivilegeEscalation != false", detail)
    })
}

pub(super) fn capabilities(pod: &Value, minor: u32) -> Option<Finding> {
    if exempt(pod, minor) {
        return None;
    }
    let drops_all =
        |container: &Value| list(container, &["securityContext", "capabilities", "drop"]).any(|name| name == "ALL");
    let keeping = names_where(pod, |container| !drops_all(container));
    let mut added = Set::new();
    let adding = names_where(pod, |container| {
        let all = list(container, &["securityContext", "capabilities", "add"]).filter_map(Value::as_str);
        let extra: Vec<String> = all.filter(|name| *name != "NET_BIND_SERVICE").map(str::to_owned).collect();
        let bad = !extra.is_empty();
        added.extend(extra);
        bad
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&adding),
            quoted(&added)
        ));
    }
    (!details.is_empty()).then(|| Finding::new("unrestricted capabilities", details.join("; ")))
}

pub(super) fn proc_mount(pod: &Value, _: u32) -> Option<Finding> {
    masked_proc_mount(pod)
}

pub(super) fn volumes(pod: &Value, _: u32) -> Option<Finding> {
    let has = |volume: &Value, kind: &str| volume.get(kind).is_some_and(Value::is_object);
    let (mut names, mut kinds) = (Vec::new(), Set::new());
    for volume in list(pod, &["spec", "volumes"]) {
        if VOLUMES.iter().any(|kind| has(volume, kind)) {
            continue;
        }
        names.push(volume.str_at(&["name"]));
        let fields = volume.as_object().into_iter().flat_map(|fields| fields.keys());
        let kind = fields.into_iter().find(|field| has(volume, field)).map_or("unknown", String::as_str);
        kinds.insert(kind.to_owned());
    }
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            quoted(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            quoted(&kinds)
        );
        Finding::new("restricted volume types", detail)
    })
}

pub(super) fn run_as_non_root(pod: &Value, minor: u32) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    if minor >= USER_NAMESPACES_SINCE && has_user_namespace(pod) {
        return None;
    }
    let of_pod = pod.at(&["spec", "securityContext", "runAsNonRoot"]).and_then(Value::as_bool);
    let own = |container: &Value| container.at(&["securityContext", "runAsNonRoot"]).and_then(Value::as_bool);
    let denying = names_where(pod, |container| own(container) == Some(false));
    if of_pod == Some(false) || !denying.is_empty() {
        let who = setters(of_pod == Some(false), &denying);
        return Some(Finding::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    let silent = names_where(pod, |container| own(container).is_none() && of_pod != Some(true));
    (!silent.is_empty())
        .then(|| Finding::new(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent))))
}

pub(super) fn run_as_user(pod: &Value, minor: u32) -> Option<Finding> {
    if minor >= USER_NAMESPACES_SINCE && has_user_namespace(pod) {
        return None;
    }
    let root = |owner: &Value, path: &[&str]| owner.at(path).and_then(Value::as_i64) == Some(0);
    let by_pod = root(pod, &["spec", "securityContext", "runAsUser"]);
    let names = names_where(pod, |container| root(container, &["securityContext", "runAsUser"]));
    (by_pod || !names.is_empty())
        .then(|| Finding::new("runAsUser=0", format!("{} must not set runAsUser=0", setters(by_pod, &names))))
}

pub(super) fn seccomp_profile(pod: &Value, minor: u32) -> Option<Finding> {
    if exempt(pod, minor) {
        return None;
    }
    if let Some(finding) = bad_seccomp(pod) {
        return Some(finding);
    }
    let sets = |owner: &Value, path: &[&str]| owner.at(path).is_some_and(Value::is_object);
    if sets(pod, &["spec", "securityContext", "seccompProfile"]) {
        return None;
    }
    let silent = names_where(pod, |container| !sets(container, &["securityContext", "seccompProfile"]));
    (!silent.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named(&silent)
        );
        Finding::new("seccompProfile", detail)
    })
}
