//! What the runtime asks of the shim.

use std::os::fd::{AsFd, OwnedFd};

use coracle_host::{Result, process, pty, unix};
use rustix::event::epoll::EventFlags;

use super::children::{Attached, Streams};
use super::events::{Shim, Source};
use super::io::Sink;
use super::{End, connect, pipe};
use crate::spec::{Answer, Call, Request, RunState, Said};

/// Those attached to one container at once.
const ATTACHED_MAX: usize = 64;
/// Commands running at once in the pod.
const EXECS_MAX: usize = 512;

impl Shim {
    pub(super) fn requests(&mut self, connection: u64) {
        while let Some(socket) = self.connections.get(&connection) {
            match unix::receive(socket) {
                Ok(Some(message)) => self.request(connection, &message.bytes, message.descriptors),
                Err(error) if error.errno() == libc::EAGAIN => return,
                Ok(None) | Err(_) => return self.close_connection(connection),
            }
        }
    }

    fn request(&mut self, connection: u64, bytes: &[u8], files: Vec<OwnedFd>) {
        let Ok(Request { id, call }) = serde_json::from_slice(bytes) else {
            return self.close_connection(connection);
        };
        let asked_by = (connection, id);
        let answer = match call {
            Call::List => Answer::States(self.states()),
            Call::Start { container } => match self.start(&container, asked_by) {
                Ok(()) => return,
                Err(error) => Answer::Failed(error.to_string()),
            },
            Call::Exec { container, exec, arguments, tty, stdin, stdout, stderr } => {
                if !self.is_running(&container) {
                    Answer::NotRunning(container)
                } else if self.execs.len() >= EXECS_MAX {
                    Answer::Failed(format!("more than {EXECS_MAX} commands run in the pod"))
                } else {
                    let streams = take_streams(files, [stdin, stdout, stderr]);
                    match self.exec(&container, exec, (arguments, tty), streams, asked_by) {
                        Ok(()) => return,
                        Err(error) => Answer::Failed(error.to_string()),
                    }
                }
            }
            Call::Attach { container, stdin, stdout, stderr } => {
                return self.attach(&container, [stdin, stdout, stderr], asked_by);
            }
            Call::Connect { port } => return self.connect(port, asked_by),
            Call::Shutdown => {
                self.shutdown = Some(asked_by);
                self.kill_all();
                return self.finish_shutdown();
            }
            other => self.simple(other),
        };
        self.say(connection, &Said::Answer { id, answer }, &[]);
    }

    /// Calls whose answer carries nothing.
    fn simple(&mut self, call: Call) -> Answer {
        let result = match call {
            Call::Kill { container, signal, all } => self.kill(&container, signal, all),
            Call::KillExec { exec, signal } => match self.execs.get(&exec) {
                // The command leads a process group of its own.
                Some(exec) => process::kill(-exec.pid, signal).and_then(|()| process::kill(exec.pid, signal)),
                None => Ok(()),
            },
            Call::Resize { container, width, height } => {
                let found = self.containers.get(&container);
                let terminal = found.and_then(|container| container.terminal.as_ref());
                terminal.map_or(Ok(()), |terminal| pty::resize(terminal, width, height))
            }
            Call::ReopenLog { container } => match self.containers.get_mut(&container) {
                Some(found) => found.log.reopen(),
                None => return Answer::NotRunning(container),
            },
            Call::Forget { container } => {
                if !self.is_running(&container) {
                    self.drain(&container);
                    self.containers.remove(&container);
                }
                Ok(())
            }
            _ => Ok(()),
        };
        result.map_or_else(|error| Answer::Failed(error.to_string()), |()| Answer::Done)
    }

    fn states(&self) -> Vec<(String, RunState)> {
        self.containers.iter().map(|(id, container)| (id.clone(), container.state.clone())).collect()
    }

    fn is_running(&self, id: &str) -> bool {
        self.containers.get(id).is_some_and(|container| container.state.finished_at == 0)
    }

    fn kill(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let Some(container) = self.containers.get(id).filter(|_| self.is_running(id)) else { return Ok(()) };
        process::kill(container.state.pid, signal)?;
        if all && signal == libc::SIGKILL {
            self.cgroups.group(&container.cgroup)?.kill()?;
        }
        Ok(())
    }

    fn kill_all(&self) {
        for id in self.containers.keys() {
            self.kill(id, libc::SIGKILL, true).ok();
        }
        for exec in self.execs.values() {
            process::kill(exec.pid, libc::SIGKILL).ok();
        }
    }

    pub(super) fn finish_shutdown(&mut self) {
        let Some((connection, id)) = self.shutdown else { return };
        if self.containers.keys().any(|container| self.is_running(container)) {
            return;
        }
        if let Some(pid) = self.pod_pid.take() {
            process::kill(pid, libc::SIGKILL).ok();
        }
        self.say(connection, &Said::Answer { id, answer: Answer::Done }, &[]);
        self.over = true;
    }

    fn connect(&mut self, port: u16, (connection, id): (u64, u64)) {
        match connect(port) {
            Ok(stream) => self.say(connection, &Said::Answer { id, answer: Answer::Done }, &[stream.as_fd()]),
            Err(why) => self.say(connection, &Said::Answer { id, answer: Answer::Failed(why) }, &[]),
        }
    }

    fn attach(&mut self, container: &str, wanted: [bool; 3], (connection, id): (u64, u64)) {
        if !self.is_running(container) {
            let answer = Answer::NotRunning(container.to_owned());
            return self.say(connection, &Said::Answer { id, answer }, &[]);
        }
        match self.add_attached(container, wanted) {
            Ok(files) => {
                let files = files.iter().map(AsFd::as_fd).collect::<Vec<_>>();
                self.say(connection, &Said::Answer { id, answer: Answer::Done }, &files);
            }
            Err(error) => {
                let answer = Answer::Failed(error.to_string());
                self.say(connection, &Said::Answer { id, answer }, &[]);
            }
        }
    }

    /// Makes pipes for one more attached; returns the ends to give away.
    fn add_attached(&mut self, id: &str, [stdin, stdout, stderr]: [bool; 3]) -> Result<Vec<OwnedFd>> {
        let (mut given, mut attached) =
            (Vec::new(), Attached { outputs: [None, None], input: None, input_token: None });
        if stdin {
            let (read, write) = pipe(End::Read)?;
            let token = self.token(Source::AttachedInput(id.to_owned()));
            self.add(&read, token, EventFlags::IN)?;
            attached.input = Some(read);
            attached.input_token = Some(token);
            given.push(write);
        }
        for (output, wanted) in attached.outputs.iter_mut().zip([stdout, stderr]) {
            if wanted {
                let (read, write) = pipe(End::Write)?;
                let token = self.token(Source::Attached(id.to_owned()));
                self.add(&write, token, EventFlags::empty())?;
                *output = Some(Sink::new(write, token));
                given.push(read);
            }
        }
        let Some(container) = self.containers.get_mut(id) else {
            return Err(coracle_host::Error::new(format!("attach to {id}"), libc::ESRCH));
        };
        if container.attached.len() >= ATTACHED_MAX {
            return Err(coracle_host::Error::new(format!("attach to {id}"), libc::EUSERS));
        }
        container.attached.push(attached);
        Ok(given)
    }
}

fn take_streams(files: Vec<OwnedFd>, wanted: [bool; 3]) -> Streams {
    let mut files = files.into_iter();
    let [stdin, stdout, stderr] = wanted.map(|wanted| if wanted { files.next() } else { None });
    Streams { stdin, stdout, stderr }
}
