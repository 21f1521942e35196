//! Names: of Services, and of the chains and sets made for them.

use std::fmt;

use coracle_nft::Proto;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl ServiceName {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ServiceName {
        ServiceName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Bytes of a chain's name. The kernel takes 255; less keeps 250 elements with names below one attribute's 64 KiB.
const NAME_BYTES_MAX: usize = 127;
/// Enough for the names of a million chains to differ: about one in 10^9 that two do not.
const HASH_DIGITS: usize = 13;

/// The part of the names that all chains and sets of one Service port share.
pub(crate) fn port_name(service: &ServiceName, port: &str, protocol: Proto) -> String {
    format!("{service}/{}/{port}", protocol.name())
}

/// `service-0D4T3Q8K2M9XA-default/web/tcp/http`: unique by the hash, readable by the rest, which is cut where too long.
pub(crate) fn chain_name(prefix: &str, what: &str) -> String {
    let mut name = format!("{prefix}-{}-{what}", hash(what));
    name.truncate(NAME_BYTES_MAX);
    name
}

/// FNV-1a of 64 bits in base 32. Kubernetes' names are ASCII, so cutting at any byte is safe.
fn hash(text: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (0..HASH_DIGITS).map(|digit| char::from(DIGITS[(hash >> (5 * digit)) as usize & 31])).collect()
}
