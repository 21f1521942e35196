//! The shim's loop: one place that waits, and who is served when.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_host::process::Exit;
use coracle_host::{Context, Result, info, process, unix};
use rustix::event::epoll;

use super::children::{Container, Exec, Launch};
use super::io::{Moved, READ_BYTES, read};
use crate::spec::{Said, ShimSpec};

/// Connections at once: the runtime's, and that of one who takes over.
const CONNECTIONS_MAX: usize = 16;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 64;

/// What a descriptor of the loop belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Signals,
    Connection,
    /// The socket to a process that is being started.
    Launch,
    /// Output 0 (stdout or terminal) or 1 (stderr) of a container.
    Output(String, usize),
    /// The container takes input again.
    Input(String),
    /// One attached takes output again, or has left.
    Attached(String),
    /// Input from one attached.
    AttachedInput(String),
}

/// The shim's whole state.
pub(crate) struct Shim {
    pub(super) spec: ShimSpec,
    epoll: OwnedFd,
    listener: OwnedFd,
    signals: nix::sys::signalfd::SignalFd,
    sources: BTreeMap<u64, Source>,
    next_token: u64,
    pub(super) connections: BTreeMap<u64, OwnedFd>,
    pub(super) launches: BTreeMap<u64, Launch>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) execs: BTreeMap<u64, Exec>,
    /// The first process of the pid namespace that the containers share.
    pub(super) pod_pid: Option<i32>,
    pub(super) own_pid_namespace: OwnedFd,
    /// The pod's user namespace, if it has one.
    pub(super) users: Option<OwnedFd>,
    pub(super) cgroups: coracle_host::cgroup::Cgroups,
    pub(super) boot_id: String,
    /// Who waits for everything to end: connection and request.
    pub(super) shutdown: Option<(u64, u64)>,
    pub(super) over: bool,
}

impl Shim {
    pub(super) fn new(
        spec: ShimSpec,
        listener: OwnedFd,
        signals: nix::sys::signalfd::SignalFd,
        pod_pid: Option<i32>,
        users: Option<OwnedFd>,
    ) -> Result<Self> {
        let what = || "create an epoll descriptor".to_owned();
        let mut shim = Self {
            spec,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context(what)?,
            listener,
            signals,
            sources: BTreeMap::new(),
            next_token: 1,
            connections: BTreeMap::new(),
            launches: BTreeMap::new(),
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            pod_pid,
            own_pid_namespace: process::namespace_of(own_pid(), process::Namespace::Pid)?,
            users,
            cgroups: coracle_host::cgroup::Cgroups::discover()?,
            boot_id: info::boot_id(),
            shutdown: None,
            over: false,
        };
        let (listener, signals) = (shim.token(Source::Listener), shim.token(Source::Signals));
        shim.add(&shim.listener, listener, epoll::EventFlags::IN)?;
        shim.add(&shim.signals, signals, epoll::EventFlags::IN)?;
        Ok(shim)
    }

