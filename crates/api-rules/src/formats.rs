//! Formats of strings and numbers, each with upstream's texts (`k8s.io/apimachinery/pkg/util/validation`); empty means good.

use std::net::{IpAddr, Ipv4Addr};

use coracle_api_meta::names;

macro_rules! regex {
    ($text:expr) => {{
        static FOUND: std::sync::LazyLock<regex::Regex> =
            std::sync::LazyLock::new(|| regex::Regex::new($text).expect("a constant expression"));
        &*FOUND
    }};
}
pub(crate) use regex;

fn one(bad: bool, text: impl Into<String>) -> Vec<String> {
    if bad { vec![text.into()] } else { Vec::new() }
}

#[must_use]
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    one(!(low..=high).contains(&value), format!("must be between {low} and {high}, inclusive"))
}

#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

#[must_use]
pub fn user_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

#[must_use]
pub fn port_name(name: &str) -> Vec<String> {
    let mut texts = one(name.len() > 15, "must be no more than 15 characters");
    let letters = name.bytes().any(|byte| byte.is_ascii_lowercase());
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(known) {
        texts.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    texts.extend(one(!letters, "must contain at least one letter (a-z)"));
    texts.extend(one(name.contains("--"), "must not contain consecutive hyphens"));
    texts.extend(one(name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen"));
    texts
}

#[must_use]
pub fn percent(text: &str) -> Vec<String> {
    let good =
        text.strip_suffix('%').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    one(
        !good,
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
    )
}

#[must_use]
pub fn http_header_name(name: &str) -> Vec<String> {
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    one(
        !good,
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
    )
}

#[must_use]
pub fn env_name(name: &str) -> Vec<String> {
    let mut texts = one(name.is_empty(), "environment variable name must be non-empty");
    let good = name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=');
    texts.extend(one(
        !good,
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    ));
    texts
}

/// Keys of config maps and secrets: they become file names.
#[must_use]
pub fn config_key(key: &str) -> Vec<String> {
    let mut texts = one(key.len() > names::DNS1123_SUBDOMAIN_BYTES_MAX, "must be no more than 253 characters");
    let good = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    texts.extend(one(
        !good,
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    ));
    texts.extend(match key {
        "." => one(true, "must not be '.'"),
        ".." => one(true, "must not be '..'"),
        _ => one(key.starts_with(".."), "must not start with '..'"),
    });
    texts
}

#[must_use]
pub fn c_identifier(text: &str) -> Vec<String> {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let good = first && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    one(
        !good,
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
    )
}

#[must_use]
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut texts = one(text.len() > names::DNS1123_SUBDOMAIN_BYTES_MAX, "must be no more than 253 characters");
    let good = text.strip_prefix("*.").is_some_and(|rest| names::is_dns1123_subdomain(rest).is_empty());
    texts.extend(one(!good, "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"));
    texts
}

#[must_use]
pub fn condition_reason(text: &str) -> Vec<String> {
    let good = regex!("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$").is_match(text);
    one(
        !good,
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
    )
}

/// An address, as fields read it that are older than strict parsing: octets may have leading zeros.
#[must_use]
pub fn parse_ip_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let octets: Vec<u8> = text.split('.').map(octet).collect::<Option<_>>()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn octet(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// An address, with leading zeros and mapped addresses allowed.
#[must_use]
pub fn ip_legacy(text: &str) -> Vec<String> {
    one(parse_ip_sloppy(text).is_none(), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
}

/// An address in canonical form.
#[must_use]
pub fn ip(text: &str) -> Vec<String> {
    let Some(parsed) = parse_ip_sloppy(text) else { return ip_legacy(text) };
    if text.parse::<IpAddr>().is_err() {
        return one(true, "must not have leading 0s");
    }
    if let IpAddr::V6(v6) = parsed
        && v6.to_ipv4_mapped().is_some()
    {
        return one(true, "must not be an IPv4-mapped IPv6 address");
    }
    one(parsed.to_string() != text, format!("must be in canonical form ({:?})", parsed.to_string()))
}

/// An address and a prefix length. Bits beyond the prefix may be set.
#[must_use]
pub fn parse_cidr_sloppy(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    let ip = parse_ip_sloppy(ip)?;
    let length = octet(length)?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    (length <= max).then_some((ip, length))
}

/// A network, in the loose reading of old fields.
#[must_use]
pub fn cidr_legacy(text: &str) -> Vec<String> {
    one(parse_cidr_sloppy(text).is_none(), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
}

fn masked(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// True when the address is one of the network's.
#[must_use]
pub fn in_network(ip: IpAddr, network: IpAddr, length: u8) -> bool {
    ip.is_ipv4() == network.is_ipv4() && masked(ip, length) == masked(network, length)
}

/// A network in canonical form.
#[must_use]
pub fn cidr(text: &str) -> Vec<String> {
    let Some((ip, length)) = parse_cidr_sloppy(text) else { return cidr_legacy(text) };
    let (address, digits) = text.split_once('/').unwrap_or_default();
    if address.parse::<IpAddr>().is_err() || digits != length.to_string() {
        return one(true, "must not have leading 0s in IP or prefix length");
    }
    if let IpAddr::V6(v6) = ip
        && v6.to_ipv4_mapped().is_some()
    {
        return one(true, "must not have an IPv4-mapped IPv6 address");
    }
    let network = masked(ip, length);
    if network != ip {
        return one(true, "must not have bits set beyond the prefix length");
    }
    let canonical = format!("{network}/{length}");
    one(canonical != text, format!("must be in canonical form ({canonical:?})"))
}

/// Paths inside a volume: no root, no `..`.
#[must_use]
pub fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

#[must_use]
pub fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// The DNS name of service accounts: what a name part in `generateName` becomes for checking.
#[must_use]
pub fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(stem) if name.len() > 1 => format!("{stem}a"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert!(ip("10.0.0.1").is_empty() && ip("fe80::1").is_empty());
        assert_eq!(ip("010.0.0.1"), ["must not have leading 0s"]);
        assert_eq!(ip("fe80:0::1"), [r#"must be in canonical form ("fe80::1")"#]);
        assert_eq!(ip("x"), ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]);
        assert!(cidr("10.0.0.0/8").is_empty() && cidr("::/0").is_empty());
        assert_eq!(cidr("10.0.0.1/8"), ["must not have bits set beyond the prefix length"]);
        assert_eq!(cidr("10.0.0.0/08"), ["must not have leading 0s in IP or prefix length"]);
    }

    #[test]
    fn ports_and_keys() {
        assert!(port_name("http-2").is_empty() && config_key("a.b_c").is_empty() && env_name("A b").is_empty());
        assert_eq!(port_name("8080"), ["must contain at least one letter (a-z)"]);
        assert_eq!(config_key(".."), ["must not be '..'"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }
}
