//! Proxies: which one serves a host, and how a connection through it is opened.

use std::net::IpAddr;

use base64::Engine as _;
use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::store::Proxies;

/// Bytes of a proxy's answer.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// A proxy to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub host: String,
    pub port: u16,
    /// `Basic ...`, when its URL names a user.
    pub authorization: Option<String>,
}

impl Proxies {
    /// The proxy for a host; `None`: it is reached directly.
    pub(crate) fn of(&self, secure: bool, host: &str, port: u16) -> Option<Proxy> {
        let url = if secure { &self.https } else { &self.http };
        if url.is_empty() || is_local(host) || self.except.iter().any(|rule| excepts(rule, host, port)) {
            return None;
        }
        parse(url)
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Source: Go `golang.org/x/net/http/httpproxy`, on which users of other runtimes rely.
fn excepts(rule: &str, host: &str, port: u16) -> bool {
    let rule = rule.trim().to_ascii_lowercase();
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let (Some(address), Some((network, bits))) = (address, rule.split_once('/')) {
        return in_network(address, network, bits);
    }
    let (name, wanted) = match rule.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') => (name.to_owned(), digits.parse::<u16>().ok()),
        _ => (rule, None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let host = host.to_ascii_lowercase();
    let domain = name.trim_start_matches('*').trim_start_matches('.');
    let whole = !name.starts_with(['.', '*']) && host == domain;
    whole || (address.is_none() && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let shift = 128_u32.saturating_sub(bits);
    address.is_ipv4() == network.is_ipv4()
        && number(address).checked_shr(shift).unwrap_or(0) == number(network).checked_shr(shift).unwrap_or(0)
}

fn parse(url: &str) -> Option<Proxy> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = full.parse().ok()?;
    let user = uri.authority()?.as_str().rsplit_once('@').map(|(user, _)| user);
    let encoded = user.map(|user| base64::engine::general_purpose::STANDARD.encode(user));
    Some(Proxy {
        host: uri.host()?.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 }),
        authorization: encoded.map(|encoded| format!("Basic {encoded}")),
    })
}

/// Asks for a connection to `target` (`host:port`) through a proxy that is connected.
pub(crate) async fn connect(stream: &mut TcpStream, proxy: &Proxy, target: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("proxyconnect tcp: {error}");
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request += &format!("Proxy-Authorization: {authorization}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the answer belongs to the other end.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err("proxyconnect tcp: the answer of the proxy has no end".to_owned());
        }
        let byte = stream.read_u8().await.map_err(failed)?;
        answer.push(byte);
    }
    let text = String::from_utf8_lossy(&answer);
    let first = text.lines().next().unwrap_or_default();
    let status = first.split_once(' ').map_or("", |(_, rest)| rest);
    if status.starts_with("200") { Ok(()) } else { Err(status.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_hosts_are_reached_directly() {
        let except = ["example.com", ".internal", "10.0.0.0/8", "host:5000"].map(str::to_owned).to_vec();
        let proxies = Proxies { http: "proxy:3128".into(), https: "http://me:pw@proxy.test:8080".into(), except };
        let through = |host: &str| proxies.of(true, host, 443).is_some();
        for (host, want) in [
            ("registry.test", true),
            ("example.com", false),
            ("a.example.com", false),
            ("notexample.com", true),
            ("x.internal", false),
            ("internal", true),
            ("10.1.2.3", false),
            ("11.1.2.3", true),
            ("host", true),
            ("localhost", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(through(host), want, "{host}");
        }
        assert_eq!(proxies.of(true, "host", 5000), None);
        let secure = proxies.of(true, "registry.test", 443).unwrap();
        assert_eq!((secure.host.as_str(), secure.port), ("proxy.test", 8080));
        assert_eq!(secure.authorization.as_deref(), Some("Basic bWU6cHc="));
        assert_eq!(proxies.of(false, "registry.test", 80).map(|proxy| proxy.port), Some(3128));
    }
}
