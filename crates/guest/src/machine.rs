//! One emulated machine: started, asked to run scripts, ended.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::agent::Agent;
pub use crate::agent::Outcome;
use crate::disk::{self, File};
use crate::kernel::Kernel;

const CONNECT_WAIT_MAX: Duration = Duration::from_secs(20);
/// A loaded machine takes ten times as long as an idle one.
const BOOT_WAIT_MAX: Duration = Duration::from_secs(120);
/// How much of the console a failure shows.
const CONSOLE_LINES_SHOWN: usize = 60;

/// What the machine is like.
#[derive(Debug, Clone)]
pub struct Options {
    pub memory_mib: u32,
    pub cpus: u32,
    pub disk_mib: u32,
    pub files: Vec<File>,
    /// TCP ports of the guest that [`Guest::port`] reaches from this host.
    pub ports: Vec<u16>,
    /// Further words of the kernel's command line.
    pub kernel_arguments: String,
}

impl Default for Options {
    fn default() -> Self {
        let none = (Vec::new(), Vec::new());
        Self {
            memory_mib: 1024,
            cpus: 2,
            disk_mib: 1024,
            files: none.0,
            ports: none.1,
            kernel_arguments: String::new(),
        }
    }
}

/// A running guest. Scripts run one after another.
pub struct Guest {
    process: Child,
    folder: tempfile::TempDir,
    agent: Mutex<Agent>,
    /// Of the guest, of this host.
    ports: Vec<(u16, u16)>,
}

impl Guest {
    /// Boots a machine and waits until it takes scripts.
    pub fn start(options: &Options) -> Result<Self> {
        let kernel = Kernel::find()?;
        let folder = tempfile::Builder::new().prefix("coracle-guest-").tempdir()?;
        std::fs::write(folder.path().join("first.cpio"), kernel.first_file_system()?)?;
        disk::write(&folder.path().join("disk.img"), options.disk_mib, &options.files, folder.path())?;
        let ports = options.ports.iter().map(|port| Ok((*port, free_port()?))).collect::<Result<Vec<_>>>()?;
        let mut process = command(&kernel, options, &ports, folder.path())
            .spawn()
            .context("qemu-system-x86_64: run scripts/setup")?;
        match Agent::connect(&folder.path().join("agent"), CONNECT_WAIT_MAX) {
            Ok(agent) => {
                let guest = Self { process, folder, agent: Mutex::new(agent), ports };
                guest.with_console(|agent| agent.wait_ready(BOOT_WAIT_MAX))?;
                Ok(guest)
            }
            Err(error) => {
                // It may have ended already.
                let _ = process.kill();
                process.wait()?;
                let said = std::fs::read_to_string(folder.path().join("qemu.log")).unwrap_or_default();
                Err(error.context(said))
            }
        }
    }

    /// Runs a shell script as root and waits for its end; what it leaves in the background goes on.
    pub fn run(&self, script: &str, limit: Duration) -> Result<Outcome> {
        self.with_console(|agent| agent.run(script, limit))
    }

    /// Output of a script that must succeed.
    pub fn ok(&self, script: &str, limit: Duration) -> Result<String> {
        let outcome = self.run(&format!("set -e\n{script}"), limit)?;
        ensure!(outcome.code == 0, "the script ended with {}:\n{script}\n--\n{}", outcome.code, outcome.text);
        Ok(outcome.text)
    }

    /// Port of this host's loopback that leads to `port` of the guest, if [`Options::ports`] has it.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<u16> {
        self.ports.iter().find(|(guest, _)| *guest == port).map(|(_, host)| *host)
    }

    /// What the guest's kernel said, and the emulator.
    #[must_use]
    pub fn console(&self) -> String {
        let read = |name: &str| std::fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("console.log"), read("qemu.log")].concat()).into_owned()
    }

    fn with_console<T>(&self, run: impl FnOnce(&mut Agent) -> Result<T>) -> Result<T> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut agent).with_context(|| {
            let console = self.console();
            let lines: Vec<&str> = console.lines().collect();
            format!("console:\n{}", lines[lines.len().saturating_sub(CONSOLE_LINES_SHOWN)..].join("\n"))
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(kernel: &Kernel, options: &Options, ports: &[(u16, u16)], folder: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]);
    command.args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off"]);
    command.args(["-m", &options.memory_mib.to_string(), "-smp", &options.cpus.to_string()]);
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(folder.join("first.cpio"));
    command.arg("-append").arg(format!(
        "console=ttyS0 quiet loglevel=4 panic=-1 cgroup_no_v1=all mitigations=off random.trust_cpu=on {}",
        options.kernel_arguments
    ));
    let drive = |path: &Path, more: &str| format!("file={},if=virtio,format=raw,{more}", path.display());
    command.args(["-drive", &drive(&folder.join("disk.img"), "cache=unsafe")]);
    command.args(["-drive", &drive(&kernel.modules(), "readonly=on")]);
    let forwards: String =
        ports.iter().map(|(guest, host)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}")).collect();
    command.arg("-netdev").arg(format!("user,id=net{forwards}"));
    command.args([
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
        "-device",
        "virtio-rng-pci",
        "-device",
        "virtio-serial-pci",
    ]);
    command.arg("-chardev").arg(format!("socket,id=agent,path={},server=on,wait=off", folder.join("agent").display()));
    command.args(["-device", "virtserialport,chardev=agent,name=agent"]);
    command.arg("-serial").arg(format!("file:{}", folder.join("console.log").display()));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    match std::fs::File::create(folder.join("qemu.log")) {
        Ok(log) => command.stderr(log),
        Err(_) => command.stderr(Stdio::inherit()),
    };
    command
}

/// A port that nobody listens on right now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
