//! Queries in, responses out, by UDP and TCP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::cache::Question;
use crate::forward::Forwarder;
use crate::index::Index;
use crate::lookup::{Found, Zone};
use crate::message::{self, Code, Read, Request, Sections, Via};
use crate::resolv::Servers;
use crate::{Config, Error};

/// UDP queries that may wait for an upstream server at a time; more are told to try later.
const FORWARDED_MAX: usize = 4096;
/// TCP connections at a time.
const CONNECTIONS_MAX: usize = 1024;
/// How long a TCP connection may say nothing (RFC 7766 recommends a few seconds).
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10);
/// CNAMEs followed within the cluster for one question.
const ALIASES_MAX: usize = 8;
/// What a query may be at most.
const QUERY_BYTES_MAX: usize = 4096;

/// Answers queries from an index, and from upstream servers.
pub struct Server {
    zone: Zone,
    index: RwLock<Index>,
    /// The index holds what there is; before that nothing is said about the cluster.
    complete: AtomicBool,
    forwarder: Arc<Forwarder>,
    forwarded: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    rotation: AtomicUsize,
}

/// What is to be sent, or who must be asked first.
enum Step {
    Respond(Option<Vec<u8>>),
    /// The answer of the upstream servers to this comes after these records.
    Ask(Vec<Record>, Question),
}

impl Server {
    pub fn new(config: &Config) -> Result<Arc<Server>, Error> {
        let servers = Servers::new(config.upstreams.clone(), config.listen.clone());
        Ok(Arc::new(Server {
            zone: Zone::new(&config.cluster_domain, config.ttl_seconds)?,
            index: RwLock::default(),
            complete: AtomicBool::new(false),
            forwarder: Arc::new(Forwarder::new(servers)),
            forwarded: Arc::new(Semaphore::new(FORWARDED_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            rotation: AtomicUsize::new(0),
        }))
    }

    /// Changes what there is in the cluster.
    pub fn update(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// From now on, what is not in the index does not exist.
    pub fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    fn step(&self, request: &Request) -> Step {
        let (mut name, kind) = (request.query.name.clone(), request.query.query_type);
        let mut aliases: Vec<Record> = Vec::new();
        for _ in 0..=ALIASES_MAX {
            let found = {
                let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
                self.zone.lookup(&index, &name, kind)
            };
            match found {
                Found::Elsewhere => return Step::Ask(aliases, question(request, &name)),
                _ if !self.complete.load(Ordering::Acquire) => return Step::Respond(request.fail()),
                Found::Alias(record, target) => {
                    aliases.push(*record);
                    if kind == RecordType::CNAME {
                        return Step::Respond(self.respond(request, aliases, Vec::new()));
                    }
                    name = target;
                }
                Found::NoName => return Step::Respond(self.negative(request, ResponseCode::NXDomain, aliases)),
                Found::Records { answers, .. } if answers.is_empty() => {
                    return Step::Respond(self.negative(request, ResponseCode::NoError, aliases));
                }
                Found::Records { mut answers, additionals } => {
                    self.rotate(&mut answers);
                    aliases.extend(answers);
                    return Step::Respond(self.respond(request, aliases, additionals));
                }
            }
        }
        Step::Respond(request.fail())
    }

    /// Clients take the first address: each is first in its turn.
    fn rotate(&self, answers: &mut [Record]) {
        if answers.len() > 1 {
            let turn = self.rotation.fetch_add(1, Ordering::Relaxed);
            answers.rotate_left(turn % answers.len());
        }
    }

    fn respond(&self, request: &Request, answers: Vec<Record>, additionals: Vec<Record>) -> Option<Vec<u8>> {
        request.respond(Sections { authoritative: true, answers, additionals, ..Sections::default() })
    }

    fn negative(&self, request: &Request, code: ResponseCode, aliases: Vec<Record>) -> Option<Vec<u8>> {
        request.respond(Sections {
            code: Code(code),
            authoritative: true,
            answers: aliases,
            authorities: vec![self.zone.soa()],
            additionals: Vec::new(),
        })
    }

    async fn ask(&self, request: &Request, aliases: Vec<Record>, question: Question) -> Option<Vec<u8>> {
        match self.forwarder.resolve(question).await {
            Some(sections) => request.respond(after_aliases(aliases, sections)),
            None => request.fail(),
        }
    }

    /// Answers on a UDP socket until it is dropped.
    pub async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = [0; QUERY_BYTES_MAX];
        loop {
            let (size, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An ICMP error to an earlier answer; nothing is wrong with the socket.
                Err(_) => continue,
            };
            let Some(bytes) = buffer.get(..size) else { continue };
            self.handle_datagram(&socket, bytes, peer).await;
        }
    }

    async fn handle_datagram(self: &Arc<Self>, socket: &Arc<UdpSocket>, bytes: &[u8], peer: SocketAddr) {
        let request = match message::read(bytes, Via::Udp) {
            Read::Request(request) => request,
            Read::Refuse(response) => return send(socket, &response, peer).await,
            Read::Ignore => return,
        };
        let (aliases, question) = match self.step(&request) {
            Step::Respond(response) => return send(socket, &response.unwrap_or_default(), peer).await,
            Step::Ask(aliases, question) => (aliases, question),
        };
        if let Some(sections) = self.forwarder.cached(&question) {
            let response = request.respond(after_aliases(aliases, sections));
            return send(socket, &response.unwrap_or_default(), peer).await;
        }
        let Ok(slot) = self.forwarded.clone().try_acquire_owned() else {
            return send(socket, &request.fail().unwrap_or_default(), peer).await;
        };
        let (server, socket) = (self.clone(), socket.clone());
        tokio::spawn(async move {
            let response = server.ask(&request, aliases, question).await;
            send(&socket, &response.unwrap_or_default(), peer).await;
            drop(slot);
        });
    }

    /// Answers on connections of a TCP listener until it is dropped.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok(slot) = self.connections.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                // A client that goes away is no error of ours.
                let _ = server.serve_connection(stream).await;
                drop(slot);
            });
        }
    }

    async fn serve_connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let Ok(bytes) = tokio::time::timeout(CONNECTION_IDLE_MAX, read_frame(&mut stream)).await else {
                return Ok(());
            };
            let response = match message::read(&bytes?, Via::Tcp) {
                Read::Request(request) => match self.step(&request) {
                    Step::Respond(response) => response,
                    Step::Ask(aliases, question) => self.ask(&request, aliases, question).await,
                },
                Read::Refuse(response) => Some(response),
                Read::Ignore => None,
            };
            let Some(response) = response else { return Ok(()) };
            let length = u16::try_from(response.len()).map_err(std::io::Error::other)?;
            let mut frame = length.to_be_bytes().to_vec();
            frame.extend(response);
            tokio::time::timeout(CONNECTION_IDLE_MAX, stream.write_all(&frame)).await??;
        }
    }
}

async fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_BYTES_MAX {
        return Err(std::io::Error::other("the query is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn send(socket: &UdpSocket, response: &[u8], peer: SocketAddr) {
    if !response.is_empty() {
        // Whoever does not get it asks again.
        let _ = socket.send_to(response, peer).await;
    }
}

fn question(request: &Request, name: &Name) -> Question {
    Question {
        name: name.to_lowercase(),
        kind: request.query.query_type,
        dnssec_ok: request.dnssec_ok(),
        checking_disabled: request.message.metadata.checking_disabled,
    }
}

fn after_aliases(mut aliases: Vec<Record>, mut sections: Sections) -> Sections {
    if !aliases.is_empty() {
        aliases.append(&mut sections.answers);
        sections.answers = aliases;
    }
    sections
}
