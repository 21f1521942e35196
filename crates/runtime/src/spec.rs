//! What the runtime and its shims say to each other, and the files they share.
//!
//! A shim outlives the runtime that started it, so these shapes may only grow: new fields have defaults.

use std::path::PathBuf;

use coracle_host::caps::Caps;
use coracle_host::seccomp::Instruction;
use coracle_host::userns::IdMap;
use serde::{Deserialize, Serialize};

/// File of a sandbox's folder that its shim reads once.
pub(crate) const SHIM_FILE: &str = "shim.json";
/// File of a container's folder that says what to run.
pub(crate) const SPEC_FILE: &str = "spec.json";
/// File of a container's folder where the shim keeps what became of it.
pub(crate) const STATE_FILE: &str = "state.json";

/// What a shim holds for its pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ShimSpec {
    pub sandbox_id: String,
    /// `None`: the host's network.
    pub netns: Option<PathBuf>,
    pub own_ipc: bool,
    /// Empty: the host's name.
    pub hostname: String,
    /// Whether the containers share one pid namespace.
    pub shared_pid: bool,
    pub sysctls: Vec<(String, String)>,
    /// `Some`: the pod has users of its own, and the shim makes its network namespace at `netns`.
    #[serde(default)]
    pub users: Option<IdMap>,
    pub socket: PathBuf,
    /// Files that take the shim into its own cgroup.
    pub cgroup_procs: Vec<PathBuf>,
    /// Folder with one folder for each container.
    pub containers: PathBuf,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PidMode {
    #[default]
    Own,
    Pod,
    Host,
    /// That of another container of the pod.
    Container(String),
}

/// One container to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    pub id: String,
    /// Unpacked layers, the lowest first.
    pub layers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Where the root is mounted, in the container's own mount namespace.
    pub rootfs: PathBuf,
    pub readonly_rootfs: bool,
    /// `Some`: the users of the container are other users outside.
    #[serde(default)]
    pub users: Option<IdMap>,
    /// Where layers with shifted owners are mounted, one folder for each.
    #[serde(default)]
    pub lower: PathBuf,
    pub mounts: Vec<MountSpec>,
    pub devices: Vec<DeviceSpec>,
    pub privileged: bool,
    pub pid: PidMode,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    /// What is bound to `/dev/shm`; `None`: a tmpfs of its own.
    pub shm: Option<PathBuf>,
    pub process: ProcessSpec,
    pub cgroup: String,
    pub cgroup_procs: Vec<PathBuf>,
    /// Hierarchies shown in `/sys/fs/cgroup`: controllers and folder. Empty: v2.
    pub hierarchies: Vec<(String, String)>,
    /// `None`: output is dropped.
    pub log_path: Option<PathBuf>,
    pub stdin: bool,
    pub stdin_once: bool,
}

/// A process, the first or a later one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessSpec {
    pub arguments: Vec<String>,
    pub environment: Vec<String>,
    pub working_dir: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub caps: Caps,
    pub no_new_privs: bool,
    pub seccomp: Option<Vec<Instruction>>,
    pub tty: bool,
    pub oom_score_adj: i32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum MountSource {
    Path(PathBuf),
    /// Layers of an image, and a folder in it.
    Image {
        layers: Vec<PathBuf>,
        sub_path: String,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MountSpec {
    pub source: MountSource,
    pub target: PathBuf,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub propagation: Propagation,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviceSpec {
    pub path: PathBuf,
    pub character: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What became of a container. Times are nanoseconds since the epoch, 0 when not yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub pid: i32,
    /// With `pid` and `boot_id` it names the process for good.
    pub process_start: u64,
    pub boot_id: String,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub signal: i32,
    pub oom_killed: bool,
    /// Why it could not be started.
    pub error: Option<String>,
}

/// One call of the runtime. Descriptors travel beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub id: u64,
    pub call: Call,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Answers [`Answer::States`].
    List,
    Start {
        container: String,
    },
    /// `all`: every process of the container, else the first.
    Kill {
        container: String,
        signal: i32,
        all: bool,
    },
    /// Without a terminal, descriptors for the streams wanted come along in the order stdin, stdout, stderr; with one,
    /// its controlling end comes back with the answer.
    Exec {
        container: String,
        exec: u64,
        arguments: Vec<String>,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    KillExec {
        exec: u64,
        signal: i32,
    },
    /// Descriptors of the streams wanted come back in the order stdin, stdout, stderr.
    Attach {
        container: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Resize {
        container: String,
        width: u16,
        height: u16,
    },
    ReopenLog {
        container: String,
    },
    /// A TCP connection to this machine's own address inside the pod comes back.
    Connect {
        port: u16,
    },
    /// The container is being removed.
    Forget {
        container: String,
    },
    /// Kills everything, answers, ends.
    Shutdown,
}

/// What a shim says: the answer to a request, or news.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Said {
    Answer { id: u64, answer: Answer },
    Exited { container: String, state: RunState },
    ExecExited { exec: u64, code: i32 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Started(RunState),
    States(Vec<(String, RunState)>),
    Failed(String),
    /// There is no such container or it does not run.
    NotRunning(String),
}

/// What the process being started says before it becomes the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Prelude {
    /// The controlling end of the terminal comes along.
    Terminal,
    Failed(String),
}
