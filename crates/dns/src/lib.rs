//! Cluster DNS: the names of Services, endpoints and pods, and a forwarder for all others.
//!
//! Entry types: [`run`] follows Services, EndpointSlices and Namespaces and serves until it is stopped; [`Config`] says
//! where, for which domain and by which upstream servers; [`ensure_service`] makes the Service `kube-dns` through which
//! pods and the host find it. [`Server`] and [`Index`] are the parts, for who has the objects already.
//!
//! What is answered is the Kubernetes DNS specification 1.1.0: A and AAAA of Services, headless ones with a name per
//! endpoint, SRV of named ports, PTR of ClusterIPs and endpoints, CNAME of ExternalName Services, A of pods by their
//! dashed address. Missing names get NXDOMAIN, missing types an empty answer, both with the SOA that lets them be
//! remembered (RFC 2308) for as long as records live.
//!
//! The key decision: an answer about the cluster is made from an index in memory on the task that read the query,
//! without a lock held for longer than one lookup and without a cache, so it is never older than the informers. Names
//! outside go to the upstream servers, each name asked once at a time however many ask for it (which also ends loops),
//! and are remembered for at most 30 seconds.
//!
//! The server listens on an address of the node (the pods' gateway) and not on the Service's own address: the Service
//! rules lead there, as for any other Service. It never resolves recursively by itself and never signs.

mod cache;
mod config;
mod error;
mod forward;
mod index;
mod lookup;
mod message;
mod resolv;
mod run;
mod server;
mod service;

pub use config::{Config, Upstreams};
pub use error::Error;
pub use index::Index;
pub use run::run;
pub use server::Server;
pub use service::{DnsService, ensure_service};
