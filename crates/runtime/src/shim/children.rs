//! Containers and commands as the shim's children: starting them, and what happens when they end.

use std::os::fd::{AsFd, OwnedFd};

use coracle_host::process::{Cloned, Exit, Namespace};
use coracle_host::{Context, Error, Result, fs as host_fs, info, process, unix};
use rustix::event::epoll::EventFlags;

use super::events::{Shim, Source};
use super::io::Sink;
use super::log::{Lines, Log};
use super::{End, pipe, set_nonblocking};
use crate::init;
use crate::spec::{Answer, ContainerSpec, PidMode, Prelude, ProcessSpec, RunState, SPEC_FILE, STATE_FILE, Said};

/// How the containers of Kubernetes report what could not be started. Source: containerd `internal/cri/server`
/// `errorStartExitCode`.
pub(crate) const START_ERROR_CODE: i32 = 128;

/// Output of a container, on its way to the log.
pub(super) struct Output {
    pub file: OwnedFd,
    pub token: u64,
    pub lines: Lines,
    pub is_terminal: bool,
}

/// One that is attached to a container.
pub(super) struct Attached {
    pub outputs: [Option<Sink>; 2],
    pub input: Option<OwnedFd>,
    pub input_token: Option<u64>,
}

/// A container of the pod, from its start to its removal.
pub(super) struct Container {
    pub id: String,
    pub cgroup: String,
    pub state: RunState,
    pub log: Log,
    pub outputs: [Option<Output>; 2],
    pub input: Option<Sink>,
    pub stdin_once: bool,
    pub input_ended: bool,
    pub attached: Vec<Attached>,
    /// Another handle to the terminal, to change its size.
    pub terminal: Option<OwnedFd>,
}

/// A command in a container.
pub(super) struct Exec {
    pub pid: i32,
}

/// A process that has been cloned and is not the program yet.
pub(super) struct Launch {
    pub pid: i32,
    socket: OwnedFd,
    /// Connection and request to answer.
    asked_by: (u64, u64),
    kind: LaunchKind,
    terminal: Option<OwnedFd>,
    failed: Option<String>,
}

enum LaunchKind {
    Container(String),
    Exec,
}

impl Container {
    /// Gives output to the log and to those attached.
    pub fn emit(&mut self, stream: usize, bytes: &[u8], now: i64) {
        if let Some(Some(output)) = self.outputs.get_mut(stream) {
            output.lines.push(bytes, now, &mut self.log);
        }
        for attached in &mut self.attached {
            if let Some(Some(sink)) = attached.outputs.get_mut(stream) {
                sink.push(bytes);
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.attached.iter().flat_map(|attached| attached.outputs.iter().flatten()).any(Sink::is_full)
    }

    pub fn flush_attached(&mut self, token: u64) {
        let sinks = self.attached.iter_mut().flat_map(|attached| attached.outputs.iter_mut().flatten());
        for sink in sinks.filter(|sink| sink.token == token) {
            sink.flush();
            // Woken without room to write: the other end is gone.
            if sink.is_empty() && !sink.closed {
                sink.closed = is_hung_up(&sink.file);
            }
        }
    }

    /// Lets go of those attached who left, and of outputs that have ended.
    pub fn drop_departed(&mut self, shim: &mut Shim) {
        let ended = [self.outputs[0].is_none(), self.outputs[1].is_none()];
        for attached in &mut self.attached {
            for (output, ended) in attached.outputs.iter_mut().zip(ended) {
                if output.as_ref().is_some_and(|sink| sink.closed || (ended && sink.is_empty()))
                    && let Some(sink) = output.take()
                {
                    shim.forget_source(&sink.file, sink.token);
                }
            }
        }
        let over = self.state.finished_at != 0;
        for attached in &mut self.attached {
            if over && let Some(input) = attached.input.take() {
                shim.forget_source(&input, attached.input_token.take().unwrap_or(0));
            }
        }
        self.attached.retain(|attached| attached.input.is_some() || attached.outputs.iter().any(Option::is_some));
    }
}

fn is_hung_up(file: &OwnedFd) -> bool {
    let mut polled = [rustix::event::PollFd::new(file, rustix::event::PollFlags::OUT)];
    let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&none)).is_ok()
        && polled[0].revents().intersects(rustix::event::PollFlags::ERR | rustix::event::PollFlags::HUP)
}

