//! Access to the API: typed ([`Api`]), dynamic ([`DynamicApi`]) and cached ([`Informer`]).
//!
//! A [`Client`] speaks HTTP-shaped requests through a [`Transport`]: over TLS ([`HttpTransport`]), or straight into an
//! API server of the same process. Either way requests pass the same authentication, authorization and admission. This
//! crate never knows what is inside the server.

mod api;
mod client;
mod config;
mod error;
mod events;
mod informer;
mod params;
mod pool;
mod transport;
mod watch;

pub use api::{Api, DynamicApi};
pub use client::Client;
pub use config::{ClientConfig, Kubeconfig, Named};
pub use error::{Error, Result};
pub use events::{EventRecorder, reference_to};
pub use informer::{Change, Changes, Informer};
pub use params::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, WriteParams};
pub use pool::Pool;
pub use transport::{Body, BoxError, HttpTransport, Transport, TransportError, full_body};
pub use watch::{WatchEvent, WatchStream};
