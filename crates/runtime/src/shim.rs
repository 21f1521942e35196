//! The shim: one small process for each pod, parent of its containers.
//!
//! It holds the pod's namespaces by living in them, writes the logs, keeps terminals, and remembers how containers
//! ended until the runtime has heard of it. It has one thread and no async runtime, so it may fork at any time and is
//! small. It leaves the session and the cgroup of whoever started it, and goes on when the runtime is killed.

mod children;
mod events;
mod io;
mod log;
pub(crate) mod nursery;
mod requests;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_host::process::{Cloned, Namespace};
use coracle_host::userns::IdMap;
use coracle_host::{Context, process};

use crate::spec::{SHIM_FILE, ShimSpec};

pub(crate) use children::{START_ERROR_CODE, Streams};
use events::Shim;

type Failure = Box<dyn std::error::Error>;

/// Runs as the shim of the sandbox whose folder is the argument. The caller's process returns when the shim is ready
/// (0) or has failed (1, the reason on stderr).
pub(crate) fn main(arguments: &[String]) -> i32 {
    let [folder] = arguments else {
        eprintln!("usage: shim FOLDER");
        return 2;
    };
    let started = process::close_inherited().map_err(Failure::from);
    match started.and_then(|()| start(Path::new(folder), None)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// Leaves the shim behind in the background, and waits until it is ready. `not_its` is a descriptor that the shim does
/// not keep.
fn start(folder: &Path, not_its: Option<&OwnedFd>) -> Result<(), Failure> {
    let file = folder.join(SHIM_FILE);
    let text = std::fs::read(&file).context(|| format!("read {}", file.display()))?;
    let spec: ShimSpec = serde_json::from_slice(&text)?;
    drop(text);
    let (mut ready, says) = std::io::pipe()?;
    match process::clone_process(&[])? {
        Cloned::Parent(_) => {
            drop(says);
            let mut text = String::new();
            ready.read_to_string(&mut text)?;
            if text == "ready" { Ok(()) } else { Err(format!("start the shim: {text}").into()) }
        }
        Cloned::Child => {
            drop(ready);
            if let Some(file) = not_its {
                process::let_go(file)?;
            }
            let code = match background(spec, says.into()) {
                Ok(()) => 0,
                Err(error) => i32::from(!error.to_string().is_empty()),
            };
            process::exit_now(code)
        }
    }
}

fn background(spec: ShimSpec, says: OwnedFd) -> Result<(), Failure> {
    let mut says = std::fs::File::from(says);
    match prepare(spec) {
        Ok(shim) => {
            says.write_all(b"ready")?;
            drop(says);
            Ok(shim.run()?)
        }
        Err(error) => {
            says.write_all(error.to_string().as_bytes())?;
            Err(error)
        }
    }
}

fn prepare(spec: ShimSpec) -> Result<Shim, Failure> {
    process::new_session()?;
    process::ignore_session_signals();
    process::become_subreaper()?;
    process::set_name("coracle-shim");
    process::change_dir(Path::new("/"))?;
    process::set_umask(0o022);
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..3 {
        process::set_standard_stream(&null, stream)?;
    }
    for file in &spec.cgroup_procs {
        std::fs::write(file, "0").context(|| format!("join {}", file.display()))?;
    }
    // The kernel may refuse; then the shim is as good a victim as the runtime.
    for score in ["-998", "0"] {
        if std::fs::write("/proc/self/oom_score_adj", score).is_ok() {
            break;
        }
    }
    let users = enter_pod(&spec)?;
    let signals = process::child_signals()?;
    let pod_pid = if spec.shared_pid { Some(hold_pid_namespace()?) } else { None };
    let listener = coracle_host::unix::listen(&spec.socket)?;
    Ok(Shim::new(spec, listener, signals, pod_pid, users)?)
}

/// Moves into the pod's namespaces; those of IPC and host name are made here.
/// Returns the pod's user namespace, if it has one.
fn enter_pod(spec: &ShimSpec) -> Result<Option<OwnedFd>, Failure> {
    let mut own = Vec::new();
    if spec.own_ipc {
        own.push(Namespace::Ipc);
    }
    if spec.netns.is_some() {
        own.push(Namespace::Uts);
    }
    let users = match (&spec.users, &spec.netns) {
        (Some(map), netns) => Some(enter_users(map, netns.as_deref(), &own)?),
        (None, netns) => {
            if let Some(path) = netns {
                coracle_host::netns::enter(coracle_host::netns::open(path)?)?;
            }
            if !own.is_empty() {
                process::unshare(&own)?;
            }
            None
        }
    };
    if spec.netns.is_some() && !spec.hostname.is_empty() {
        process::set_hostname(&spec.hostname)?;
    }
    for (name, value) in &spec.sysctls {
        let path = sysctl_path(name);
        std::fs::write(&path, value).context(|| format!("set sysctl {name} to {value:?}"))?;
    }
    Ok(users)
}

/// Makes the pod's user namespace with the namespaces that belong to it, and moves into those; the shim itself stays
/// the user it is. The network gets its name here, because a process with threads could not make it.
fn enter_users(map: &IdMap, netns: Option<&Path>, own: &[Namespace]) -> Result<OwnedFd, Failure> {
    let mut kinds = own.to_vec();
    kinds.extend(netns.map(|_| Namespace::Network));
    let owned = coracle_host::userns::create(map, &kinds)?;
    for (kind, namespace) in &owned.others {
        if let (Namespace::Network, Some(path)) = (kind, netns) {
            coracle_host::userns::hold_at(namespace, path)?;
        }
        process::enter(namespace, *kind)?;
    }
    Ok(owned.user)
}

/// Dots separate, and slashes stand for dots inside a name.
fn sysctl_path(name: &str) -> PathBuf {
    let swapped = name.chars().map(|character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    let relative = swapped.collect::<String>().replace("..", "");
    Path::new("/proc/sys").join(relative.trim_start_matches('/'))
}

/// Starts the first process of a pid namespace that all containers of the pod share. Returns its id.
fn hold_pid_namespace() -> Result<i32, Failure> {
    match process::clone_process(&[Namespace::Pid])? {
        Cloned::Parent(pid) => Ok(pid),
        Cloned::Child => {
            process::reset_signals();
            process::set_name("pause");
            process::pause_and_reap()
        }
    }
}

/// Connects to `port` of this machine's own address, in the network the shim lives in.
fn connect(port: u16) -> Result<OwnedFd, String> {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    let timeout = std::time::Duration::from_secs(5);
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let mut last = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nonblocking(true).map_err(|error| error.to_string())?;
                return Ok(stream.into());
            }
            Err(error) if last.is_empty() => {
                let number = error.raw_os_error().unwrap_or(libc::ETIMEDOUT);
                last = format!("dial tcp4 {address}: connect: {}", coracle_host::describe(number));
            }
            Err(_) => {}
        }
    }
    Err(last)
}

/// A pipe whose end for this process does not block.
fn pipe(own_end: End) -> coracle_host::Result<(OwnedFd, OwnedFd)> {
    let what = || "create a pipe".to_owned();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(what)?;
    let own = if own_end == End::Read { &read } else { &write };
    set_nonblocking(own)?;
    Ok((read, write))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Read,
    Write,
}

fn set_nonblocking(file: impl AsFd) -> coracle_host::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&file).context(|| "read the flags of a descriptor".to_owned())?;
    rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK)
        .context(|| "make a descriptor non-blocking".to_owned())
}
