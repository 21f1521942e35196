//! Debian's docker-registry on a port of its own.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::wait_for;

/// A registry that lives as long as this value.
pub struct Registry {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

/// Whom a registry with a password lets in, and how it knows: a line of an htpasswd file.
const USER: &str = "me:secret";
const PASSWORD_LINE: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

impl Registry {
    pub fn start() -> Result<Self> {
        Self::start_with(false)
    }

    /// One that lets in only the user `me` with the password `secret`.
    pub fn start_locked() -> Result<Self> {
        Self::start_with(true)
    }

    fn start_with(locked: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let passwords = folder.path().join("htpasswd");
        std::fs::write(&passwords, PASSWORD_LINE)?;
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display());
        let more = if locked { auth.as_str() } else { "" };
        let port = free_port()?;
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("data");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
            storage.display()
        );
        std::fs::write(&config, text)?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry: install the package of that name")?;
        let registry = Self { process, port, _folder: folder };
        wait_for("the registry", Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).ok());
        Ok(registry)
    }

    /// `127.0.0.1:<port>/<name>`
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Copies an image of an OCI layout in, with skopeo.
    pub fn push(&self, layout: &Path, reference: &str, name: &str) -> Result<()> {
        let output = Command::new("skopeo")
            .args(["copy", "--dest-tls-verify=false", "--insecure-policy", "--dest-creds", USER])
            .arg(format!("oci:{}:{reference}", layout.display()))
            .arg(format!("docker://{}", self.image(name)))
            .output()
            .context("skopeo: install the package of that name")?;
        ensure!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody listens on right now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
