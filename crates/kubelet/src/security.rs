//! Security contexts of pods and containers, as the runtime takes them.

use std::path::Path;

use coracle_cri::{
    ContainerSecurityContext, Image, NamespaceMode, NamespaceOptions, SandboxSecurityContext, SecurityProfile,
    UserNamespace,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext};

use crate::{Error, Result};

/// Source: `DefaultProcMount` of upstream's securitycontext.
const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_MORE: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Namespaces that a pod shares.
pub(crate) fn namespaces(spec: &PodSpec, users: Option<UserNamespace>) -> NamespaceOptions {
    let of_host = |host: Option<bool>| if host == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    NamespaceOptions {
        network: of_host(spec.host_network),
        ipc: of_host(spec.host_ipc),
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => NamespaceMode::Node,
            (_, Some(true)) => NamespaceMode::Pod,
            _ => NamespaceMode::Container,
        },
        user: users,
        target_id: String::new(),
    }
}

pub(crate) fn sandbox_context(
    spec: &PodSpec,
    profiles: &Path,
    users: Option<UserNamespace>,
) -> Result<SandboxSecurityContext> {
    let own = spec.security_context.as_ref();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let privileged = spec
        .containers
        .iter()
        .chain(init)
        .any(|container| container.security_context.as_ref().and_then(|context| context.privileged) == Some(true));
    Ok(SandboxSecurityContext {
        namespaces: namespaces(spec, users),
        run_as_user: own.and_then(|own| own.run_as_user),
        run_as_group: own.and_then(|own| own.run_as_group),
        supplemental_groups: groups(own),
        privileged,
        seccomp: seccomp(own.and_then(|own| own.seccomp_profile.as_ref()), profiles)?,
    })
}

fn groups(own: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(own) = own else { return Vec::new() };
    own.fs_group.into_iter().chain(own.supplemental_groups.iter().flatten().copied()).collect()
}

fn seccomp(profile: Option<&SeccompProfile>, profiles: &Path) -> Result<SecurityProfile> {
    let Some(profile) = profile else { return Ok(SecurityProfile::Unconfined) };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(SecurityProfile::RuntimeDefault),
        "Localhost" => match profile.localhost_profile.as_deref() {
            Some(name) if !name.split('/').any(|part| part == "..") => {
                let path = profiles.join(name.trim_start_matches('/'));
                Ok(SecurityProfile::Localhost(path.to_string_lossy().into_owned()))
            }
            _ => Err(Error::message("localhostProfile must be set if seccompProfile type is Localhost.")),
        },
        _ => Ok(SecurityProfile::Unconfined),
    }
}

/// Context of one container: its own fields before the pod's, the image's user where neither sets one.
pub(crate) fn container_context(
    pod: &Pod,
    container: &Container,
    image: &Image,
    profiles: &Path,
) -> Result<ContainerSecurityContext> {
    let spec = pod.spec.as_ref().ok_or_else(|| Error::message("pod without spec"))?;
    let of_pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let run_as_user = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|pod| pod.run_as_user));
    verify_non_root(pod, container, run_as_user, image)?;
    let profile = own.and_then(|own| own.seccomp_profile.as_ref());
    let profile = profile.or(of_pod.and_then(|pod| pod.seccomp_profile.as_ref()));
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    let unmasked = own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked") || privileged;
    let (masked, readonly) = if unmasked { (Vec::new(), Vec::new()) } else { default_paths() };
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let image_user = if run_as_user.is_none() { image.uid } else { None };
    Ok(ContainerSecurityContext {
        add_capabilities: capabilities.and_then(|list| list.add.clone()).unwrap_or_default(),
        drop_capabilities: capabilities.and_then(|list| list.drop.clone()).unwrap_or_default(),
        privileged,
        run_as_user: run_as_user.or(image_user),
        run_as_group: own.and_then(|own| own.run_as_group).or(of_pod.and_then(|pod| pod.run_as_group)),
        run_as_username: match run_as_user {
            None if image.uid.is_none() => Some(image.username.clone()).filter(|name| !name.is_empty()),
            _ => None,
        },
        readonly_rootfs: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        supplemental_groups: groups(of_pod),
        supplemental_groups_strict: of_pod.and_then(|pod| pod.supplemental_groups_policy.as_deref()) == Some("Strict"),
        no_new_privs: no_new_privs(own),
        masked_paths: masked,
        readonly_paths: readonly,
        seccomp: if privileged { SecurityProfile::Unconfined } else { seccomp(profile, profiles)? },
        namespaces: namespaces(spec, None),
    })
}

fn default_paths() -> (Vec<String>, Vec<String>) {
    let masked = MASKED_PATHS.iter().chain(&MASKED_MORE).map(ToString::to_string).collect();
    (masked, READONLY_PATHS.iter().map(ToString::to_string).collect())
}

/// Source: `allowPrivilegeEscalation`.
fn no_new_privs(own: Option<&SecurityContext>) -> bool {
    own.and_then(|own| own.allow_privilege_escalation) == Some(false)
}

/// Source: kubelet `verifyRunAsNonRoot`.
fn verify_non_root(pod: &Pod, container: &Container, run_as_user: Option<i64>, image: &Image) -> Result<()> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let asked = own.and_then(|own| own.run_as_non_root).or(of_pod.and_then(|pod| pod.run_as_non_root));
    if asked != Some(true) {
        return Ok(());
    }
    let text = coracle_plan_pods::pod_text(pod);
    let place = format!("(pod: {:?}, container: {})", text, container.name);
    match (run_as_user, image.uid, image.username.as_str()) {
        (Some(0), _, _) => Err(Error::message(format!("container's runAsUser breaks non-root policy {place}"))),
        (Some(_), _, _) => Ok(()),
        (None, Some(0), _) | (None, None, "") => {
            Err(Error::message(format!("container has runAsNonRoot and image will run as root {place}")))
        }
        (None, None, name) => Err(Error::message(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        ))),
        (None, Some(_), _) => Ok(()),
    }
}
