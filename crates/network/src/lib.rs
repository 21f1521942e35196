//! The pod network of one node.
//!
//! Entry types: [`Network`] implements `coracle_cri::PodNetwork`, which the runtime calls; [`Config`] says what it may
//! use of the host; [`reset`] takes everything back.
//!
//! ```no_run
//! # async fn example() -> Result<(), coracle_network::Error> {
//! use std::sync::Arc;
//! let host = Arc::new(coracle_host_net::Kernel::new()?);
//! let config = coracle_network::Config {
//!     pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
//!     service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
//!     ..Default::default()
//! };
//! let network = coracle_network::Network::start(config, host).await?;
//! // network.reconcile(&live).await, then hand it to the runtime as Arc<dyn PodNetwork>.
//! # Ok(()) }
//! ```
//!
//! Each pod has a veth whose host end is a port of one bridge. The pod's address is a single one (/32) and everything
//! else is reached through the bridge's own address, the first of the pod CIDR. That is the key decision: traffic
//! between two pods of the node is routed, never bridged, so Service translation and its way back work whether or not
//! the kernel shows bridged packets to nftables. Its cost is one routing step per packet.
//!
//! Addresses are not kept in files: those in use are those of the sandboxes that live, as the runtime reports them
//! (`reconcile`), and those given since. So none can leak. An address is given again only after all others were.
//!
//! Host ports are elements of one map in the nftables table of this component; the Service rules have their own table
//! (crate `proxy`). Sysctls of the host that were changed are journalled in `state_dir`, for [`reset`].
//!
//! This component never looks at the API and knows no Services.

mod config;
mod error;
mod host_ports;
mod journal;
mod names;
mod network;
mod pool;
mod reset;
mod rules;

pub use config::Config;
pub use error::Error;
pub use network::Network;
pub use reset::{Leftover, reset};
