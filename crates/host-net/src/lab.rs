//! Network namespaces for tests: each is held by one thread and gone with it.
//!
//! A socket stays in the namespace of the thread that made it, so a test makes its sockets with [`Namespace::run`] and
//! uses them from anywhere.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// How long a connection of a test may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A network namespace with nothing in it but `lo`, which is down.
pub struct Namespace {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace::new()
    }
}

impl Namespace {
    /// Panics without the right to make one: such tests run as root.
    pub fn new() -> Namespace {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (started, path) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of one's own needs root");
            let path = format!("/proc/{}/task/{}/ns/net", nix::unistd::getpid(), nix::unistd::gettid());
            started.send(PathBuf::from(path)).expect("the maker waits");
            queue.into_iter().for_each(|job| job());
        });
        let path = path.recv().expect("the namespace was made");
        Namespace { path, jobs: Some(jobs), thread: Some(thread) }
    }

    /// A path that names the namespace as long as this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a closure inside the namespace.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let jobs = self.jobs.as_ref().expect("only dropping takes it");
        let job = move || {
            let _ = done.send(job());
        };
        jobs.send(Box::new(job)).expect("the thread lives as long as this value");
        result.recv().expect("the closure did not panic")
    }

    /// Runs a future to its end on a runtime whose threads are all inside the namespace.
    pub fn block_on<T: Send + 'static>(&self, job: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(job())
        })
    }

    /// A server of both families that answers every connection with `answer`, until the process ends.
    pub fn serve_tcp(&self, port: u16, answer: &str) {
        let listener = self.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("the port is free"));
        let answer = answer.to_owned();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let mut connection = connection;
                let peer = connection.peer_addr().map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
                let _ = connection.write_all(format!("{answer} {peer}").as_bytes());
            }
        });
    }

    /// A server that answers every datagram with `answer`, until the process ends.
    pub fn serve_udp(&self, port: u16, answer: &str) {
        let socket = self.run(move || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("the port is free"));
        let answer = answer.to_owned();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{answer} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }

    /// What the server says: the answer and the client's address as the server sees it; or why not.
    pub fn call_tcp(&self, to: &str) -> String {
        let to: SocketAddr = to.parse().expect("an address and a port");
        self.run(move || {
            let call = || -> std::io::Result<String> {
                let mut connection = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
                connection.set_read_timeout(Some(CONNECT_TIMEOUT))?;
                let mut text = String::new();
                connection.read_to_string(&mut text)?;
                Ok(text)
            };
            call().unwrap_or_else(|error| format!("{:?}", error.kind()))
        })
    }

    /// The same by UDP, from a fixed source port when one is given.
    pub fn call_udp(&self, to: &str, source_port: u16) -> String {
        let to: SocketAddr = to.parse().expect("an address and a port");
        self.run(move || {
            let call = || -> std::io::Result<String> {
                let any: IpAddr =
                    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((any, source_port))?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
                socket.send(b"?")?;
                let mut buffer = [0; 1500];
                let size = socket.recv(&mut buffer)?;
                Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
            };
            call().unwrap_or_else(|error| format!("{:?}", error.kind()))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
