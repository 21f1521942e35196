//! Names of hosts to addresses, without the C library: a static binary has no working `getaddrinfo`.
//!
//! Reads `/etc/hosts` and `/etc/resolv.conf` on every call, as both change, and asks over UDP, over TCP when an answer
//! is cut short. Source: RFC 1035, RFC 3596, resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const ATTEMPTS: usize = 2;
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const MESSAGE_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 253;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// Why a name has no address, worded as users know it: `lookup nope.example: no such host`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lookup {name}: {why}")]
pub struct LookupError {
    name: String,
    why: String,
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    searches: Vec<String>,
    dots_min: usize,
}

/// What one server said of one name.
enum Answer {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    Useless(String),
}

/// The addresses of a host, those of IPv4 first. An address is its own.
pub async fn lookup(host: &str) -> Result<Vec<IpAddr>, LookupError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let listed = listed(&read("/etc/hosts"), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let settings = parse_settings(&read("/etc/resolv.conf"));
    let mut why = "no such host".to_owned();
    for name in candidates(host, &settings) {
        match ask_all(&name, &settings.servers).await {
            Answer::Addresses(addresses) if !addresses.is_empty() => return Ok(addresses),
            Answer::Addresses(_) | Answer::NoSuchName => {}
            Answer::Useless(reason) => why = reason,
        }
    }
    Err(LookupError { name: host.to_owned(), why })
}

fn listed(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let named = lines.filter_map(|line| {
        let mut fields = line.split_whitespace();
        let address = fields.next()?.parse().ok()?;
        fields.any(|field| field.eq_ignore_ascii_case(name)).then_some(address)
    });
    named.collect()
}

fn parse_settings(text: &str) -> Settings {
    let mut settings = Settings { servers: Vec::new(), searches: Vec::new(), dots_min: 1 };
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => {
                let address = fields.next().and_then(|text| text.split('%').next()?.parse::<IpAddr>().ok());
                settings.servers.extend(address.map(|address| SocketAddr::new(address, 53)));
            }
            Some("search" | "domain") => settings.searches = fields.map(str::to_owned).take(SEARCHES_MAX).collect(),
            Some("options") => {
                let dots = fields.filter_map(|option| option.strip_prefix("ndots:")).next_back();
                settings.dots_min = dots.and_then(|dots| dots.parse().ok()).unwrap_or(settings.dots_min);
            }
            _ => {}
        }
    }
    settings.servers.truncate(SERVERS_MAX);
    if settings.servers.is_empty() {
        settings.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
    }
    settings
}

fn candidates(host: &str, settings: &Settings) -> Vec<String> {
    if let Some(absolute) = host.strip_suffix('.') {
        return vec![absolute.to_owned()];
    }
    let mut names = settings.searches.iter().map(|search| format!("{host}.{search}")).collect::<Vec<_>>();
    let dots = host.matches('.').count();
    let at = if dots >= settings.dots_min { 0 } else { names.len() };
    names.insert(at, host.to_owned());
    names
}

async fn ask_all(name: &str, servers: &[SocketAddr]) -> Answer {
    let mut last = "no such host".to_owned();
    for server in (0..ATTEMPTS).flat_map(|_| servers) {
        let (v4, v6) = tokio::join!(ask(name, TYPE_A, *server), ask(name, TYPE_AAAA, *server));
        match (v4, v6) {
            (Answer::Addresses(mut addresses), Answer::Addresses(more)) => {
                addresses.extend(more);
                return Answer::Addresses(addresses);
            }
            (Answer::Addresses(addresses), _) | (_, Answer::Addresses(addresses)) if !addresses.is_empty() => {
                return Answer::Addresses(addresses);
            }
            (Answer::NoSuchName, _) | (_, Answer::NoSuchName) => return Answer::NoSuchName,
            (Answer::Useless(why), _) | (_, Answer::Useless(why)) => last = why,
        }
    }
    Answer::Useless(last)
}

