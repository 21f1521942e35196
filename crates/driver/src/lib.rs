//! Runs deciders: keys come in through a [`Queue`], a [`Reconcile`] answers for each key, [`Hands`] carry plans out.
//!
//! A key is worked on by one worker at a time; changes that arrive meanwhile make it run once more. A plan counts as
//! done when the caches show what it wrote ([`Caches`]), so that the next plan for the key never works on a view from
//! before its own writes; this replaces upstream's expectations. Failures are retried with a growing delay per key and
//! told to the next plan. Nothing here polls. This crate never knows what a decider decides.

mod cache;
mod feed;
mod hands;
mod queue;
mod reconcile;

pub use cache::{Cache, Caches};
pub use feed::{feed, feed_with};
pub use hands::{Failure, Hands};
pub use queue::Queue;
pub use reconcile::{Planned, Reconcile, Request, run};
