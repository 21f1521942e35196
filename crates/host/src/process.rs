//! Processes: cloning single-threaded ones, namespaces, identities, waiting, signals.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::{Context, Error, Result};

/// Open files that a process of a pod may have, as runtimes commonly give it. Source: containerd's service unit.
const OPEN_FILES_WANTED: u64 = 1 << 20;

/// Kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    User,
    Uts,
}

impl Namespace {
    /// Its name under `/proc/<pid>/ns`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    fn flag(self) -> UnshareFlags {
        match self {
            Self::Cgroup => UnshareFlags::NEWCGROUP,
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Mount => UnshareFlags::NEWNS,
            Self::Network => UnshareFlags::NEWNET,
            Self::Pid => UnshareFlags::NEWPID,
            Self::User => UnshareFlags::NEWUSER,
            Self::Uts => UnshareFlags::NEWUTS,
        }
    }

    fn link(self) -> LinkNameSpaceType {
        match self {
            Self::Cgroup => LinkNameSpaceType::ControlGroup,
            Self::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Self::Mount => LinkNameSpaceType::Mount,
            Self::Network => LinkNameSpaceType::Network,
            Self::Pid => LinkNameSpaceType::ProcessID,
            Self::User => LinkNameSpaceType::User,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        }
    }
}

/// Which side of [`clone_process`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloned {
    /// The process id of the child.
    Parent(i32),
    Child,
}

/// Forks the calling process, the child in new namespaces. Fails in a process with more than one thread.
pub fn clone_process(namespaces: &[Namespace]) -> Result<Cloned> {
    require_single_thread()?;
    let flags = namespaces.iter().fold(0, |flags, kind| flags | kind.flag().bits());
    let flags = libc::c_ulong::from(flags) | libc::SIGCHLD as libc::c_ulong;
    // SAFETY: without CLONE_VM this is fork(2) with new namespaces. No other thread exists (checked above), so no lock
    // is held by a thread that the child lacks, and the child may run any code.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match result {
        -1 => Err(std::io::Error::last_os_error()).context(|| "clone a process".to_owned()),
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(i32::try_from(pid).unwrap_or(i32::MAX))),
    }
}

/// Moves this process into new namespaces (a new pid namespace: only its children). Single-threaded processes only.
pub fn unshare(namespaces: &[Namespace]) -> Result<()> {
    require_single_thread()?;
    let flags = namespaces.iter().fold(UnshareFlags::empty(), |flags, kind| flags | kind.flag());
    crate::netns::unshare(flags).context(|| format!("unshare {namespaces:?}"))
}

/// Moves the calling thread into a namespace (a pid namespace: only its children).
pub fn enter(namespace: impl AsFd, kind: Namespace) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(kind.link()))
        .context(|| format!("join the {} namespace", kind.name()))
}

/// The descriptor of a namespace of a process.
pub fn namespace_of(pid: i32, kind: Namespace) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{}", kind.name());
    Ok(std::fs::File::open(&path).context(|| format!("open {path}"))?.into())
}

fn require_single_thread() -> Result<()> {
    let threads = std::fs::read_dir("/proc/self/task").context(|| "list threads".to_owned())?.count();
    if threads == 1 { Ok(()) } else { Err(Error::new("clone a process with several threads", libc::EINVAL)) }
}

/// Makes orphans below this process its children.
pub fn become_subreaper() -> Result<()> {
    let own = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(own).context(|| "become the reaper of orphans".to_owned())
}

