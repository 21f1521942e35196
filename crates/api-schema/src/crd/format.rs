//! String formats (`k8s.io/kube-openapi/pkg/validation/strfmt`). Formats without a check here accept every text.

use std::{net::IpAddr, sync::OnceLock};

use regex::Regex;

use crate::{scalar, time};

/// Formats whose texts have a pattern.
const PATTERNS: [(&str, &str); 12] = [
    ("uuid", r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
    ("uuid3", r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
    ("uuid4", r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
    ("uuid5", r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
    ("hexcolor", r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
    ("bsonobjectid", r"^[0-9a-fA-F]{24}$"),
    (
        "hostname",
        r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
    ),
    (
        "mac",
        r"(?i)^([0-9a-f]{2}([:-])([0-9a-f]{2}[:-]){4}[0-9a-f]{2}|([0-9a-f]{4}\.){2}[0-9a-f]{4}|[0-9a-f]{2}[:-]([0-9a-f]{2}[:-]){6}[0-9a-f]{2})$",
    ),
    ("k8sshortname", r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"),
    ("k8slongname", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
    (
        "duration",
        r"^(\d+(\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w|nanos?|nanoseconds?|micros?|microseconds?|millis?|milliseconds?|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|weeks?)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*$",
    ),
];
/// Formats with a check of their own, or none.
const OTHERS: [&str; 15] = [
    "uri",
    "email",
    "ipv4",
    "ipv6",
    "cidr",
    "byte",
    "date",
    "datetime",
    "password",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "rgbcolor",
    "binary",
];
const LONG_NAME_BYTES_MAX: usize = 253;

/// The format as it is checked; empty when the type does not have it.
pub(super) fn supported(ty: &str, int_or_string: bool, format: &str) -> String {
    let plain = format.replace('-', "");
    let known = match ty {
        "" | "string" if !int_or_string => {
            PATTERNS.iter().any(|(name, _)| *name == plain) || OTHERS.contains(&plain.as_str())
        }
        "integer" => return if matches!(format, "int32" | "int64") { plain } else { String::new() },
        "number" => return if matches!(format, "float" | "double") { plain } else { String::new() },
        _ => false,
    };
    // Messages name the format as it was written.
    if known { format.to_owned() } else { String::new() }
}

pub(super) fn matches(format: &str, text: &str) -> bool {
    let plain = format.replace('-', "");
    match plain.as_str() {
        "uri" => is_uri(text),
        "email" => is_email(text),
        "ipv4" => text.parse().is_ok_and(|ip: IpAddr| ip.is_ipv4()),
        "ipv6" => text.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6()),
        "cidr" => is_cidr(text),
        "byte" => scalar::bytes(text).is_ok(),
        "date" => text.len() == 10 && time::parse(&format!("{text}T00:00:00Z"), false).is_ok(),
        "datetime" => time::parse(&text.to_uppercase(), false).is_ok(),
        "k8slongname" if text.len() > LONG_NAME_BYTES_MAX => false,
        name => pattern(name).is_none_or(|regex| regex.is_match(text)),
    }
}

fn pattern(name: &str) -> Option<&'static Regex> {
    static COMPILED: [OnceLock<Option<Regex>>; PATTERNS.len()] = [const { OnceLock::new() }; PATTERNS.len()];
    let index = PATTERNS.iter().position(|(known, _)| *known == name)?;
    COMPILED[index].get_or_init(|| Regex::new(PATTERNS[index].1).ok()).as_ref()
}

/// `url.ParseRequestURI`: absolute, or a path.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return false;
    }
    text.starts_with('/')
        || text.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        })
}

fn is_email(text: &str) -> bool {
    let address = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches('>'));
    address.rsplit_once('@').is_some_and(|(user, host)| {
        let plain = |part: &str| {
            !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "<>()[],;:\\\"@".contains(c))
        };
        plain(user) && plain(host) && !host.starts_with('.') && !host.ends_with('.')
    })
}

fn is_cidr(text: &str) -> bool {
    let Some((ip, bits)) = text.split_once('/') else { return false };
    let max = match ip.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= max) && bits.bytes().all(|byte| byte.is_ascii_digit())
}
