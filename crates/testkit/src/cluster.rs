//! A real cluster: the binary, its own folder, stock kubectl.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::wait_for;

const READY_WAIT_MAX: Duration = Duration::from_secs(90);

/// How to start a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    pub binary: PathBuf,
    /// `10.200.0.0/24`; must not meet that of another cluster of this host.
    pub pod_cidr: String,
    pub service_cidr: String,
    /// Further arguments of `up`.
    pub arguments: Vec<String>,
}

/// A cluster that ends, with all its pods, when this value is dropped.
pub struct Cluster {
    options: Options,
    folder: tempfile::TempDir,
    process: Option<Child>,
    output: Arc<Mutex<String>>,
    port: u16,
}

impl Cluster {
    /// Starts one and waits until it says that it is ready.
    pub fn start(options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("coracle-test-").tempdir()?;
        let port = crate::registry::free_port()?;
        let mut cluster = Self { options, folder, process: None, output: Arc::default(), port };
        cluster.up()?;
        Ok(cluster)
    }

    /// Runs `coracle up` on the folder again.
    pub fn up(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join("stderr.log"))?;
        let mut process = Command::new(&self.options.binary)
            .args(["up", "--node-name", "node-1", "--data-dir"])
            .arg(self.data_dir())
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--pod-cidr", &self.options.pod_cidr, "--service-cidr", &self.options.service_cidr])
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.options.binary.display()))?;
        let stdout = process.stdout.take().context("no output of `up`")?;
        self.process = Some(process);
        self.output = Arc::default();
        let shared = self.output.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                let mut text = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
        let ready = wait_for("the cluster", READY_WAIT_MAX, || {
            let ended = self.process.as_mut()?.try_wait().ok().flatten().is_some();
            if self.output().contains("Ready after") { Some(true) } else { ended.then_some(false) }
        });
        ensure!(ready, "`coracle up` ended:\n{}\n{}", self.output(), self.log());
        Ok(())
    }

    /// What `up` printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// What `up` logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default()
    }

    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// SIGKILL, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("not running") };
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// SIGINT, as Ctrl-C would; waits for the end.
    pub fn interrupt(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("not running") };
        let pid = process.id().to_string();
        ensure!(Command::new("kill").args(["-INT", &pid]).status()?.success(), "kill -INT {pid}");
        wait_for("the end of `up`", Duration::from_secs(20), || process.try_wait().ok().flatten());
        Ok(())
    }

    /// Runs this cluster's binary with `arguments` and `--data-dir`.
    pub fn coracle(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.options.binary);
        command.args(arguments).arg("--data-dir").arg(self.data_dir()).stdin(Stdio::null());
        command.output().with_context(|| format!("run coracle {arguments:?}"))
    }

    /// Loads an OCI layout into the node.
    pub fn load_image(&self, layout: &Path) -> Result<()> {
        let output = self.coracle(&["image", "load", &layout.to_string_lossy()])?;
        ensure!(output.status.success(), "image load: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Stock kubectl in a namespace of this cluster.
    #[must_use]
    pub fn kubectl(&self, namespace: &str) -> Kubectl {
        Kubectl { kubeconfig: self.kubeconfig(), namespace: namespace.to_owned() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.process.is_some() {
            let _ = self.kill();
        }
        if !self.data_dir().exists() {
            return;
        }
        match self.coracle(&["reset", "--yes"]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!(
                "reset: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => eprintln!("reset: {error:#}"),
        }
    }
}

/// Runs kubectl; a namespace is always given.
#[derive(Debug, Clone)]
pub struct Kubectl {
    pub kubeconfig: PathBuf,
    pub namespace: String,
}

impl Kubectl {
    /// A command to add to.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]).args(arguments);
        command.env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    /// Standard output of a command that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("kubectl is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}:\n{text}{error}");
        text
    }

    /// Standard error of a command that must fail.
    ///
    /// # Panics
    /// When it succeeds.
    #[must_use]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("kubectl is installed");
        assert!(
            !output.status.success(),
            "kubectl {arguments:?} succeeded: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// With a manifest on standard input; returns both outputs and whether it succeeded.
    pub fn with_input(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl is installed");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that ends early closes its input.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// `kubectl apply -f -` that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn apply(&self, manifest: &str) {
        let (good, text) = self.with_input(&["apply", "-f", "-"], manifest);
        assert!(good, "apply: {text}\n{manifest}");
    }

    /// One value of an object, by jsonpath without braces; empty when the object is not there.
    #[must_use]
    pub fn value(&self, object: &str, jsonpath: &str) -> String {
        let path = format!("jsonpath={{{jsonpath}}}");
        let output = self.command(&["get", object, "-o", &path, "--ignore-not-found"]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Waits until a value is as wanted.
    ///
    /// # Panics
    /// When it does not become so within `limit`; the object's description is shown.
    pub fn wait(&self, object: &str, jsonpath: &str, wanted: &str, limit: Duration) {
        let end = std::time::Instant::now() + limit;
        let mut found = self.value(object, jsonpath);
        while found != wanted {
            if std::time::Instant::now() > end {
                let described = self.command(&["describe", object]).output().map(|output| output.stdout);
                let described = String::from_utf8_lossy(&described.unwrap_or_default()).into_owned();
                panic!("{object} {jsonpath} is {found:?}, not {wanted:?}, after {limit:?}\n{described}");
            }
            std::thread::sleep(Duration::from_millis(100));
            found = self.value(object, jsonpath);
        }
    }
}
