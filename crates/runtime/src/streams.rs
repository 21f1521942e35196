//! Streams to processes: exec, attach, port-forward.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coracle_cri::{
    AttachRequest, BoxRead, BoxStream, BoxWrite, EXEC_SYNC_OUTPUT_BYTES_MAX, Error, ExecRequest, ExecStreams, ExecSync,
    Result, TerminalSize,
};
use coracle_host::pty;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};

use crate::client::{ShimClient, done};
use crate::runtime::{Container, Runtime, internal};
use crate::spec::{Answer, Call};

/// How long a command whose caller has left may take to heed SIGHUP.
const HANGUP_WAIT: Duration = Duration::from_secs(2);
/// How long to read on after a command has ended while something else holds its output open.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
const RESIZES_MAX: usize = 8;

/// A pipe or terminal as an async stream. A terminal whose program has gone reads as ended.
struct FdStream(Option<AsyncFd<OwnedFd>>);

impl FdStream {
    fn new(file: OwnedFd) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&file).map_err(internal)?;
        rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK).map_err(internal)?;
        #[expect(deprecated, reason = "sound with an OwnedFd, which nobody else closes")]
        let file = AsyncFd::new(file).map_err(internal)?;
        Ok(Self(Some(file)))
    }
}

impl AsyncRead for FdStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(file) = &self.0 else { return Poll::Ready(Ok(())) };
        loop {
            let mut guard = ready!(file.poll_read_ready(cx))?;
            let space = buffer.initialize_unfilled();
            match guard.try_io(|file| rustix::io::read(file, space).map_err(io::Error::from)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(file) = &self.0 else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        loop {
            let mut guard = ready!(file.poll_write_ready(cx))?;
            match guard.try_io(|file| rustix::io::write(file, bytes).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes: whoever reads sees the end.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

fn reader(file: Option<OwnedFd>) -> Result<Option<BoxRead>> {
    file.map(|file| Ok(Box::pin(FdStream::new(file)?) as BoxRead)).transpose()
}

fn writer(file: Option<OwnedFd>) -> Result<Option<BoxWrite>> {
    file.map(|file| Ok(Box::pin(FdStream::new(file)?) as BoxWrite)).transpose()
}

fn pipe(wanted: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if !wanted {
        return Ok((None, None));
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(internal)?;
    Ok((Some(read), Some(write)))
}

fn running(container: &Container) -> Result<()> {
    if container.is_running() {
        return Ok(());
    }
    Err(Error::FailedPrecondition(format!("container {:?} is not running", container.record.id)))
}

impl Runtime {
    pub(crate) async fn start_exec(&self, id: &str, request: &ExecRequest) -> Result<ExecStreams> {
        let container = self.container(id)?;
        running(&container)?;
        if request.command.is_empty() {
            return Err(Error::InvalidArgument("exec without a command".into()));
        }
        let shim = self.shim_of(&container)?;
        let pipes = !request.tty;
        let (stdin_for_it, stdin) = pipe(pipes && request.stdin)?;
        let (stdout, stdout_for_it) = pipe(pipes && request.stdout)?;
        let (stderr, stderr_for_it) = pipe(pipes && request.stderr)?;
        let (exec, code) = shim.expect_exec();
        let call = Call::Exec {
            container: id.to_owned(),
            exec,
            arguments: request.command.clone(),
            tty: request.tty,
            stdin: stdin_for_it.is_some(),
            stdout: stdout_for_it.is_some(),
            stderr: stderr_for_it.is_some(),
        };
        let files = [stdin_for_it, stdout_for_it, stderr_for_it].into_iter().flatten().collect::<Vec<_>>();
        let reply = shim.call_with(call, &files).await;
        drop(files);
        let started = reply.and_then(|(answer, files)| match answer {
            Answer::Failed(why) => Err(Error::Internal(format!(
                "failed to exec in container: failed to start exec: unable to start container process: {why}"
            ))),
            answer => done(answer).map(|()| files),
        });
        let files = started.inspect_err(|_| shim.forget_exec(exec))?;
        let (resize, sizes) = mpsc::channel(RESIZES_MAX);
        let (exit_sender, exit) = oneshot::channel();
        tokio::spawn(watch_exec(shim, exec, code, exit_sender));
        let terminal = files.into_iter().next();
        let Some(terminal) = terminal else {
            let (stdin, stdout, stderr) = (writer(stdin)?, reader(stdout)?, reader(stderr)?);
            return Ok(ExecStreams { stdin, stdout, stderr, resize, exit });
        };
        let copy = |file: &OwnedFd| file.try_clone().map_err(internal);
        let stdin = if request.stdin { Some(copy(&terminal)?) } else { None };
        let stdout = if request.stdout { Some(copy(&terminal)?) } else { None };
        tokio::spawn(resize_terminal(terminal, sizes));
        Ok(ExecStreams { stdin: writer(stdin)?, stdout: reader(stdout)?, stderr: None, resize, exit })
    }

    pub(crate) async fn run_exec(&self, id: &str, command: &[String], timeout: Option<Duration>) -> Result<ExecSync> {
        let request = ExecRequest { command: command.to_vec(), tty: false, stdin: false, stdout: true, stderr: true };
        let streams = self.start_exec(id, &request).await?;
        let ExecStreams { stdout, stderr, exit, .. } = streams;
        let run = async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = read_to_exit((stdout, &mut out), (stderr, &mut err), exit).await;
            let exit_code = code.map_err(|_| Error::Unavailable("the sandbox ended during the command".into()))??;
            Ok((exit_code, out, err))
        };
        let result = match timeout {
            Some(limit) if !limit.is_zero() => tokio::time::timeout(limit, run)
                .await
                .map_err(|_| Error::DeadlineExceeded(format!("command {:?} timed out", command.join(" "))))?,
            _ => run.await,
        };
        result.map(|(exit_code, stdout, stderr)| ExecSync { stdout, stderr, exit_code })
    }

    pub(crate) async fn start_attach(self: &Arc<Self>, id: &str, request: &AttachRequest) -> Result<ExecStreams> {
        let container = self.container(id)?;
        running(&container)?;
        let shim = self.shim_of(&container)?;
        let config = &container.record.config;
        let wanted = [request.stdin && config.stdin, request.stdout, request.stderr && !config.tty];
        let [stdin, stdout, stderr] = wanted;
        let call = Call::Attach { container: id.to_owned(), stdin, stdout, stderr };
        let (answer, files) = shim.call_with(call, &[]).await?;
        done(answer)?;
        let mut files = files.into_iter();
        let [stdin, stdout, stderr] = wanted.map(|wanted| if wanted { files.next() } else { None });
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES_MAX);
        let (exit_sender, exit) = oneshot::channel();
        let (runtime, id) = (self.clone(), id.to_owned());
        let mut exited = container.exited.subscribe();
        drop(container);
        tokio::spawn(async move {
            let mut exit_sender = exit_sender;
            while !*exited.borrow_and_update() {
                tokio::select! {
                    Some(size) = sizes.recv() => {
                        let call = Call::Resize { container: id.clone(), width: size.width, height: size.height };
                        shim.order(call).await.ok();
                    }
                    _ = exited.changed() => {}
                    () = exit_sender.closed() => return,
                }
            }
            let code = runtime.container(&id).map(|container| container.run.exit_code);
            exit_sender.send(code).ok();
        });
        Ok(ExecStreams { stdin: writer(stdin)?, stdout: reader(stdout)?, stderr: reader(stderr)?, resize, exit })
    }

    pub(crate) async fn forward(&self, sandbox_id: &str, port: u16) -> Result<BoxStream> {
        let sandbox = self.sandbox(sandbox_id)?;
        let shim = sandbox
            .shim
            .ok_or_else(|| Error::FailedPrecondition(format!("sandbox container {sandbox_id:?} is not running")))?;
        let (answer, files) = shim.call_with(Call::Connect { port }, &[]).await?;
        if let Answer::Failed(why) = answer {
            return Err(Error::Internal(format!("failed to connect to localhost:{port} inside sandbox: {why}")));
        }
        done(answer)?;
        let file = files.into_iter().next().ok_or_else(|| internal("no connection came from the shim"))?;
        let stream = std::net::TcpStream::from(file);
        stream.set_nonblocking(true).map_err(internal)?;
        Ok(Box::pin(tokio::net::TcpStream::from_std(stream).map_err(internal)?))
    }
}

/// Reads both streams until the command has ended, and on for a while if they are still open.
async fn read_to_exit(
    out: (Option<BoxRead>, &mut Vec<u8>),
    err: (Option<BoxRead>, &mut Vec<u8>),
    mut exit: oneshot::Receiver<Result<i32>>,
) -> std::result::Result<Result<i32>, oneshot::error::RecvError> {
    let read = async { tokio::join!(read_all(out.0, out.1), read_all(err.0, err.1)) };
    tokio::pin!(read);
    let code = tokio::select! {
        code = &mut exit => code,
        _ = &mut read => return exit.await,
    };
    // Something that the command left behind may hold its output open for ever.
    tokio::time::timeout(DRAIN_WAIT, &mut read).await.ok();
    code
}

async fn read_all(from: Option<BoxRead>, to: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 << 10];
    // What goes beyond the limit is read and dropped, so that the command does not stall.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = EXEC_SYNC_OUTPUT_BYTES_MAX.saturating_sub(to.len());
        to.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
    }
}

/// Hands the exit code on; ends the command when nobody wants it any more.
async fn watch_exec(
    shim: Arc<ShimClient>,
    exec: u64,
    code: oneshot::Receiver<i32>,
    mut wanted_by: oneshot::Sender<Result<i32>>,
) {
    let lost = || Error::Unavailable("the sandbox ended during the command".into());
    tokio::pin!(code);
    tokio::select! {
        code = &mut code => {
            wanted_by.send(code.map_err(|_| lost())).ok();
            return;
        }
        () = wanted_by.closed() => {}
    }
    shim.order(Call::KillExec { exec, signal: libc::SIGHUP }).await.ok();
    if tokio::time::timeout(HANGUP_WAIT, &mut code).await.is_err() {
        shim.order(Call::KillExec { exec, signal: libc::SIGKILL }).await.ok();
    }
}

async fn resize_terminal(terminal: OwnedFd, mut sizes: mpsc::Receiver<TerminalSize>) {
    while let Some(size) = sizes.recv().await {
        pty::resize(terminal.as_fd(), size.width, size.height).ok();
    }
}
