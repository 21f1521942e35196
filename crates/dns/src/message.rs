//! Queries read, responses written.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};

/// What a UDP response may be at most without EDNS (RFC 1035).
const UDP_BYTES_PLAIN: u16 = 512;
/// What we announce and send at most by UDP: no fragments on any path (DNS flag day 2020).
pub(crate) const UDP_BYTES_MAX: u16 = 1232;
/// A TCP message is counted by 16 bits.
const TCP_BYTES_MAX: usize = u16::MAX as usize;

/// How the query came, which says how long its response may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Udp,
    Tcp,
}

/// A query that can be answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) message: Message,
    pub(crate) query: Query,
    pub(crate) via: Via,
}

/// What to do with bytes that came in.
#[derive(Debug)]
pub(crate) enum Read {
    Request(Box<Request>),
    /// This is the response already.
    Refuse(Vec<u8>),
    /// Nothing is answered: it is no query, or nobody could make sense of an answer.
    Ignore,
}

/// Reads a query; what we do not speak is refused here.
pub(crate) fn read(bytes: &[u8], via: Via) -> Read {
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(_) => return malformed(bytes),
    };
    if message.metadata.message_type != MessageType::Query {
        return Read::Ignore;
    }
    if message.metadata.op_code != OpCode::Query {
        return refuse(&message, ResponseCode::NotImp, via);
    }
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refuse(&message, ResponseCode::BADVERS, via);
    }
    let [query] = message.queries.as_slice() else { return refuse(&message, ResponseCode::FormErr, via) };
    let transfer = matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    if query.query_class != DNSClass::IN || transfer {
        return refuse(&message, ResponseCode::Refused, via);
    }
    let query = query.clone();
    Read::Request(Box::new(Request { message, query, via }))
}

/// With an id and the bit of a query, FORMERR helps whoever sent it.
fn malformed(bytes: &[u8]) -> Read {
    let (Some([a, b]), Some(flags)) = (bytes.first_chunk::<2>(), bytes.get(2)) else { return Read::Ignore };
    const RESPONSE: u8 = 0x80;
    if bytes.len() < 12 || flags & RESPONSE != 0 {
        return Read::Ignore;
    }
    let message = Message::error_msg(u16::from_be_bytes([*a, *b]), OpCode::Query, ResponseCode::FormErr);
    message.to_vec().map_or(Read::Ignore, Read::Refuse)
}

fn refuse(message: &Message, code: ResponseCode, via: Via) -> Read {
    let mut response = skeleton(message);
    response.metadata.response_code = code;
    encode(response, message, via).map_or(Read::Ignore, Read::Refuse)
}

/// A response without records.
fn skeleton(request: &Message) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.checking_disabled = request.metadata.checking_disabled;
    response.metadata.recursion_available = true;
    response.queries = request.queries.clone();
    if let Some(edns) = &request.edns {
        let mut own = Edns::new();
        own.set_max_payload(UDP_BYTES_MAX);
        own.set_dnssec_ok(edns.flags().dnssec_ok);
        response.edns = Some(own);
    }
    response
}

/// The sections of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) code: Code,
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

/// A response code with a default, which is that all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) ResponseCode);

impl Default for Code {
    fn default() -> Code {
        Code(ResponseCode::NoError)
    }
}

impl Request {
    /// The response, cut to what the client takes. `None` only when it cannot be encoded at all.
    pub(crate) fn respond(&self, sections: Sections) -> Option<Vec<u8>> {
        let mut response = skeleton(&self.message);
        response.metadata.response_code = sections.code.0;
        response.metadata.authoritative = sections.authoritative;
        response.answers = sections.answers;
        response.authorities = sections.authorities;
        response.additionals = sections.additionals;
        encode(response, &self.message, self.via)
    }

    pub(crate) fn fail(&self) -> Option<Vec<u8>> {
        self.respond(Sections { code: Code(ResponseCode::ServFail), ..Sections::default() })
    }

    pub(crate) fn dnssec_ok(&self) -> bool {
        self.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }
}

fn bytes_max(request: &Message, via: Via) -> usize {
    match (via, &request.edns) {
        (Via::Tcp, _) => TCP_BYTES_MAX,
        (Via::Udp, None) => UDP_BYTES_PLAIN.into(),
        (Via::Udp, Some(edns)) => edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX).into(),
    }
}

/// Too long a response loses its additional records first, which nobody misses; then, marked as truncated, as many
/// answers as it must.
fn encode(mut response: Message, request: &Message, via: Via) -> Option<Vec<u8>> {
    let bytes_max = bytes_max(request, via);
    let whole = response.to_vec().ok()?;
    if whole.len() <= bytes_max {
        return Some(whole);
    }
    response.additionals.clear();
    let answers = std::mem::take(&mut response.answers);
    let mut fits = |count: usize, truncated: bool| -> Option<Vec<u8>> {
        response.answers = answers[..count].to_vec();
        response.metadata.truncation = truncated;
        if truncated {
            response.authorities.clear();
        }
        response.to_vec().ok().filter(|bytes| bytes.len() <= bytes_max)
    };
    if let Some(all) = fits(answers.len(), false) {
        return Some(all);
    }
    let (mut fitting, mut count_fits, mut count_fails) = (fits(0, true)?, 0, answers.len());
    while count_fails - count_fits > 1 {
        let middle = count_fits.midpoint(count_fails);
        match fits(middle, true) {
            Some(bytes) => (fitting, count_fits) = (bytes, middle),
            None => count_fails = middle,
        }
    }
    Some(fitting)
}