/// Streams for a new process.
pub(crate) struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl Shim {
    pub(super) fn read_spec(&self, id: &str) -> Result<ContainerSpec> {
        if id.is_empty() || id.contains(['/', '.']) {
            return Err(Error::new(format!("find container {id:?}"), libc::EINVAL));
        }
        let path = self.spec.containers.join(id).join(SPEC_FILE);
        let text = std::fs::read(&path).context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).map_err(|_| Error::new(format!("parse {}", path.display()), libc::EBADMSG))
    }

    /// Clones the first process of a container. The answer goes out when it has become the program.
    pub(super) fn start(&mut self, id: &str, asked_by: (u64, u64)) -> Result<()> {
        if self.containers.contains_key(id) {
            return Err(Error::new(format!("start container {id} again"), libc::EALREADY));
        }
        let spec = self.read_spec(id)?;
        let mut container = Container {
            id: id.to_owned(),
            cgroup: spec.cgroup.clone(),
            state: RunState { boot_id: self.boot_id.clone(), ..RunState::default() },
            log: Log::open(spec.log_path.clone())?,
            outputs: [None, None],
            input: None,
            stdin_once: spec.stdin_once,
            input_ended: false,
            attached: Vec::new(),
            terminal: None,
        };
        let streams = self.streams(&spec, &mut container)?;
        let (socket, childs) = unix::pair()?;
        let namespaces: &[Namespace] =
            if spec.pid == PidMode::Own { &[Namespace::Pid, Namespace::Mount] } else { &[Namespace::Mount] };
        let joined = match &spec.pid {
            PidMode::Own | PidMode::Host => None,
            PidMode::Pod => self.pod_pid,
            PidMode::Container(target) => Some(self.running_pid(target)?),
        };
        let cloned = self.clone_into(joined, namespaces)?;
        let Cloned::Parent(pid) = cloned else { init::container(&spec, self.users.as_ref(), streams, childs) };
        drop((streams, childs));
        container.state.pid = pid;
        container.state.process_start = process::start_time(pid).unwrap_or(0);
        // Known on disk before the program runs: who comes after a crash of this process finds what to kill.
        self.save(&container).ok();
        self.containers.insert(id.to_owned(), container);
        let followed = self.await_launch(socket, pid, asked_by, LaunchKind::Container(id.to_owned()));
        followed.inspect_err(|_| drop(process::kill(pid, libc::SIGKILL)))
    }

    fn running_pid(&self, id: &str) -> Result<i32> {
        let found = self.containers.get(id).filter(|container| container.state.finished_at == 0);
        found.map(|container| container.state.pid).ok_or_else(|| {
            Error::new(format!("share the pid namespace of container {id}, which does not run"), libc::ESRCH)
        })
    }

    fn streams(&mut self, spec: &ContainerSpec, container: &mut Container) -> Result<Streams> {
        let mut streams = Streams { stdin: None, stdout: None, stderr: None };
        if spec.process.tty {
            return Ok(streams);
        }
        for (at, name) in ["stdout", "stderr"].into_iter().enumerate() {
            let (read, write) = pipe(End::Read)?;
            let token = self.token(Source::Output(spec.id.clone(), at));
            self.add(&read, token, EventFlags::IN)?;
            if let Some(output) = container.outputs.get_mut(at) {
                *output = Some(Output { file: read, token, lines: Lines::new(name), is_terminal: false });
            }
            *(if at == 0 { &mut streams.stdout } else { &mut streams.stderr }) = Some(write);
        }
        if spec.stdin {
            let (read, write) = pipe(End::Write)?;
            let token = self.token(Source::Input(spec.id.clone()));
            self.add(&write, token, EventFlags::empty())?;
            container.input = Some(Sink::new(write, token));
            streams.stdin = Some(read);
        }
        Ok(streams)
    }

    /// Clones a process whose pid namespace is that of `joined`, if given.
    fn clone_into(&self, joined: Option<i32>, namespaces: &[Namespace]) -> Result<Cloned> {
        let Some(pid) = joined else { return process::clone_process(namespaces) };
        process::enter(process::namespace_of(pid, Namespace::Pid)?, Namespace::Pid)?;
        let cloned = process::clone_process(namespaces);
        if !matches!(cloned, Ok(Cloned::Child)) {
            process::enter(&self.own_pid_namespace, Namespace::Pid)?;
        }
        cloned
    }

    fn await_launch(&mut self, socket: OwnedFd, pid: i32, asked_by: (u64, u64), kind: LaunchKind) -> Result<()> {
        set_nonblocking(&socket)?;
        let token = self.token(Source::Launch);
        self.add(&socket, token, EventFlags::IN)?;
        self.launches.insert(token, Launch { pid, socket, asked_by, kind, terminal: None, failed: None });
        Ok(())
    }

    /// Clones a command into a running container.
    pub(super) fn exec(
        &mut self,
        id: &str,
        exec: u64,
        process: (Vec<String>, bool),
        streams: Streams,
        asked_by: (u64, u64),
    ) -> Result<()> {
        let target = self.containers.get(id).map_or(0, |container| container.state.pid);
        let spec = self.read_spec(id)?;
        let (arguments, tty) = process;
        let mut process = ProcessSpec { arguments, tty, ..spec.process.clone() };
        if tty && !process.environment.iter().any(|entry| entry.starts_with("TERM=")) {
            process.environment.push("TERM=xterm".to_owned());
        }
        let (socket, childs) = unix::pair()?;
        let namespaces = init::Namespaces::of(target)?;
        let cloned = self.clone_into(Some(target), &[])?;
        let Cloned::Parent(pid) = cloned else {
            let joined = init::Joined { namespaces, users: self.users.as_ref() };
            init::command(&spec, &process, joined, streams, childs)
        };
        drop((streams, childs, namespaces));
        self.execs.insert(exec, Exec { pid });
        let followed = self.await_launch(socket, pid, asked_by, LaunchKind::Exec);
        followed.inspect_err(|_| drop(process::kill(pid, libc::SIGKILL)))
    }

    /// Hears a process that is being started; its socket closes when it has become the program.
    pub(super) fn launched(&mut self, token: u64) {
        let Some(launch) = self.launches.get_mut(&token) else { return };
        loop {
            match unix::receive(&launch.socket) {
                Ok(Some(message)) => match serde_json::from_slice(&message.bytes) {
                    Ok(Prelude::Terminal) => launch.terminal = message.descriptors.into_iter().next(),
                    Ok(Prelude::Failed(why)) => launch.failed = Some(why),
                    Err(_) => {}
                },
                Err(error) if error.errno() == libc::EAGAIN => return,
                Ok(None) | Err(_) => break,
            }
        }
        let Some(launch) = self.launches.remove(&token) else { return };
        self.forget_source(&launch.socket, token);
        match &launch.kind {
            LaunchKind::Container(id) => self.container_launched(&id.clone(), launch),
            LaunchKind::Exec => {
                let (connection, id) = launch.asked_by;
                let answer = launch.failed.map_or(Answer::Done, Answer::Failed);
                let files = launch.terminal.iter().map(AsFd::as_fd).collect::<Vec<_>>();
                self.say(connection, &Said::Answer { id, answer }, &files);
            }
        }
    }

    fn container_launched(&mut self, id: &str, launch: Launch) {
        let terminal = launch.terminal.and_then(|terminal| self.adopt_terminal(id, terminal).ok());
        let Some(container) = self.containers.get_mut(id) else { return };
        container.state.started_at = info::now_nanos();
        container.terminal = terminal;
        let (connection, request) = launch.asked_by;
        let answer = match launch.failed {
            None => Answer::Started(container.state.clone()),
            Some(why) => {
                let why = format!("failed to start container {id:?}: unable to start container process: {why}");
                container.state.error = Some(why.clone());
                Answer::Failed(why)
            }
        };
        self.save_by_id(id);
        self.say(connection, &Said::Answer { id: request, answer }, &[]);
    }

    /// The terminal is output and input in one.
    fn adopt_terminal(&mut self, id: &str, terminal: OwnedFd) -> Result<OwnedFd> {
        set_nonblocking(&terminal)?;
        let clone = |file: &OwnedFd| file.try_clone().context(|| "copy a descriptor".to_owned());
        let (input, handle) = (clone(&terminal)?, clone(&terminal)?);
        let (output_token, input_token) =
            (self.token(Source::Output(id.to_owned(), 0)), self.token(Source::Input(id.to_owned())));
        self.add(&terminal, output_token, EventFlags::IN)?;
        self.add(&input, input_token, EventFlags::empty())?;
        if let Some(container) = self.containers.get_mut(id) {
            let lines = Lines::new("stdout");
            container.outputs[0] = Some(Output { file: terminal, token: output_token, lines, is_terminal: false });
            container.input = Some(Sink::new(input, input_token));
        }
        Ok(handle)
    }

    pub(super) fn container_exited(&mut self, id: &str, exit: Exit) {
        // Processes that are not in a pid namespace of the container's own live on.
        if let Some(container) = self.containers.get(id)
            && let Ok(group) = self.cgroups.group(&container.cgroup)
        {
            group.kill().ok();
        }
        self.drain(id);
        let oom_killed = self.oom_killed(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.state.finished_at = info::now_nanos();
        container.state.exit_code = if container.state.error.is_some() { START_ERROR_CODE } else { exit.code };
        container.state.signal = if container.state.error.is_some() { 0 } else { exit.signal };
        container.state.oom_killed = oom_killed;
        container.terminal = None;
        let state = container.state.clone();
        if let Some(input) = container.input.take() {
            self.forget_source(&input.file, input.token);
        }
        self.settle(id);
        self.save_by_id(id);
        self.say_to_all(&Said::Exited { container: id.to_owned(), state });
    }

    fn oom_killed(&self, id: &str) -> bool {
        let container = self.containers.get(id);
        let group = container.and_then(|container| self.cgroups.group(&container.cgroup).ok());
        group.is_some_and(|group| group.oom_kills() > 0)
    }

    fn save_by_id(&self, id: &str) {
        if let Some(container) = self.containers.get(id) {
            // A full disk must not stop the pod; whoever asks while this process lives hears the truth.
            self.save(container).ok();
        }
    }

    fn save(&self, container: &Container) -> Result<()> {
        let path = self.spec.containers.join(&container.id).join(STATE_FILE);
        let text = serde_json::to_vec(&container.state)
            .map_err(|_| Error::new(format!("encode the state of {}", container.id), libc::EINVAL))?;
        host_fs::replace(&path, &text, false)
    }
}
