//! The baseline level: what gives a pod more than other pods have.

use std::collections::BTreeSet;

use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;

use super::super::list;
use super::checks::{Finding, containers, has_user_namespace, is_true, named, names_where, plural, quoted, setters};

type Set = BTreeSet<String>;

const CONTAINER_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Names, and the minor version since which they are safe.
const SYSCTLS: [(u32, &str); 12] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

pub(super) fn app_armor_profile(pod: &Value, _: u32) -> Option<Finding> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = Set::new();
    let mut bad = |owner: &Value, path: &[&str]| {
        let Some(profile) = owner.at(path).filter(|profile| profile.is_object()) else { return false };
        let kind = profile.str_at(&["type"]);
        let refused = !matches!(kind, "RuntimeDefault" | "Localhost");
        if refused {
            values.insert(kind.to_owned());
        }
        refused
    };
    let by_pod = bad(pod, &["spec", "securityContext", "appArmorProfile"]);
    let names = names_where(pod, |container| bad(container, &["securityContext", "appArmorProfile"]));
    let mut annotations: Vec<String> = Vec::new();
    for (key, value) in pod.annotations().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let good = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        if key.starts_with(ANNOTATION) && !good {
            annotations.push(format!("{key}={value:?}"));
        }
    }
    annotations.sort();
    let mut who = Vec::new();
    if by_pod || !names.is_empty() {
        who.push(setters(by_pod, &names));
    }
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    Some(Finding::new(
        reason,
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values)),
    ))
}

pub(super) fn capabilities(pod: &Value, _: u32) -> Option<Finding> {
    let mut added = Set::new();
    let names = names_where(pod, |container| {
        let all = list(container, &["securityContext", "capabilities", "add"]).filter_map(Value::as_str);
        let extra: Vec<String> = all.filter(|name| !CONTAINER_CAPABILITIES.contains(name)).map(str::to_owned).collect();
        let bad = !extra.is_empty();
        added.extend(extra);
        bad
    });
    (!names.is_empty()).then(|| {
        let detail =
            format!("{} must not include {} in securityContext.capabilities.add", named(&names), quoted(&added));
        Finding::new("non-default capabilities", detail)
    })
}

pub(super) fn host_namespaces(pod: &Value, _: u32) -> Option<Finding> {
    let used = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| is_true(pod, &["spec", field]));
    let used: Vec<String> = used.map(|field| format!("{field}=true")).collect();
    (!used.is_empty()).then(|| Finding::new("host namespaces", used.join(", ")))
}

pub(super) fn host_path_volumes(pod: &Value, _: u32) -> Option<Finding> {
    let volumes = list(pod, &["spec", "volumes"]).filter(|volume| volume.get("hostPath").is_some_and(Value::is_object));
    let names: Vec<&str> = volumes.map(|volume| volume.str_at(&["name"])).collect();
    (!names.is_empty()).then(|| {
        let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names));
        Finding::new("hostPath volumes", detail)
    })
}

pub(super) fn host_ports(pod: &Value, _: u32) -> Option<Finding> {
    let mut ports = Set::new();
    let names = names_where(pod, |container| {
        let all = list(container, &["ports"]).filter_map(|port| port.get("hostPort").and_then(Value::as_i64));
        let used: Vec<String> = all.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let bad = !used.is_empty();
        ports.extend(used);
        bad
    });
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            named(&names),
            plural("uses", "use", names.len()),
            plural("hostPort", "hostPorts", ports.len()),
            ports.into_iter().collect::<Vec<_>>().join(", ")
        );
        Finding::new("hostPort", detail)
    })
}

pub(super) fn host_probes_and_lifecycle(pod: &Value, _: u32) -> Option<Finding> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let (mut names, mut hosts) = (Set::new(), Set::new());
    for container in containers(pod) {
        let handlers = HANDLERS.into_iter().filter_map(|path| container.at(path));
        let found = handlers
            .flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| handler.str_at(&[action, "host"]).to_owned()));
        for host in found.filter(|host| !host.is_empty()) {
            names.insert(container.str_at(&["name"]).to_owned());
            hosts.insert(host);
        }
    }
    (!names.is_empty()).then(|| {
        let names: Vec<String> = names.into_iter().collect();
        let detail = format!(
            "{} {} {} {}",
            named(&names),
            plural("uses", "use", names.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
            quoted(&hosts)
        );
        Finding::new("probe or lifecycle host", detail)
    })
}

pub(super) fn privileged(pod: &Value, _: u32) -> Option<Finding> {
    let names = names_where(pod, |container| is_true(container, &["securityContext", "privileged"]));
    (!names.is_empty())
        .then(|| Finding::new("privileged", format!("{} must not set securityContext.privileged=true", named(&names))))
}

