//! The runtime's connection to one shim.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_cri::{Error, Result};
use coracle_host::unix;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::spec::{Answer, Call, Request, RunState, Said};

/// How long a shim may take to answer. Starting a container can wait for slow storage.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(120);

/// What a shim reports of its own accord.
#[derive(Debug)]
pub(crate) enum News {
    Exited {
        container: String,
        state: RunState,
    },
    /// The connection broke: the shim has ended.
    Lost,
}

type Reply = (Answer, Vec<OwnedFd>);

/// A connection to a shim. Dropping it leaves the shim alone.
pub(crate) struct ShimClient {
    socket: Arc<AsyncFd<OwnedFd>>,
    shared: Arc<Shared>,
    next: AtomicU64,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
    execs: Mutex<HashMap<u64, oneshot::Sender<i32>>>,
}

impl ShimClient {
    /// Connects; news goes to `news` until it is dropped.
    pub fn connect(socket: &Path, news: mpsc::UnboundedSender<News>) -> Result<Self> {
        let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
        let socket = unix::connect(socket).map_err(|error| internal(&error))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        #[expect(deprecated, reason = "sound with an OwnedFd, which nobody else closes")]
        let socket = AsyncFd::with_interest(socket, interest).map_err(|error| internal(&error))?;
        let socket = Arc::new(socket);
        let shared = Arc::new(Shared::default());
        *lock(&shared.waiting) = Some(HashMap::new());
        let reader = tokio::spawn(read(socket.clone(), shared.clone(), news));
        Ok(Self { socket, shared, next: AtomicU64::new(1), reader })
    }

    /// Asks, and waits for the answer.
    pub async fn call(&self, call: Call) -> Result<Answer> {
        Ok(self.call_with(call, &[]).await?.0)
    }

    /// Asks for something that succeeds or fails.
    pub async fn order(&self, call: Call) -> Result<()> {
        done(self.call(call).await?)
    }

    /// Asks with descriptors; the answer may carry some too.
    pub async fn call_with(&self, call: Call, files: &[OwnedFd]) -> Result<Reply> {
        let id = self.next_number();
        let lost = || Error::Unavailable("the shim of the sandbox has ended".into());
        let (sender, receiver) = oneshot::channel();
        lock(&self.shared.waiting).as_mut().ok_or_else(lost)?.insert(id, sender);
        let bytes = serde_json::to_vec(&Request { id, call }).map_err(|error| Error::Internal(error.to_string()))?;
        if bytes.len() > unix::MESSAGE_BYTES_MAX {
            return Err(Error::InvalidArgument("argument list too long".into()));
        }
        if let Err(error) = self.send(&bytes, files).await {
            if let Some(waiting) = lock(&self.shared.waiting).as_mut() {
                waiting.remove(&id);
            }
            return Err(error);
        }
        match tokio::time::timeout(ANSWER_WAIT_MAX, receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(Error::DeadlineExceeded("the shim of the sandbox does not answer".into())),
        }
    }

    async fn send(&self, bytes: &[u8], files: &[OwnedFd]) -> Result<()> {
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| {
            let files = files.iter().map(AsFd::as_fd).collect::<Vec<_>>();
            unix::send(socket, bytes, &files).map_err(|error| std::io::Error::from_raw_os_error(error.errno()))
        });
        sent.await.map_err(|error| Error::Unavailable(format!("send to the shim of the sandbox: {error}")))
    }

    /// A number for a command, and where its exit code will arrive. Ask before starting it.
    pub fn expect_exec(&self) -> (u64, oneshot::Receiver<i32>) {
        let id = self.next_number();
        let (sender, receiver) = oneshot::channel();
        lock(&self.shared.execs).insert(id, sender);
        (id, receiver)
    }

    pub fn forget_exec(&self, id: u64) {
        lock(&self.shared.execs).remove(&id);
    }

    /// Numbers of commands must not repeat those of an earlier process on the same shim.
    fn next_number(&self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (u64::from(std::process::id()) << 32) | (number & 0xffff_ffff)
    }
}

impl Drop for ShimClient {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What an answer without content means.
pub(crate) fn done(answer: Answer) -> Result<()> {
    match answer {
        Answer::Failed(why) => Err(Error::Internal(why)),
        Answer::NotRunning(id) => Err(Error::FailedPrecondition(format!("container {id:?} is not running"))),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(socket: Arc<AsyncFd<OwnedFd>>, shared: Arc<Shared>, news: mpsc::UnboundedSender<News>) {
    loop {
        let received = socket.async_io(Interest::READABLE, |socket| {
            unix::receive(socket).map_err(|error| std::io::Error::from_raw_os_error(error.errno()))
        });
        let Ok(Some(message)) = received.await else { break };
        match serde_json::from_slice(&message.bytes) {
            Ok(Said::Answer { id, answer }) => {
                let waiting = lock(&shared.waiting).as_mut().and_then(|waiting| waiting.remove(&id));
                if let Some(sender) = waiting {
                    sender.send((answer, message.descriptors)).ok();
                }
            }
            Ok(Said::Exited { container, state }) => {
                news.send(News::Exited { container, state }).ok();
            }
            Ok(Said::ExecExited { exec, code }) => {
                if let Some(sender) = lock(&shared.execs).remove(&exec) {
                    sender.send(code).ok();
                }
            }
            Err(error) => tracing::warn!(%error, "a shim said something that cannot be understood"),
        }
    }
    // Everyone who waits hears that nothing will come.
    lock(&shared.waiting).take();
    lock(&shared.execs).clear();
    news.send(News::Lost).ok();
}