/// Ends the calling process without running anything of its parent's (no destructors, no exit handlers).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Every signal gets its default action and is let through, as a fresh program expects.
pub fn reset_signals() {
    // SAFETY: SIG_DFL is a valid disposition for every signal; for numbers that do not take it the call fails and
    // changes nothing. The set is initialised by sigemptyset before use.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Lets this process, and the programs it runs, have transparent huge pages again.
pub fn allow_huge_pages() {
    // A kernel without huge pages has nothing to allow.
    rustix::thread::disable_transparent_huge_pages(false).ok();
}

/// From now on a write to a pipe that nobody reads any more ends the process quietly, as of any other command.
pub fn end_with_reader() {
    // SAFETY: the default action is no handler: nothing of ours runs in a signal's context.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Keeps the kernel from giving this process 2 MiB where it asked for a page. Inherited by the programs it runs.
pub fn avoid_huge_pages() {
    // A kernel without huge pages has none to avoid.
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

/// How eagerly the kernel kills this process, and the programs it runs, when memory runs out: -1000 (never) to 1000.
pub fn set_oom_score(score: i32) -> Result<()> {
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).context(|| format!("set the OOM score to {score}"))
}

/// Ignores SIGPIPE, SIGHUP and SIGINT: for a process that must not end with whoever talks to it.
pub fn ignore_session_signals() {
    for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: SIG_IGN is a valid disposition for these signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Children that end are forgotten by the kernel; nobody has to wait for them. [`reset_signals`] undoes it.
pub fn forget_children() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Makes a descriptor refer to nothing of worth: for a process that must not keep open what it was forked with.
pub fn let_go(file: impl AsFd) -> Result<()> {
    let what = || "let go of a descriptor".to_owned();
    let null = std::fs::File::open("/dev/null").context(what)?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
    // SAFETY: both descriptors are open for the call; the number stays valid and owned, it only refers to another file.
    let result = unsafe { libc::dup3(std::os::fd::AsRawFd::as_raw_fd(&null), raw, libc::O_CLOEXEC) };
    if result < 0 { Err(std::io::Error::last_os_error()).context(what) } else { Ok(()) }
}

/// Marks every descriptor from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: setting the flag frees no descriptor; the arguments are plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context(|| "mark descriptors".to_owned()) }
}

/// Makes `file` the standard stream `number` (0, 1 or 2).
pub fn set_standard_stream(file: impl AsFd, number: i32) -> Result<()> {
    let file = file.as_fd();
    let result = match number {
        0 => nix::unistd::dup2_stdin(file),
        1 => nix::unistd::dup2_stdout(file),
        2 => nix::unistd::dup2_stderr(file),
        _ => Err(nix::errno::Errno::EBADF),
    };
    result.context(|| format!("set standard stream {number}"))
}

/// Sends a signal to a process; one that is gone is no error. A negative id names a process group.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    if pid == 0 || pid == -1 {
        return Err(Error::new("send a signal to everybody", libc::EINVAL));
    }
    // SAFETY: kill(2) takes plain numbers.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(()),
        _ => Err(error).context(|| format!("send signal {signal} to process {pid}")),
    }
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| Error::new("open process 0", libc::EINVAL))?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(|| format!("open process {}", pid.as_raw_nonzero()))
}

/// Sends a signal through a descriptor of a process; one that is gone is no error.
pub fn pidfd_kill(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let named = Signal::from_named_raw(signal).ok_or_else(|| Error::new(format!("signal {signal}"), libc::EINVAL))?;
    match rustix::process::pidfd_send_signal(pidfd, named) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.context(|| format!("send signal {signal}")),
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub pid: i32,
    /// 128 + signal for a killed process.
    pub code: i32,
    pub signal: i32,
}

/// The next child that has ended; `None` when none has yet or there are no children.
pub fn reap() -> Option<Exit> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    Some(exit_of(pid, status))
}

/// Waits for one child to end.
pub fn wait_for(pid: i32) -> Result<Exit> {
    let raw = Pid::from_raw(pid).ok_or_else(|| Error::new("wait for process 0", libc::EINVAL))?;
    loop {
        match rustix::process::waitpid(Some(raw), WaitOptions::empty()) {
            Ok(Some((pid, status))) => return Ok(exit_of(pid, status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| format!("wait for process {pid}")),
        }
    }
}

fn exit_of(pid: Pid, status: WaitStatus) -> Exit {
    let signal = status.terminating_signal().unwrap_or(0);
    let code = status.exit_status().unwrap_or(128 + signal);
    Exit { pid: pid.as_raw_nonzero().get(), code, signal }
}

/// When a process started, in clock ticks since boot; with the id it names a process for good.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Gives the calling thread supplementary groups, group and user, in this order. The capability sets are the caller's
/// business: see [`crate::caps`].
pub fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    use rustix::process::{Gid, Uid};
    let groups = groups.iter().map(|group| Gid::from_raw(*group)).collect::<Vec<_>>();
    rustix::thread::set_thread_groups(&groups).context(|| "set the groups".to_owned())?;
    let gid = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).context(|| format!("set the group {gid}"))?;
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).context(|| format!("set the user {uid}"))
}

