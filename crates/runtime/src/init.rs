//! The way from a cloned process to the program of a container.
//!
//! Runs in the child of a shim, which has one thread, so that any code may run here. Every failure is said to the
//! shim through the socket; when the program starts, the socket closes by itself.

mod dev;
mod identity;
mod rootfs;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use coracle_host::process::{self, Namespace};
use coracle_host::{fs as host_fs, pty, unix};

use crate::shim::Streams;
use crate::spec::{ContainerSpec, Prelude, ProcessSpec};

/// Why a process did not become the program, as the user reads it.
type Failure = String;

/// Becomes the first process of a container.
pub(crate) fn container(spec: &ContainerSpec, users: Option<&OwnedFd>, streams: Streams, socket: OwnedFd) -> ! {
    process::reset_signals();
    // The shim does without, and the setting is inherited.
    process::allow_huge_pages();
    let result = start_container(spec, users, streams, &socket);
    fail(&socket, result)
}

/// Becomes a command in a running container.
pub(crate) fn command(
    spec: &ContainerSpec,
    process: &ProcessSpec,
    joined: Joined<'_>,
    streams: Streams,
    socket: OwnedFd,
) -> ! {
    process::reset_signals();
    // The shim does without, and the setting is inherited.
    process::allow_huge_pages();
    let result = start_command(spec, process, joined, streams, &socket);
    fail(&socket, result)
}

fn fail(socket: &OwnedFd, result: Result<std::convert::Infallible, Failure>) -> ! {
    let Err(why) = result;
    if let Ok(bytes) = serde_json::to_vec(&Prelude::Failed(why)) {
        unix::send(socket, &bytes, &[]).ok();
    }
    process::exit_now(1)
}

fn start_container(
    spec: &ContainerSpec,
    users: Option<&OwnedFd>,
    streams: Streams,
    socket: &OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let during = |error: coracle_host::Error| format!("error during container init: {error}");
    process::new_session().map_err(during)?;
    join_cgroups(spec)?;
    set_oom_score(spec.process.oom_score_adj);
    process::unshare(&[Namespace::Cgroup]).map_err(during)?;
    set_streams(&streams, spec, &spec.process)?;
    drop(streams);
    rootfs::enter(spec, users).map_err(|why| format!("error during container init: {why}"))?;
    if spec.process.tty {
        let terminal = give_terminal(spec, &spec.process, socket)?;
        dev::bind_console(&terminal).map_err(during)?;
    }
    if let Some(users) = users {
        identity::enter_users(users).map_err(during)?;
        // So that what is mounted belongs to the pod's own root.
        process::unshare(&[Namespace::Mount]).map_err(during)?;
    }
    identity::make_working_dir(&spec.process).map_err(during)?;
    if spec.readonly_rootfs {
        rootfs::make_readonly().map_err(during)?;
    }
    identity::become_program(&spec.process)
}

/// Namespaces of a running container that a command joins.
pub(crate) struct Namespaces {
    mount: OwnedFd,
    cgroup: OwnedFd,
}

/// What a command joins.
pub(crate) struct Joined<'a> {
    pub namespaces: Namespaces,
    pub users: Option<&'a OwnedFd>,
}

impl Namespaces {
    pub fn of(pid: i32) -> coracle_host::Result<Self> {
        let mount = process::namespace_of(pid, Namespace::Mount)?;
        Ok(Self { mount, cgroup: process::namespace_of(pid, Namespace::Cgroup)? })
    }
}

fn start_command(
    spec: &ContainerSpec,
    process: &ProcessSpec,
    Joined { namespaces, users }: Joined<'_>,
    streams: Streams,
    socket: &OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let during = |error: coracle_host::Error| error.to_string();
    process::new_session().map_err(during)?;
    join_cgroups(spec)?;
    set_oom_score(process.oom_score_adj);
    set_streams(&streams, spec, process)?;
    drop(streams);
    process::enter(&namespaces.cgroup, Namespace::Cgroup).map_err(during)?;
    process::enter(&namespaces.mount, Namespace::Mount).map_err(during)?;
    drop(namespaces);
    if process.tty {
        give_terminal(spec, process, socket)?;
    }
    if let Some(users) = users {
        identity::enter_users(users).map_err(during)?;
    }
    identity::become_program(process)
}

fn join_cgroups(spec: &ContainerSpec) -> Result<(), Failure> {
    for file in &spec.cgroup_procs {
        std::fs::write(file, "0").map_err(|error| {
            let why = coracle_host::describe(error.raw_os_error().unwrap_or(libc::EIO));
            format!("unable to apply cgroup configuration: failed to write {}: {why}", file.display())
        })?;
    }
    Ok(())
}

/// The nearest score that the kernel permits: going below one's own needs CAP_SYS_RESOURCE.
fn set_oom_score(wanted: i32) {
    let write = |score: i32| std::fs::write("/proc/self/oom_score_adj", score.to_string()).is_ok();
    if !write(wanted) && wanted < 0 {
        write(0);
    }
}

/// User and group of a process as the host knows them.
fn owner(spec: &ContainerSpec, process: &ProcessSpec) -> (u32, u32) {
    match &spec.users {
        Some(map) => (map.uid(process.uid), map.gid(process.gid)),
        None => (process.uid, process.gid),
    }
}

/// Standard streams other than a terminal. What is not asked for is `/dev/null`.
fn set_streams(streams: &Streams, spec: &ContainerSpec, process: &ProcessSpec) -> Result<(), Failure> {
    let failed = |error: coracle_host::Error| format!("error during container init: {error}");
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    for (number, stream) in [(0, &streams.stdin), (1, &streams.stdout), (2, &streams.stderr)] {
        match stream {
            Some(stream) => {
                // So that a program without rights can open /dev/stdout again.
                let (uid, gid) = owner(spec, process);
                host_fs::chown(stream, uid, gid).ok();
                process::set_standard_stream(stream, number).map_err(failed)?;
            }
            None => process::set_standard_stream(&null, number).map_err(failed)?,
        }
    }
    Ok(())
}

/// Opens a terminal of the container's own, makes it the standard streams, and gives its other end to the shim.
fn give_terminal(spec: &ContainerSpec, process: &ProcessSpec, socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    let failed = |error: coracle_host::Error| format!("error during container init: {error}");
    let pty::Pty { controller, terminal } = pty::open().map_err(failed)?;
    let (uid, gid) = owner(spec, process);
    host_fs::chown(&terminal, uid, gid).ok();
    pty::make_controlling(&terminal).map_err(failed)?;
    for number in 0..3 {
        process::set_standard_stream(&terminal, number).map_err(failed)?;
    }
    let bytes = serde_json::to_vec(&Prelude::Terminal).map_err(|error| error.to_string())?;
    unix::send(socket, &bytes, &[controller.as_fd()]).map_err(failed)?;
    Ok(terminal)
}