async fn ask(name: &str, kind: u16, server: SocketAddr) -> Answer {
    let Some((id, query)) = query(name, kind) else { return Answer::NoSuchName };
    let asked = async {
        match ask_udp(&query, id, server).await? {
            reply if is_cut(&reply) => ask_tcp(&query, server).await,
            reply => Ok(reply),
        }
    };
    match tokio::time::timeout(ANSWER_WAIT, asked).await {
        Ok(Ok(reply)) => parse_reply(&reply, kind).unwrap_or_else(|| Answer::Useless("server misbehaving".into())),
        Ok(Err(error)) => Answer::Useless(format!("on {server}: {error}")),
        Err(_) => Answer::Useless(format!("on {server}: i/o timeout")),
    }
}

async fn ask_udp(query: &[u8], id: [u8; 2], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let own: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let count = socket.recv(&mut buffer).await?;
        // Whatever is not the answer to this question was sent by somebody else.
        if buffer.get(..2) == Some(id.as_slice()) && count >= 12 {
            buffer.truncate(count);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(0).to_be_bytes();
    stream.write_all(&[&length, query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

fn query(name: &str, kind: u16) -> Option<([u8; 2], Vec<u8>)> {
    let id = random_id();
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    // One question, recursion desired.
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    Some((id, message))
}

fn random_id() -> [u8; 2] {
    use std::io::Read;
    let mut id = [0; 2];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut id));
    if read.is_err() {
        return std::process::id().to_be_bytes().first_chunk().copied().unwrap_or_default();
    }
    id
}

fn is_cut(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|flags| flags & 2 != 0)
}

/// `None` for what is not an answer.
fn parse_reply(reply: &[u8], kind: u16) -> Option<Answer> {
    let number = |at: usize| Some(u16::from_be_bytes(*reply.get(at..)?.first_chunk()?));
    match reply.get(3)? & 0xf {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Useless(format!("server misbehaving (code {code})"))),
    }
    let mut at = 12;
    for _ in 0..number(4)? {
        at = skip_name(reply, at)? + 4;
    }
    let mut addresses = Vec::new();
    // Aliases come along with what they lead to; the addresses are all that matters.
    for _ in 0..number(6)? {
        at = skip_name(reply, at)?;
        let (found, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = reply.get(at + 10..at + 10 + length)?;
        if found == kind {
            match (kind, length) {
                (TYPE_A, 4) => addresses.push(IpAddr::from(*data.first_chunk::<4>()?)),
                (TYPE_AAAA, 16) => addresses.push(IpAddr::from(*data.first_chunk::<16>()?)),
                _ => {}
            }
        }
        at += 10 + length;
    }
    Some(Answer::Addresses(addresses))
}

fn skip_name(reply: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *reply.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_candidates() {
        let settings = parse_settings("nameserver 192.0.2.1\nsearch a.test b.test\noptions ndots:2 edns0\n");
        assert_eq!(settings.servers, ["192.0.2.1:53".parse().unwrap()]);
        assert_eq!(candidates("x.y", &settings), ["x.y.a.test", "x.y.b.test", "x.y"]);
        assert_eq!(candidates("x.y.z", &settings), ["x.y.z", "x.y.z.a.test", "x.y.z.b.test"]);
        assert_eq!(candidates("x.", &settings), ["x"]);
        assert_eq!(parse_settings("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn hosts_files_are_read() {
        let addresses = listed("127.0.0.1 localhost\n192.0.2.7 A.test b # c\n", "a.test");
        assert_eq!(addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(listed("192.0.2.7 a # c\n", "c").is_empty());
    }

    #[test]
    fn replies_are_parsed_and_bounded() {
        let (_, mut reply) = query("a.test", TYPE_A).unwrap();
        reply[7] = 2;
        // An alias, then the address; both names point back at the question.
        reply.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 9]);
        let Some(Answer::Addresses(addresses)) = parse_reply(&reply, TYPE_A) else { panic!("an answer") };
        assert_eq!(addresses, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
        for length in 0..reply.len() {
            assert!(parse_reply(&reply[..length], TYPE_A).is_none());
        }
        assert!(query(&"a".repeat(64), TYPE_A).is_none());
    }

    #[tokio::test]
    async fn addresses_are_their_own() {
        assert_eq!(lookup("[::1]").await.unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert_eq!(lookup("192.0.2.1").await.unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }
}
