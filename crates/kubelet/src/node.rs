//! The node itself: its object, its lease, its pods' workers.

mod lease;
mod pods;
mod register;
pub(crate) mod start;
mod static_pods;
mod status;