    /// Serves until told to shut down.
    pub(super) fn run(mut self) -> Result<()> {
        let mut buffer = Vec::with_capacity(EVENTS_MAX);
        while !self.over {
            buffer.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut buffer), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.context(|| "wait for events".to_owned())?,
            };
            for event in &buffer {
                let token = event.data.u64();
                // An event of this batch may be of something that an earlier one ended.
                if let Some(source) = self.sources.get(&token).cloned() {
                    self.serve(token, source);
                }
            }
        }
        std::fs::remove_file(&self.spec.socket).ok();
        Ok(())
    }

    fn serve(&mut self, token: u64, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Connection => self.requests(token),
            Source::Launch => self.launched(token),
            Source::Output(container, stream) => self.output(&container, stream),
            Source::Input(container) => self.input_ready(&container),
            Source::Attached(container) => self.attached_ready(&container, token),
            Source::AttachedInput(container) => self.attached_input(&container, token),
        }
    }

    pub(super) fn token(&mut self, source: Source) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.sources.insert(token, source);
        token
    }

    pub(super) fn add(&self, file: impl AsFd, token: u64, flags: epoll::EventFlags) -> Result<()> {
        epoll::add(&self.epoll, file, epoll::EventData::new_u64(token), flags).context(|| "watch a descriptor".into())
    }

    pub(super) fn rearm(&self, file: impl AsFd, token: u64, flags: epoll::EventFlags) {
        epoll::modify(&self.epoll, file, epoll::EventData::new_u64(token), flags).ok();
    }

    /// Must come before the descriptor is closed: a copy of it in a child would keep the events coming.
    pub(super) fn forget_source(&mut self, file: impl AsFd, token: u64) {
        epoll::delete(&self.epoll, file).ok();
        self.sources.remove(&token);
    }

    fn accept(&mut self) {
        while let Ok(Some(connection)) = unix::accept(&self.listener) {
            if self.connections.len() >= CONNECTIONS_MAX {
                continue;
            }
            let token = self.token(Source::Connection);
            if self.add(&connection, token, epoll::EventFlags::IN).is_ok() {
                self.connections.insert(token, connection);
            }
        }
    }

    pub(super) fn close_connection(&mut self, token: u64) {
        if let Some(connection) = self.connections.remove(&token) {
            self.forget_source(&connection, token);
        }
    }

    /// Says something to one connection. One that does not listen is closed: it lists again when it is back.
    pub(super) fn say(&mut self, connection: u64, said: &Said, files: &[BorrowedFd<'_>]) {
        let Some(socket) = self.connections.get(&connection) else { return };
        let Ok(bytes) = serde_json::to_vec(said) else { return };
        if unix::send(socket, &bytes, files).is_err() {
            self.close_connection(connection);
        }
    }

    pub(super) fn say_to_all(&mut self, said: &Said) {
        for connection in self.connections.keys().copied().collect::<Vec<_>>() {
            self.say(connection, said, &[]);
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Some(exit) = process::reap() {
            self.exited(exit);
        }
        self.finish_shutdown();
    }

    fn exited(&mut self, exit: Exit) {
        let launch = self.launches.iter().find(|(_, launch)| launch.pid == exit.pid).map(|(token, _)| *token);
        if let Some(token) = launch {
            // What it said last is still in its socket.
            self.launched(token);
        }
        let container = self.containers.values().find(|container| container.state.pid == exit.pid);
        if let Some(id) = container.map(|container| container.id.clone()) {
            self.container_exited(&id, exit);
        }
        let exec = self.execs.iter().find(|(_, exec)| exec.pid == exit.pid).map(|(id, _)| *id);
        if let Some(id) = exec {
            self.execs.remove(&id);
            self.say_to_all(&Said::ExecExited { exec: id, code: exit.code });
        }
    }

    fn output(&mut self, id: &str, stream: usize) {
        let mut buffer = [0; READ_BYTES];
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(Some(output)) = container.outputs.get(stream) else { return };
        match read(&output.file, &mut buffer) {
            Moved::Bytes(count) => {
                container.emit(stream, buffer.get(..count).unwrap_or_default(), info::now_nanos());
                self.settle(id);
            }
            Moved::WouldBlock => {}
            Moved::Closed => self.close_output(id, stream),
        }
    }

    fn close_output(&mut self, id: &str, stream: usize) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(mut output) = container.outputs.get_mut(stream).and_then(Option::take) else { return };
        output.lines.finish(info::now_nanos(), &mut container.log);
        self.forget_source(&output.file, output.token);
        self.settle(id);
    }

    /// Reads what is left of the output of a container that has ended.
    pub(super) fn drain(&mut self, id: &str) {
        let mut buffer = [0; READ_BYTES];
        for stream in 0..2 {
            while let Some(container) = self.containers.get_mut(id)
                && let Some(Some(output)) = container.outputs.get(stream)
                && let Moved::Bytes(count) = read(&output.file, &mut buffer)
            {
                container.emit(stream, buffer.get(..count).unwrap_or_default(), info::now_nanos());
            }
            self.close_output(id, stream);
        }
    }

    /// Brings what the loop waits for in line with what those attached can take.
    pub(super) fn settle(&mut self, id: &str) {
        let Some(mut container) = self.containers.remove(id) else { return };
        for attached in &mut container.attached {
            for sink in attached.outputs.iter_mut().flatten() {
                let flags = if sink.is_empty() { epoll::EventFlags::empty() } else { epoll::EventFlags::OUT };
                self.rearm(&sink.file, sink.token, flags);
            }
        }
        container.drop_departed(self);
        let full = container.is_full();
        for output in container.outputs.iter().flatten() {
            let mut flags = if full { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
            if output.is_terminal && container.input.as_ref().is_some_and(|input| !input.is_empty()) {
                flags |= epoll::EventFlags::OUT;
            }
            self.rearm(&output.file, output.token, flags);
        }
        self.containers.insert(id.to_owned(), container);
    }

    fn attached_ready(&mut self, id: &str, token: u64) {
        if let Some(container) = self.containers.get_mut(id) {
            container.flush_attached(token);
        }
        self.settle(id);
    }

    fn input_ready(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Some(input) = &mut container.input {
            input.flush();
        }
        self.settle_input(id);
    }

    fn attached_input(&mut self, id: &str, token: u64) {
        let mut buffer = [0; READ_BYTES];
        let Some(container) = self.containers.get_mut(id) else { return };
        let from = container.attached.iter().position(|attached| attached.input_token == Some(token));
        let Some(attached) = from.and_then(|at| container.attached.get_mut(at)) else { return };
        let Some(file) = &attached.input else { return };
        match read(file, &mut buffer) {
            Moved::Bytes(count) => {
                if let Some(input) = &mut container.input {
                    input.push(buffer.get(..count).unwrap_or_default());
                }
                self.settle_input(id);
            }
            Moved::WouldBlock => {}
            Moved::Closed => {
                let file = attached.input.take();
                attached.input_token = None;
                container.input_ended |= container.stdin_once;
                if let Some(file) = file {
                    self.forget_source(&file, token);
                }
                self.settle_input(id);
            }
        }
    }

    /// Watches for room in the container's input, and stops reading from those attached while there is none.
    pub(super) fn settle_input(&mut self, id: &str) {
        let Some(mut container) = self.containers.remove(id) else { return };
        let waits = container.input.as_ref().is_some_and(|input| !input.is_empty());
        let full = container.input.as_ref().is_some_and(super::io::Sink::is_full);
        for attached in &container.attached {
            if let (Some(file), Some(token)) = (&attached.input, attached.input_token) {
                let flags = if full { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
                self.rearm(file, token, flags);
            }
        }
        if let Some(input) = &container.input {
            let flags = if waits { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            if input.token != 0 {
                self.rearm(&input.file, input.token, flags);
            }
            let closed = input.closed || (container.input_ended && !waits);
            if closed && let Some(input) = container.input.take() {
                self.forget_source(&input.file, input.token);
            }
        }
        self.containers.insert(id.to_owned(), container);
    }
}

pub(super) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}
