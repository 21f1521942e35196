//! A control plane without a node, for tests that need no pods: nothing of the host is touched.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub fn up(&self, data: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        let _ = command
            .args(["up", "--no-node", "--listen", "127.0.0.1:0", "--kubeconfig"])
            .arg(self.path("kubeconfig"))
            .arg("--data-dir")
            .arg(data);
        command
    }

    /// A control plane that is ready.
    pub fn started(&self, data: &Path) -> Running {
        let mut child = self.up(data).stdout(Stdio::piped()).spawn().expect("run");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let ready = stdout.lines().map_while(Result::ok).any(|line| line.starts_with("Ready after"));
        let running = Running(child);
        assert!(ready, "the control plane starts");
        running
    }
}

/// Killed when it is dropped, also by a test that fails.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
