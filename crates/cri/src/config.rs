//! What is asked of the runtime.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Identity of a sandbox. Source: CRI `PodSandboxMetadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSandboxMetadata {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    /// Counts the sandboxes made for the same pod, from 0.
    pub attempt: u32,
}

/// Source: CRI `PodSandboxConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodSandboxConfig {
    pub metadata: PodSandboxMetadata,
    /// Empty for pods of the host's network.
    pub hostname: String,
    /// Folder of the logs of the pod's containers, absolute.
    pub log_directory: String,
    /// `None`: the host's own `/etc/resolv.conf`.
    pub dns_config: Option<DnsConfig>,
    pub port_mappings: Vec<PortMapping>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub linux: LinuxPodSandboxConfig,
}

/// Source: CRI `LinuxPodSandboxConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinuxPodSandboxConfig {
    /// Cgroup of the pod, from the root of the hierarchy: `/coracle/burstable/pod<uid>`.
    pub cgroup_parent: String,
    pub security_context: SandboxSecurityContext,
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the pod as a whole, set on `cgroup_parent`.
    pub resources: Option<LinuxContainerResources>,
}

/// Source: CRI `LinuxSandboxSecurityContext`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxSecurityContext {
    pub namespaces: NamespaceOptions,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub privileged: bool,
    pub seccomp: SecurityProfile,
}

/// Source: CRI `NamespaceMode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Shared by the pod's containers.
    #[default]
    Pod,
    /// One of each container's own.
    Container,
    /// The host's.
    Node,
    /// That of the container `NamespaceOptions::target_id`; for the pid namespace of ephemeral containers.
    Target,
}

/// Source: CRI `NamespaceOption`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    pub network: NamespaceMode,
    /// `Container` by default; `Pod` with `shareProcessNamespace`.
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    /// `Some`: the pod runs in a user namespace with these mappings (`hostUsers: false`, KEP-127).
    pub user: Option<UserNamespace>,
    /// A container of the same pod; empty unless a mode is `Target`.
    #[serde(default)]
    pub target_id: String,
}

impl Default for NamespaceOptions {
    fn default() -> Self {
        Self {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
            user: None,
            target_id: String::new(),
        }
    }
}

/// Source: CRI `UserNamespace`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
}

/// Source: CRI `IDMapping`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    pub host_id: u32,
    pub container_id: u32,
    pub length: u32,
}

/// Source: CRI `SecurityProfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// Absolute path of a profile on the node.
    Localhost(String),
}

/// Source: CRI `DNSConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// Source: CRI `PortMapping`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_port: u16,
    /// Empty: all addresses of the node.
    pub host_ip: String,
}

/// Source: CRI `ContainerMetadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMetadata {
    pub name: String,
    /// Counts the restarts within one pod, from 0.
    pub attempt: u32,
}

/// Source: CRI `ContainerConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub metadata: ContainerMetadata,
    /// What `pull_image` or `image_status` returned as id.
    pub image: String,
    /// As the user wrote it, for status.
    pub user_specified_image: String,
    /// Overrides the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Overrides the image's cmd when not empty.
    pub args: Vec<String>,
    /// Empty: the image's. Made when missing.
    pub working_dir: String,
    /// On top of the image's.
    pub envs: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's `log_directory`.
    pub log_path: String,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub linux: LinuxContainerConfig,
    /// Signal name (`SIGQUIT`) that replaces the image's stop signal.
    pub stop_signal: Option<String>,
}

/// Source: CRI `MountPropagation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// Source: CRI `Mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: String,
    pub host_path: String,
    pub readonly: bool,
    /// Read-only down the tree (KEP-3857).
    pub recursive_read_only: bool,
    pub propagation: MountPropagation,
    /// Id of an image whose root file system is mounted instead of `host_path` (KEP-4639).
    pub image: Option<String>,
    /// Folder inside the image.
    pub image_sub_path: String,
}

/// Source: CRI `Device`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    /// Of `rwm`.
    pub permissions: String,
}

/// Source: CRI `LinuxContainerConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinuxContainerConfig {
    pub resources: LinuxContainerResources,
    pub security_context: ContainerSecurityContext,
}

/// Source: CRI `LinuxContainerSecurityContext`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSecurityContext {
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub privileged: bool,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    /// Resolved in the image's `/etc/passwd`.
    pub run_as_username: Option<String>,
    pub readonly_rootfs: bool,
    pub supplemental_groups: Vec<i64>,
    /// `Strict`: groups of the image's `/etc/group` are not added (KEP-3619).
    pub supplemental_groups_strict: bool,
    pub no_new_privs: bool,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub seccomp: SecurityProfile,
    pub namespaces: NamespaceOptions,
}

/// Zero or `None` where nothing is asked. Source: CRI `LinuxContainerResources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinuxContainerResources {
    /// Microseconds.
    pub cpu_period: u64,
    /// Microseconds in each period; 0: no limit.
    pub cpu_quota: i64,
    /// 2 to 262144 (cgroup v1 scale).
    pub cpu_shares: u64,
    /// Bytes; 0: no limit.
    pub memory_limit: i64,
    pub oom_score_adj: i32,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub pids_limit: i64,
    /// Page size (`2MB`) and limit in bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// Further cgroup v2 files.
    pub unified: BTreeMap<String, String>,
}

/// Credentials for one registry. Source: CRI `AuthConfig`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    pub username: String,
    pub password: String,
    /// Exchanged for a bearer token at the registry's token service.
    pub identity_token: String,
    /// Bearer token sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachRequest {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// One sandbox, as the network sees it. Source: CNI runtime configuration with `portMappings`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetworkRequest {
    pub sandbox_id: String,
    pub pod_name: String,
    pub pod_namespace: String,
    pub pod_uid: String,
    /// Path that holds the namespace open: `/run/netns/<name>`.
    pub netns_path: String,
    pub port_mappings: Vec<PortMapping>,
    /// Addresses the sandbox has, empty before the first setup.
    pub ips: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetworkStatus {
    /// First the primary one, without prefix length.
    pub ips: Vec<String>,
}