/// Replaces the program of this process. Returns only on failure.
pub fn exec(path: &Path, arguments: &[String], environment: &[String]) -> Error {
    let what = || format!("exec {}", path.display());
    let strings = |list: &[String]| list.iter().map(|text| CString::new(text.as_bytes())).collect::<Vec<_>>();
    let collect = |list: &[String]| strings(list).into_iter().collect::<std::result::Result<Vec<_>, _>>();
    let (Ok(program), Ok(arguments), Ok(environment)) =
        (CString::new(path.as_os_str().as_bytes()), collect(arguments), collect(environment))
    else {
        return Error::new(what(), libc::EINVAL);
    };
    match nix::unistd::execve(&program, &arguments, &environment) {
        Err(errno) => Error::new(what(), errno as i32),
        Ok(never) => match never {},
    }
}

/// Lets this process, and the programs it runs, have many open files: what is commonly given, or else all that the
/// kernel grants. Returns how many.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    // Beyond its own limit a process needs CAP_SYS_RESOURCE; up to it, nothing.
    let wanted = [Some(OPEN_FILES_WANTED), now.maximum];
    let set = |limit: &u64| {
        let both = Rlimit { current: Some(*limit), maximum: Some(*limit) };
        setrlimit(Resource::Nofile, both).is_ok()
    };
    wanted.into_iter().flatten().find(set).or(now.current).unwrap_or(OPEN_FILES_WANTED)
}

/// Sets the file creation mask.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Sets the host name of the UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).context(|| format!("set the host name {name}"))
}

/// Goes to a folder.
pub fn change_dir(path: &Path) -> Result<()> {
    rustix::process::chdir(path).context(|| format!("chdir to {}", path.display()))
}

/// Names the process for tools that list processes; cut to 15 bytes.
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        rustix::thread::set_name(&name).ok();
    }
}

/// Lets go of every descriptor and waits for ever, children reaped by the kernel: the first process of a pid namespace
/// that others share.
pub fn pause_and_reap() -> ! {
    // SAFETY: this function does not return, so nobody in this process uses a descriptor again; SIG_IGN is a valid
    // disposition for SIGCHLD, and pause(2) touches no memory.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}

/// Closes what a new process inherited beyond the standard streams. To be called before it opens anything of its own.
pub fn close_inherited() -> Result<()> {
    require_single_thread()?;
    // SAFETY: called first thing in a program with one thread, as the contract says: no descriptor from 3 on has an
    // owner in this process yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context(|| "close descriptors".to_owned()) }
}

/// A descriptor that becomes readable when a child changes its state. Blocks SIGCHLD for the calling thread.
pub fn child_signals() -> Result<nix::sys::signalfd::SignalFd> {
    use nix::sys::signal::{SigSet, Signal};
    let what = || "watch children".to_owned();
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().context(what)?;
    let flags = nix::sys::signalfd::SfdFlags::SFD_CLOEXEC | nix::sys::signalfd::SfdFlags::SFD_NONBLOCK;
    nix::sys::signalfd::SignalFd::with_flags(&set, flags).context(what)
}

/// Leads a new session and process group.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).context(|| "start a session".to_owned())
}

/// Makes the folder `new_root` the root of the mount namespace and drops the old one.
pub fn pivot_root(new_root: &Path) -> Result<()> {
    rustix::process::chdir(new_root).context(|| format!("enter {}", new_root.display()))?;
    rustix::process::pivot_root(".", ".").context(|| "pivot_root".to_owned())?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).context(|| "unmount the old root".to_owned())?;
    rustix::process::chdir("/").context(|| "enter /".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_threads_are_not_cloned() {
        // The test harness runs tests on threads.
        assert_eq!(clone_process(&[]).unwrap_err().errno(), libc::EINVAL);
    }

    #[test]
    fn own_start_time_is_known() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).is_some());
        assert_eq!(start_time(i32::MAX), None);
        assert!(kill(i32::MAX, 0).is_ok());
        assert!(kill(-1, 0).is_err());
    }
}
