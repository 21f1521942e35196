//! Streams of exec, attach and port-forward, as Kubernetes clients speak them.
//!
//! [`remote`] serves the remote command protocol (`channel.k8s.io` and its versions) over WebSocket or SPDY/3.1, and
//! [`port_forward`] the port-forward protocol over SPDY, SPDY tunnelled in WebSocket, or plain WebSocket; both begin at
//! an HTTP upgrade. [`RemoteClient`] is the other end, for the command line. Everything that comes from a peer is
//! bounded, and malformed input ends the connection with an error, never with a panic. Streams know nothing of pods.

mod client;
mod error;
pub mod port_forward;
pub mod remote;
pub mod spdy;
mod tunnel;
mod upgrade;
pub mod ws;

pub use client::{Forwarded, PortForwardClient, RemoteClient, RemoteClientOptions};
pub use error::{Error, Result};
pub use upgrade::{UpgradeKind, accept_messages, is_upgrade};

/// A byte stream in both directions.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Io for T {}
pub type BoxIo = Box<dyn Io>;
