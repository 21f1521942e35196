//! The API server: one door for every component, client and node.
//!
//! [`Server::new`] takes a [`Config`] and a store; [`Server::serve`] answers TLS connections, [`Server::in_process`] answers
//! callers of the same process by the same path: authentication, authorization, admission, audit. Every resource goes
//! through one generic registry driven by the catalogue; kinds differ by rows and rules.
//!
//! Reads hand out the bytes that the write made: nothing is parsed unless a table, a selector or another form is asked for.
//! What is derived from objects (roles, quotas, custom resources) is computed when the objects changed, not watched. The
//! server never knows the other components: nodes are reached through [`NodeConnector`].

mod access;
mod admission;
mod aggregation;
mod bootstrap;
mod cache;
mod config;
mod derived;
mod discovery;
mod http;
mod outgoing;
mod registry;
mod remote;
mod reviews;
mod server;
mod subresources;
mod time;
mod tls;

pub use access::{AccessError, AuditPolicy, Authentication, Authorization, OidcFlags, WebhookTimes};
pub use config::{
    AccessConfig, AuditConfig, ByteStream, Config, DirectDialer, FRONT_PROXY_NAME, FrontProxy, NodeConnector,
    NodeTarget, PodDialer, RequestHeader, ResourceMetrics, ServingCertificate, StartError, TokenWebhook,
};
pub use server::{InProcess, Server};
