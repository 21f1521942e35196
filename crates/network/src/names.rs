//! Names and addresses of a pod's link.

use std::net::IpAddr;

/// Every host end of a pod's veth is called this and a hash of the sandbox.
pub(crate) const VETH_PREFIX: &str = "cor";

/// The same for the same sandbox, so that it can be removed without having been remembered. FNV-1a, cut to what fits.
pub(crate) fn veth_name(sandbox_id: &str) -> String {
    let hash = sandbox_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{VETH_PREFIX}{:012x}", hash >> 16)
}

/// The same for the same address, so that no neighbour table of the node is ever wrong about it.
pub(crate) fn pod_mac(ips: &[IpAddr]) -> [u8; 6] {
    let [a, b, c, d] = match ips.first() {
        Some(IpAddr::V4(v4)) => v4.octets(),
        Some(IpAddr::V6(v6)) => {
            let segments = v6.segments();
            let [a, b] = segments[6].to_be_bytes();
            let [c, d] = segments[7].to_be_bytes();
            [a, b, c, d]
        }
        None => [0, 0, 0, 0],
    };
    [0x0a, 0x58, a, b, c, d]
}