pub(super) fn proc_mount(pod: &Value, minor: u32) -> Option<Finding> {
    if minor >= 35 && has_user_namespace(pod) { None } else { masked_proc_mount(pod) }
}

pub(super) fn masked_proc_mount(pod: &Value) -> Option<Finding> {
    let mut kinds = Set::new();
    let names = names_where(pod, |container| {
        let kind = container.str_at(&["securityContext", "procMount"]);
        let bad = !matches!(kind, "" | "Default");
        if bad {
            kinds.insert(kind.to_owned());
        }
        bad
    });
    (!names.is_empty()).then(|| {
        let detail = format!("{} must not set securityContext.procMount to {}", named(&names), quoted(&kinds));
        Finding::new("procMount", detail)
    })
}

pub(super) fn se_linux_options(pod: &Value, minor: u32) -> Option<Finding> {
    let allowed = |kind: &str| match kind {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => minor >= 31,
        _ => false,
    };
    let (mut types, mut user, mut role) = (Set::new(), false, false);
    let mut bad = |options: Option<&Value>| {
        let Some(options) = options else { return false };
        let kind = options.str_at(&["type"]);
        if !allowed(kind) {
            types.insert(kind.to_owned());
        }
        let sets = |field: &str| !options.str_at(&[field]).is_empty();
        user |= sets("user");
        role |= sets("role");
        !allowed(kind) || sets("user") || sets("role")
    };
    let by_pod = bad(pod.at(&["spec", "securityContext", "seLinuxOptions"]));
    let names = names_where(pod, |container| bad(container.at(&["securityContext", "seLinuxOptions"])));
    if !by_pod && names.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", setters(by_pod, &names), what.join("; "));
    Some(Finding::new("seLinuxOptions", detail))
}

/// The types other than those that confine, and who sets them.
pub(super) fn bad_seccomp(pod: &Value) -> Option<Finding> {
    let mut kinds = Set::new();
    let mut bad = |profile: Option<&Value>| {
        let Some(profile) = profile.filter(|profile| profile.is_object()) else { return false };
        let kind = profile.str_at(&["type"]);
        let refused = !matches!(kind, "RuntimeDefault" | "Localhost");
        if refused {
            kinds.insert(kind.to_owned());
        }
        refused
    };
    let by_pod = bad(pod.at(&["spec", "securityContext", "seccompProfile"]));
    let names = names_where(pod, |container| bad(container.at(&["securityContext", "seccompProfile"])));
    (by_pod || !names.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters(by_pod, &names),
            quoted(&kinds)
        );
        Finding::new("seccompProfile", detail)
    })
}

pub(super) fn seccomp_profile(pod: &Value, minor: u32) -> Option<Finding> {
    if minor >= 19 { bad_seccomp(pod) } else { seccomp_annotations(pod) }
}

fn seccomp_annotations(pod: &Value) -> Option<Finding> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let keys = containers(pod).map(|container| format!("{CONTAINER}{}", container.str_at(&["name"])));
    let mut bad = Set::new();
    for key in std::iter::once(POD.to_owned()).chain(keys) {
        let value = pod.annotations().and_then(|all| all.get(&key)).and_then(Value::as_str);
        let good =
            |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        if let Some(value) = value.filter(|value| !good(value)) {
            bad.insert(format!("{key}={value:?}"));
        }
    }
    (!bad.is_empty()).then(|| {
        let word = plural("annotation", "annotations", bad.len());
        let detail = format!("forbidden {word} {}", bad.into_iter().collect::<Vec<_>>().join(", "));
        Finding::new("seccompProfile", detail)
    })
}

pub(super) fn sysctls(pod: &Value, minor: u32) -> Option<Finding> {
    let all = list(pod, &["spec", "securityContext", "sysctls"]).map(|sysctl| sysctl.str_at(&["name"]));
    let allowed = |name: &str| SYSCTLS.iter().any(|(since, own)| *own == name && *since <= minor);
    let bad: Vec<&str> = all.filter(|name| !allowed(name)).collect();
    (!bad.is_empty()).then(|| Finding::new("forbidden sysctls", bad.join(", ")))
}

pub(super) fn windows_host_process(pod: &Value, _: u32) -> Option<Finding> {
    let by_pod = is_true(pod, &["spec", "securityContext", "windowsOptions", "hostProcess"]);
    let names = names_where(pod, |container| is_true(container, &["securityContext", "windowsOptions", "hostProcess"]));
    (by_pod || !names.is_empty()).then(|| {
        let who = setters(by_pod, &names);
        Finding::new("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
    })
}
