//! The table of checks, and what they share. Source: `k8s.io/pod-security-admission/policy`.

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::super::list;
use super::{Level, LevelVersion, baseline, restricted};

/// Why a pod breaks a level: `host namespaces`, `hostPID=true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub reason: String,
    pub detail: String,
}

impl Finding {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

/// One rule. `minor` is the version that is asked for.
pub(super) struct Check {
    level: Level,
    /// First minor version that has the rule.
    since: u32,
    /// From this minor version on a rule of the restricted level stands in for it there.
    replaced: Option<u32>,
    run: fn(pod: &Value, minor: u32) -> Option<Finding>,
}

const fn base(since: u32, run: fn(&Value, u32) -> Option<Finding>) -> Check {
    Check { level: Level::Baseline, since, replaced: None, run }
}

const fn replaced(by: u32, run: fn(&Value, u32) -> Option<Finding>) -> Check {
    Check { level: Level::Baseline, since: 0, replaced: Some(by), run }
}

const fn strict(since: u32, run: fn(&Value, u32) -> Option<Finding>) -> Check {
    Check { level: Level::Restricted, since, replaced: None, run }
}

/// In the order of their names, the baseline first.
const CHECKS: [Check; 19] = [
    base(0, baseline::app_armor_profile),
    replaced(22, baseline::capabilities),
    base(0, baseline::host_namespaces),
    replaced(0, baseline::host_path_volumes),
    base(0, baseline::host_ports),
    base(34, baseline::host_probes_and_lifecycle),
    base(0, baseline::privileged),
    replaced(35, baseline::proc_mount),
    base(0, baseline::se_linux_options),
    replaced(19, baseline::seccomp_profile),
    base(0, baseline::sysctls),
    base(0, baseline::windows_host_process),
    strict(8, restricted::allow_privilege_escalation),
    strict(22, restricted::capabilities),
    strict(35, restricted::proc_mount),
    strict(0, restricted::volumes),
    strict(0, restricted::run_as_non_root),
    strict(23, restricted::run_as_user),
    strict(19, restricted::seccomp_profile),
];

/// What breaks a level; empty when the pod may be. `pod` may be a pod template.
#[must_use]
pub fn evaluate(asked: LevelVersion, pod: &Value) -> Vec<Finding> {
    if asked.level == Level::Privileged {
        return Vec::new();
    }
    let minor = asked.version.minor();
    let applies = |check: &&Check| {
        let restricted = asked.level == Level::Restricted;
        check.level <= asked.level
            && check.since <= minor
            && !(restricted && check.replaced.is_some_and(|by| by <= minor))
    };
    CHECKS.iter().filter(applies).filter_map(|check| (check.run)(pod, minor)).collect()
}

/// All containers, in the order in which upstream looks at them.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    kinds.into_iter().flat_map(|kind| list(pod, &["spec", kind]))
}

/// The names of the containers that `bad` holds of.
pub(super) fn names_where(pod: &Value, mut bad: impl FnMut(&Value) -> bool) -> Vec<String> {
    let found = containers(pod).filter(|container| bad(container));
    found.map(|container| container.str_at(&["name"]).to_owned()).collect()
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
pub(super) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn named(names: &[String]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and container "a"`: who sets something.
pub(super) fn setters(pod: bool, names: &[String]) -> String {
    match (pod, names.is_empty()) {
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod and {}", named(names)),
        (false, _) => named(names),
    }
}

pub(super) fn is_windows(pod: &Value) -> bool {
    pod.str_at(&["spec", "os", "name"]) == "windows"
}

/// Pods in a user namespace are root of nothing.
pub(super) fn has_user_namespace(pod: &Value) -> bool {
    pod.at(&["spec", "hostUsers"]) == Some(&Value::Bool(false))
}

pub(super) fn is_true(value: &Value, path: &[&str]) -> bool {
    value.at(path) == Some(&Value::Bool(true))
}
