//! The network of the host: links, addresses, routes, sysctls, nftables and connection tracking, over netlink alone.
//!
//! Entry types: [`HostNet`] is what the network components ask of a host, [`Kernel`] carries it out in the network
//! namespace of the thread that made it, [`Recorder`] is the fake that writes down what it was asked.
//!
//! The key decision: no program is executed and no rule is read back. What Coracle wants in its tables is kept by the
//! deciders as `coracle_nft` values; a transaction changes the tables from one of them to the next, atomically. The
//! netlink library (`nlink`, which still breaks its interface often) is not seen outside this crate.
//!
//! This crate never decides what the network should look like and knows no Kubernetes.

mod error;
mod host;
mod kernel;
#[cfg(feature = "lab")]
pub mod lab;
mod meddling;
mod recorder;

pub use error::{Error, Result};
pub use host::{BridgeSpec, HostNet, PodInterface, Port, RouteTo, UdpFlow, VethSpec};
pub use kernel::Kernel;
pub use meddling::{Meddling, Touched};
pub use recorder::Recorder;
