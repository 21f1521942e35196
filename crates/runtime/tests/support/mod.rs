//! A runtime of its own for each test, with folders, cgroups and names that nobody else has.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use coracle_cri::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, PodNetwork, PodNetworkRequest,
    PodNetworkStatus, PodSandboxConfig, PodSandboxMetadata, Result, RuntimeService,
};
use coracle_image::{ImageStore, NewContent, NewFile, ProcessConfig};
use coracle_runtime::{Config, Runtime};

/// How long to wait for what must happen.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
pub const IMAGE: &str = "busybox:test";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A network that gives every pod the same address and nothing else.
pub struct NoNetwork;

#[async_trait]
impl PodNetwork for NoNetwork {
    async fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn setup(&self, request: &PodNetworkRequest) -> Result<PodNetworkStatus> {
        coracle_host::netns::run_in(Path::new(&request.netns_path), || {
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.is_ok_and(|status| status.success()), "ip link set lo up");
        })
        .unwrap();
        Ok(PodNetworkStatus { ips: vec!["192.0.2.1".into()] })
    }

    async fn teardown(&self, _: &PodNetworkRequest) -> Result<()> {
        Ok(())
    }

    async fn reconcile(&self, _: &[PodNetworkRequest]) -> Result<()> {
        Ok(())
    }

    async fn set_pod_cidr(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

pub struct Pod {
    pub id: String,
    pub config: PodSandboxConfig,
}

pub struct Bench {
    pub runtime: Arc<Runtime>,
    pub dir: tempfile::TempDir,
    pub cgroup: String,
}

fn file(path: &str, content: NewContent, mode: u32) -> NewFile {
    NewFile { path: path.into(), mode, content }
}

/// Busybox, the commands as links, users and groups.
fn rootfs() -> Vec<NewFile> {
    let text = |text: &str| NewContent::Bytes(text.into());
    let mut files = vec![
        file("bin/busybox", NewContent::CopyOf("/bin/busybox".into()), 0o755),
        file("etc/passwd", text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n"), 0o644),
        file("etc/group", text("root:x:0:\nweb:x:33:\nextra:x:44:web\n"), 0o644),
        file("tmp", NewContent::Folder, 0o1777),
        file("etc/secret", text("old\n"), 0o600),
        file("volume/kept", text("kept\n"), 0o640),
    ];
    let listed = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        files.push(file(&format!("bin/{name}"), NewContent::Link("busybox".into()), 0o777));
    }
    files
}

pub fn options(dir: &Path, cgroup: &str) -> Config {
    Config {
        shim_exe: env!("CARGO_BIN_EXE_coracle-shim-test").into(),
        shim_cgroup: format!("{cgroup}/shims"),
        ..Config::new(dir.join("runtime"), dir.join("run"))
    }
}

impl Bench {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/coracle-test-{}-{number}", std::process::id());
        let images = images(dir.path());
        let volumes = [("/volume".to_owned(), serde_json::json!({}))].into();
        let env = vec!["FROM_IMAGE=1".into()];
        let config = ProcessConfig { cmd: vec!["sh".into()], env, volumes, ..Default::default() };
        images.import_single_layer(IMAGE, &rootfs(), config).unwrap();
        let runtime = Runtime::start(options(dir.path(), &cgroup), images, Arc::new(NoNetwork)).await.unwrap();
        Self { runtime, dir, cgroup }
    }

    /// The runtime again, as after a crash: the old one is dropped without a word to anybody.
    pub async fn restart(&mut self) {
        let images = images(self.dir.path());
        let options = options(self.dir.path(), &self.cgroup);
        self.runtime = Runtime::start(options, images, Arc::new(NoNetwork)).await.unwrap();
    }

    pub fn pod_config(&self, name: &str) -> PodSandboxConfig {
        let mut config = PodSandboxConfig {
            metadata: PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            },
            hostname: name.into(),
            log_directory: self.dir.path().join("logs").join(name).to_str().unwrap().into(),
            ..PodSandboxConfig::default()
        };
        config.linux.cgroup_parent = format!("{}/pod-{name}", self.cgroup);
        config
    }

    pub async fn pod(&self, name: &str) -> Pod {
        self.pod_of(self.pod_config(name)).await
    }

    pub async fn pod_of(&self, config: PodSandboxConfig) -> Pod {
        let id = self.runtime.run_pod_sandbox(&config, "").await.unwrap();
        Pod { id, config }
    }

    pub fn config(&self, name: &str, script: &str) -> ContainerConfig {
        let mut config = ContainerConfig {
            metadata: ContainerMetadata { name: name.into(), attempt: 0 },
            image: IMAGE.into(),
            command: vec!["sh".into(), "-c".into()],
            args: vec![script.into()],
            log_path: format!("{name}.log"),
            ..ContainerConfig::default()
        };
        config.linux.resources.memory_limit = 256 << 20;
        config
    }

    pub async fn start(&self, pod: &Pod, name: &str, script: &str) -> String {
        self.start_of(pod, &self.config(name, script)).await
    }

    pub async fn start_of(&self, pod: &Pod, config: &ContainerConfig) -> String {
        let id = self.runtime.create_container(&pod.id, config, &pod.config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    /// Runs a container to its end; its exit code and what it wrote to stdout.
    pub async fn run_of(&self, pod: &Pod, config: &ContainerConfig) -> (i32, String) {
        let id = self.start_of(pod, config).await;
        let status = self.wait_exited(&id).await;
        let log = self.log(pod, &config.metadata.name);
        self.runtime.remove_container(&id).await.unwrap();
        std::fs::remove_file(&status.log_path).unwrap();
        let lines = log.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default());
        (status.exit_code, lines.collect::<Vec<_>>().join("\n"))
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        self.runtime.container_status(id).await.unwrap()
    }

    /// Waits by events; what happened before is seen in the status.
    pub async fn wait_exited(&self, id: &str) -> ContainerStatus {
        let mut events = self.runtime.events();
        let wait = async {
            loop {
                let status = self.status(id).await;
                if status.state == ContainerState::Exited {
                    return status;
                }
                events.recv().await.unwrap();
            }
        };
        tokio::time::timeout(WAIT_MAX, wait).await.expect("the container exits")
    }

    /// The log without its times.
    pub fn log(&self, pod: &Pod, name: &str) -> String {
        let path = Path::new(&pod.config.log_directory).join(format!("{name}.log"));
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| format!("{}\n", line.split_once(' ').unwrap().1)).collect()
    }

    /// Waits until the shell of a container has set its trap: until it handles or ignores SIGTERM.
    pub async fn wait_until_traps(&self, id: &str) {
        let pid = self.status(id).await.pid.unwrap();
        self.wait_for("a trap", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let masks = status.lines().filter_map(|line| line.strip_prefix("SigCgt:").or(line.strip_prefix("SigIgn:")));
            masks.into_iter().any(|mask| u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & (1 << 14) != 0)
        })
        .await;
    }

    pub async fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let wait = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    pub async fn end(self) {
        let left = self.runtime.reset().await;
        assert_eq!(left, Vec::<String>::new());
        self.clean();
        assert!(!Path::new("/sys/fs/cgroup/memory").join(self.cgroup.trim_start_matches('/')).exists());
    }

    fn clean(&self) {
        let cgroups = coracle_host::cgroup::Cgroups::discover().unwrap();
        cgroups.group(&self.cgroup).unwrap().remove().ok();
        coracle_host::mount::umount_below(self.dir.path()).ok();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Also when a test has failed: kills what is in the test's own cgroups, shims too.
        self.clean();
    }
}

fn images(dir: &Path) -> ImageStore {
    let config = coracle_image::Config { dir: PathBuf::from(dir).join("image"), ..Default::default() };
    ImageStore::open(config).unwrap()
}
