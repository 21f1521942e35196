//! The sandbox of a pod, as the runtime is asked for it.

use std::collections::BTreeMap;

use coracle_api_types::Object;
use coracle_cri::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, UserNamespace};
use coracle_plan_pods::{qos, resources};
use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec};

use crate::context::Context;
use crate::{Error, Result, dns, hosts, security};

pub(crate) const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const LABEL_CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Labels by which a restarted kubelet knows its own.
pub(crate) fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let own = [(LABEL_POD_NAME, pod.name()), (LABEL_POD_NAMESPACE, pod.namespace()), (LABEL_POD_UID, pod.uid())];
    own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Folder of seccomp profiles of type `Localhost`.
pub(crate) fn seccomp_dir(ctx: &Context) -> std::path::PathBuf {
    ctx.config.root_dir.join("seccomp")
}

pub(crate) fn config_for(ctx: &Context, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig> {
    let spec = pod.spec.as_ref().ok_or_else(|| Error::message("pod without spec"))?;
    let (name, domain) = hosts::name_and_domain(pod, &ctx.config.cluster_domain);
    let host_network = spec.host_network == Some(true);
    let hostname = if host_network {
        String::new()
    } else {
        hosts::kernel_hostname(pod, &name, &domain).map_err(Error::message)?
    };
    let resolv_conf = std::fs::read_to_string(&ctx.config.resolv_conf).unwrap_or_default();
    let dns_config = dns::config_for(pod, &ctx.config.cluster_dns, &ctx.config.cluster_domain, &resolv_conf);
    let mut labels = labels(pod);
    labels.extend(pod.metadata.labels.clone().unwrap_or_default());
    Ok(PodSandboxConfig {
        metadata: PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        },
        hostname,
        log_directory: ctx.pod_log_dir(pod).to_string_lossy().into_owned(),
        dns_config: Some(dns_config),
        port_mappings: if host_network { Vec::new() } else { port_mappings(spec) },
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(ctx, pod),
            security_context: security::sandbox_context(spec, &seccomp_dir(ctx), users_of(ctx, pod)?)?,
            sysctls: sysctls(spec),
            resources: Some(resources::pod_resources(pod)),
        },
    })
}

/// The pod's own users, when it asks for them. Source: `PodSpec.hostUsers`.
fn users_of(ctx: &Context, pod: &Pod) -> Result<Option<UserNamespace>> {
    if pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false) {
        return Ok(None);
    }
    let users = ctx.users.of(pod.uid());
    users.map(Some).ok_or_else(|| Error::message("can't allocate new user namespace: no free range of user ids"))
}

pub(crate) fn cgroup_parent(ctx: &Context, pod: &Pod) -> String {
    let root = ctx.config.cgroup_root.trim_matches('/');
    match qos::qos_class(pod).cgroup() {
        Some(class) => format!("/{root}/{class}/pod{}", pod.uid()),
        None => format!("/{root}/pod{}", pod.uid()),
    }
}

/// The kernel knows sysctls by names with dots.
fn sysctls(spec: &PodSpec) -> BTreeMap<String, String> {
    let listed = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    listed.map(|sysctl| (coracle_plan_pods::admission::sysctl_name(&sysctl.name), sysctl.value.clone())).collect()
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    let sidecars = spec.init_containers.iter().flatten();
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(port_mapping).collect()
}

fn port_mapping(port: &ContainerPort) -> Option<PortMapping> {
    let host_port = u16::try_from(port.host_port?).ok().filter(|port| *port != 0)?;
    Some(PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
        container_port: u16::try_from(port.container_port).ok()?,
        host_port,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}
