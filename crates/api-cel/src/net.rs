//! Addresses, ranges and URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    error::EvalError,
    functions::texts,
    val::{Result, Val},
};

pub(crate) fn call<'a>(name: &str, args: &[Val<'a>]) -> Option<Result<Val<'a>>> {
    Some(match (name, args) {
        ("ip", [Val::Str(text)]) => ip(text).map(Val::Ip),
        ("ip", [Val::Cidr(ip, _)]) => Ok(Val::Ip(*ip)),
        ("isIP", [Val::Str(text)]) => Ok(Val::Bool(ip(text).is_ok())),
        ("ip.isCanonical", [Val::Str(text)]) => ip(text).map(|ip| Val::Bool(ip.to_string() == **text)),
        ("family", [Val::Ip(ip)]) => Ok(Val::Int(if ip.is_ipv4() { 4 } else { 6 })),
        ("isUnspecified", [Val::Ip(ip)]) => Ok(Val::Bool(ip.is_unspecified())),
        ("isLoopback", [Val::Ip(ip)]) => Ok(Val::Bool(ip.is_loopback())),
        ("isLinkLocalMulticast", [Val::Ip(ip)]) => Ok(Val::Bool(is_link_local_multicast(ip))),
        ("isLinkLocalUnicast", [Val::Ip(ip)]) => Ok(Val::Bool(is_link_local(ip))),
        ("isGlobalUnicast", [Val::Ip(ip)]) => Ok(Val::Bool(is_global_unicast(ip))),
        ("cidr", [Val::Str(text)]) => cidr(text).map(|(ip, bits)| Val::Cidr(ip, bits)),
        ("isCIDR", [Val::Str(text)]) => Ok(Val::Bool(cidr(text).is_ok())),
        ("containsIP" | "contains", [Val::Cidr(base, bits), Val::Ip(ip)]) => Ok(Val::Bool(contains(base, *bits, ip))),
        ("containsIP" | "contains", [Val::Cidr(base, bits), Val::Str(text)]) => {
            ip(text).map(|ip| Val::Bool(contains(base, *bits, &ip)))
        }
        ("containsCIDR", [Val::Cidr(base, bits), Val::Cidr(inner, inner_bits)]) => {
            Ok(Val::Bool(inner_bits >= bits && contains(base, *bits, inner)))
        }
        ("containsCIDR", [Val::Cidr(base, bits), Val::Str(text)]) => {
            cidr(text).map(|(inner, inner_bits)| Val::Bool(inner_bits >= *bits && contains(base, *bits, &inner)))
        }
        ("prefixLength", [Val::Cidr(_, bits)]) => Ok(Val::Int(i64::from(*bits))),
        ("masked", [Val::Cidr(ip, bits)]) => Ok(Val::Cidr(masked(ip, *bits), *bits)),
        ("url", [Val::Str(text)]) if is_url(text) => Ok(Val::Url(text.as_ref().into())),
        ("url", [Val::Str(text)]) => Err(EvalError::other(format!(
            "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
        ))),
        ("isURL", [Val::Str(text)]) => Ok(Val::Bool(is_url(text))),
        ("getScheme", [Val::Url(url)]) => Ok(Val::text(Parts::of(url).scheme)),
        ("getHost", [Val::Url(url)]) => Ok(Val::text(Parts::of(url).host)),
        ("getHostname", [Val::Url(url)]) => Ok(Val::text(Parts::of(url).hostname())),
        ("getPort", [Val::Url(url)]) => Ok(Val::text(Parts::of(url).port())),
        ("getEscapedPath", [Val::Url(url)]) => Ok(Val::text(Parts::of(url).path.replace(' ', "%20"))),
        ("getQuery", [Val::Url(url)]) => Ok(query(Parts::of(url).query)),
        _ => return None,
    })
}

/// No IPv4 in IPv6, no zone.
fn ip(text: &str) -> Result<IpAddr> {
    let parsed: Option<IpAddr> = text.parse().ok();
    let mapped = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let parsed = parsed.filter(|ip| !mapped(ip));
    parsed.ok_or_else(|| {
        EvalError::other(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))
    })
}

fn cidr(text: &str) -> Result<(IpAddr, u8)> {
    let error = || {
        EvalError::other(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): no '/'"
        ))
    };
    let (address, bits) = text.split_once('/').ok_or_else(error)?;
    let address = ip(address)?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|bits| plain && *bits <= max).ok_or_else(error)?;
    Ok((address, bits))
}

fn masked(ip: &IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(*ip) & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(*ip) & mask))
        }
    }
}

fn contains(base: &IpAddr, bits: u8, ip: &IpAddr) -> bool {
    base.is_ipv4() == ip.is_ipv4() && masked(base, bits) == masked(ip, bits)
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_global_unicast(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip))
}

/// `url.ParseRequestURI`.
fn is_url(text: &str) -> bool {
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
    })
}

struct Parts<'u> {
    scheme: &'u str,
    host: &'u str,
    path: &'u str,
    query: &'u str,
}

impl<'u> Parts<'u> {
    fn of(url: &'u str) -> Self {
        let url = url.split('#').next().unwrap_or(url);
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = if url.starts_with('/') { ("", url) } else { url.split_once(':').unwrap_or(("", url)) };
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        Self { scheme, host: host.rsplit('@').next().unwrap_or(host), path, query }
    }

    fn port(&self) -> &'u str {
        let after = self.host.rsplit(']').next().unwrap_or(self.host);
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }

    fn hostname(&self) -> &'u str {
        let port = self.port();
        let host = if port.is_empty() { self.host } else { &self.host[..self.host.len() - port.len() - 1] };
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn query<'a>(query: &str) -> Val<'a> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key), decoded(value));
        match out.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => out.push((key, vec![value])),
        }
    }
    let entries = out.into_iter().map(|(key, values)| (Val::text(key), texts(values.into_iter())));
    Val::Map(entries.collect::<Vec<_>>().into())
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
