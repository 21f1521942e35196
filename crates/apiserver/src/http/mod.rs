//! From request to answer: what every request passes, whatever it is about.

pub(crate) mod audit;
pub(crate) mod authn;
pub(crate) mod authz;
pub(crate) mod body;
pub(crate) mod context;
pub(crate) mod flow;
pub(crate) mod health;
pub(crate) mod impersonate;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod negotiate;
pub(crate) mod pipeline;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request_info;
mod websocket;

pub(crate) use context::Ctx;
pub(crate) use reply::Reply;
