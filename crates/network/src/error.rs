//! What the pod network can fail with.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", .0.chain())]
    Host(coracle_host_net::Error),
    #[error("no pod CIDR has been assigned to this node")]
    NoPodCidr,
    #[error("invalid pod CIDR {cidr:?}: {why}")]
    InvalidPodCidr { cidr: String, why: String },
    #[error("the pod CIDR cannot change from {old} to {new} while {pods} pods use it")]
    PodCidrInUse { old: String, new: String, pods: usize },
    #[error("the {what} {cidr} cannot be used: {taken} is routed to {device} on this host")]
    Taken { what: &'static str, cidr: ipnet::IpNet, taken: ipnet::IpNet, device: String },
    #[error("no address is left in pod CIDR {0}")]
    Exhausted(ipnet::IpNet),
    #[error("host port {host_port}/{protocol} of pod {pod}: only {max} ports of one sandbox are mapped")]
    TooManyHostPorts { pod: String, host_port: u16, protocol: &'static str, max: usize },
    #[error("write the network journal {}: {source}", path.display())]
    Journal { path: PathBuf, source: std::io::Error },
}

impl From<coracle_host_net::Error> for Error {
    fn from(error: coracle_host_net::Error) -> Error {
        Error::Host(error)
    }
}

impl From<Error> for coracle_cri::Error {
    fn from(error: Error) -> coracle_cri::Error {
        let text = error.to_string();
        match error {
            Error::NoPodCidr => coracle_cri::Error::Unavailable(text),
            Error::InvalidPodCidr { .. } | Error::TooManyHostPorts { .. } => coracle_cri::Error::InvalidArgument(text),
            Error::PodCidrInUse { .. } | Error::Taken { .. } => coracle_cri::Error::FailedPrecondition(text),
            Error::Exhausted(_) => coracle_cri::Error::ResourceExhausted(text),
            Error::Host(_) | Error::Journal { .. } => coracle_cri::Error::Internal(text),
        }
    }
}
