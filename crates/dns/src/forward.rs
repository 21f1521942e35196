//! Questions that others answer.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

use crate::cache::{Cache, Question};
use crate::message::{Code, Sections, UDP_BYTES_MAX};
use crate::resolv::Servers;

/// How long one server has. A stub resolver gives up after five seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Servers asked for one question, the same one again when there are not so many.
const ATTEMPTS_MAX: usize = 2;
/// Different questions that may wait for a server at a time.
const IN_FLIGHT_MAX: usize = 1024;

/// Asks the upstream servers.
pub(crate) struct Forwarder {
    servers: Servers,
    cache: Mutex<Cache>,
    in_flight: Mutex<HashMap<Question, watch::Receiver<Outcome>>>,
    /// The server that answered last is asked first.
    preferred: AtomicUsize,
}

#[derive(Debug, Clone)]
enum Outcome {
    Waiting,
    Answer(Arc<Sections>),
    Failed,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    pub(crate) fn new(servers: Servers) -> Forwarder {
        let (cache, in_flight) = (Mutex::default(), Mutex::default());
        Forwarder { servers, cache, in_flight, preferred: AtomicUsize::new(0) }
    }

    /// The answer if it is remembered.
    pub(crate) fn cached(&self, question: &Question) -> Option<Sections> {
        locked(&self.cache).get(question, Instant::now())
    }

    /// The answer of a server; `None` when none answers or too much is asked.
    pub(crate) async fn resolve(self: &Arc<Self>, question: Question) -> Option<Sections> {
        if let Some(known) = self.cached(&question) {
            return Some(known);
        }
        let mut outcome = self.join(question)?;
        let done = outcome.wait_for(|outcome| !matches!(outcome, Outcome::Waiting)).await.ok()?;
        match &*done {
            Outcome::Answer(sections) => Some(Sections::clone(sections)),
            Outcome::Waiting | Outcome::Failed => None,
        }
    }

    /// Asks, or waits with those who asked before: a question that comes back to us by a loop of servers waits for
    /// itself, and ends by the time limit instead of going round.
    fn join(self: &Arc<Self>, question: Question) -> Option<watch::Receiver<Outcome>> {
        let mut in_flight = locked(&self.in_flight);
        if let Some(waiting) = in_flight.get(&question) {
            return Some(waiting.clone());
        }
        if in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let (sender, receiver) = watch::channel(Outcome::Waiting);
        in_flight.insert(question.clone(), receiver.clone());
        drop(in_flight);
        let forwarder = self.clone();
        tokio::spawn(async move {
            let outcome = match forwarder.ask(&question).await {
                Some(sections) => {
                    locked(&forwarder.cache).put(question.clone(), &sections, Instant::now());
                    Outcome::Answer(Arc::new(sections))
                }
                None => Outcome::Failed,
            };
            locked(&forwarder.in_flight).remove(&question);
            sender.send_replace(outcome);
        });
        Some(receiver)
    }

    async fn ask(&self, question: &Question) -> Option<Sections> {
        let servers = self.servers.current();
        if servers.is_empty() {
            return None;
        }
        let first = self.preferred.load(Ordering::Relaxed);
        for attempt in 0..ATTEMPTS_MAX {
            let position = (first + attempt) % servers.len();
            let Some(server) = servers.get(position) else { continue };
            match tokio::time::timeout(ATTEMPT_TIMEOUT, ask_server(*server, question)).await {
                Ok(Ok(sections)) => {
                    self.preferred.store(position, Ordering::Relaxed);
                    return Some(sections);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server does not answer"),
                Err(_) => tracing::debug!(%server, "a name server does not answer in time"),
            }
        }
        None
    }
}

async fn ask_server(server: SocketAddr, question: &Question) -> io::Result<Sections> {
    let id: u16 = rand::random();
    let query = encode(question, id)?;
    let response = by_udp(server, &query, question, id).await?;
    let response = if response.metadata.truncation { by_tcp(server, &query, question, id).await? } else { response };
    Ok(Sections {
        code: Code(response.metadata.response_code),
        authoritative: false,
        answers: response.answers,
        authorities: response.authorities,
        additionals: response.additionals,
    })
}

fn encode(question: &Question, id: u16) -> io::Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = question.checking_disabled;
    message.add_query(Query::query(question.name.clone(), question.kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX);
    edns.set_dnssec_ok(question.dnssec_ok);
    message.set_edns(edns);
    message.to_vec().map_err(io::Error::other)
}

/// A socket of its own for each question: its random port and the kernel's check of the sender make forging hard.
async fn by_udp(server: SocketAddr, query: &[u8], question: &Question, id: u16) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = [0; 4096];
    loop {
        let size = socket.recv(&mut buffer).await?;
        // What is not the answer may be late, or a forgery: the true one may still come.
        if let Some(response) = buffer.get(..size).and_then(|bytes| answer_to(bytes, question, id)) {
            return Ok(response);
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &[u8], question: &Question, id: u16) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    answer_to(&bytes, question, id).ok_or_else(|| io::Error::other("the response is to another question"))
}

fn answer_to(bytes: &[u8], question: &Question, id: u16) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let metadata = &message.metadata;
    let asked = message
        .queries
        .first()
        .is_some_and(|query| query.name.to_lowercase() == question.name && query.query_type == question.kind);
    (metadata.id == id && metadata.message_type == MessageType::Response && asked).then_some(message)
}
