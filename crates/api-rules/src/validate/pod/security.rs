//! Security contexts.

use std::collections::BTreeSet;

use super::{all_containers, volumes};
use crate::at::{At, Errors};
use crate::formats::{regex, user_id};

fn ids(context: &At<'_>, fields: &[&'static str], errors: &mut Errors) {
    for id in fields.iter().map(|field| context.get(field)).filter(At::exists) {
        id.invalid_all(errors, user_id(id.int()));
    }
}

/// The context of the pod as a whole.
pub(crate) fn pod(context: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    if !context.exists() {
        return;
    }
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    for group in context.get("supplementalGroups").items() {
        group.invalid_all(errors, user_id(group.int()));
    }
    let shared = spec.flag("shareProcessNamespace");
    if shared && spec.flag("hostPID") {
        let text = "ShareProcessNamespace and HostPID cannot both be enabled";
        context.get("shareProcessNamespace").invalid_as(errors, true, text);
    }
    sysctls(&context.get("sysctls"), spec, errors);
    context.get("fsGroupChangePolicy").one_of_if_set(errors, &["Always", "OnRootMismatch"]);
    seccomp(&context.get("seccompProfile"), errors);
    app_armor(&context.get("appArmorProfile"), errors);
    context.get("supplementalGroupsPolicy").one_of_if_set(errors, &["Merge", "Strict"]);
    context.get("seLinuxChangePolicy").one_of_if_set(errors, &["MountOption", "Recursive"]);
}

const SYSCTL_BYTES_MAX: usize = 253;
const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(sysctls: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for sysctl in sysctls.items() {
        let name = sysctl.get("name");
        if name.is_empty() {
            name.required(errors, "");
        } else if name.len() > SYSCTL_BYTES_MAX || !regex!(SYSCTL).is_match(name.str()) {
            name.invalid(errors, format!("must have at most {SYSCTL_BYTES_MAX} characters and match regex {SYSCTL}"));
        } else if seen.contains(name.str()) {
            name.duplicate(errors);
        }
        let dotted = name.str().replace('/', ".");
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            name.invalid(errors, "may not be specified when 'hostNetwork' is true");
        } else if spec.flag("hostIPC") && is_ipc(&dotted) {
            name.invalid(errors, "may not be specified when 'hostIPC' is true");
        }
        seen.insert(name.str());
    }
}

fn is_ipc(name: &str) -> bool {
    name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix))
}

fn seccomp(profile: &At<'_>, errors: &mut Errors) {
    if !profile.exists() {
        return;
    }
    let kind = profile.get("type");
    if kind.is_empty() {
        kind.required(errors, "type is required when seccompProfile is set");
    } else {
        kind.one_of(errors, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    let local = profile.get("localhostProfile");
    match (kind.str() == "Localhost", local.exists()) {
        (true, false) => local.required(errors, "must be set when seccomp type is Localhost"),
        (true, true) => volumes::descending(&local, errors),
        (false, true) => {
            local.invalid_as(errors, profile.value().clone(), "can only be set when seccomp type is Localhost");
        }
        (false, false) => {}
    }
}

const APP_ARMOR_BYTES_MAX: usize = 4095;

fn app_armor(profile: &At<'_>, errors: &mut Errors) {
    if !profile.exists() {
        return;
    }
    let local = profile.get("localhostProfile");
    match profile.text("type") {
        "Localhost" => {
            if local.str() != local.str().trim() {
                local.invalid(errors, "must not be padded with whitespace");
            } else if local.is_empty() {
                local.required(errors, "must be set when AppArmor type is Localhost");
            }
            if local.len() > APP_ARMOR_BYTES_MAX {
                local.too_long(errors, APP_ARMOR_BYTES_MAX);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.exists() {
                local.invalid(errors, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => profile.get("type").required(errors, "type is required when appArmorProfile is set"),
        _ => profile.get("type").unsupported(errors, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

/// The context of one container.
pub(crate) fn container(context: &At<'_>, host_users: bool, errors: &mut Errors) {
    if !context.exists() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup"], errors);
    let mount = context.get("procMount");
    if mount.exists() {
        mount.one_of(errors, &["Default", "Unmasked"]);
        if host_users && mount.str() == "Unmasked" {
            mount.invalid(errors, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(&context.get("seccompProfile"), errors);
    if context.get("allowPrivilegeEscalation").value().as_bool() == Some(false) {
        if context.flag("privileged") {
            context.invalid(errors, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if context.dig("capabilities.add").strings().contains(&"CAP_SYS_ADMIN") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            context.invalid(errors, text);
        }
    }
    app_armor(&context.get("appArmorProfile"), errors);
}

const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";

/// What Windows does not know.
pub(crate) fn windows(spec: &At<'_>, errors: &mut Errors) {
    let pod = spec.get("securityContext");
    let mut refuse = |at: At<'_>| {
        if !at.is_empty() && at.value().as_bool() != Some(false) {
            at.forbidden(errors, NOT_ON_WINDOWS);
        }
    };
    let of_pod = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    of_pod.iter().for_each(|field| refuse(pod.get(field)));
    ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"].iter().for_each(|field| refuse(spec.get(field)));
    let of_container = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for context in all_containers(spec).iter().map(|container| container.get("securityContext")) {
        of_container.iter().for_each(|field| refuse(context.get(field)));
    }
}
