//! The contract of deciders.
//!
//! A decider is a pure function from a view (what is known) and a moment to a [`Plan`]: a list of [`Action`]s that leave
//! no choice to whoever carries them out, and a [`Why`] for each choice made. Plans are data: they can be printed,
//! compared and kept. The price is that a decider never sees the outcome of an action: it learns of it from the next
//! view. This crate also has the few facts about pods, owners and time that several deciders share.
//! It never knows clients, tasks, clocks or randomness.

pub mod hash;
pub mod node;
pub mod owner;
mod plan;
pub mod pod;
pub mod rng;
pub mod select;
pub mod time;

pub use plan::{Action, EventKind, EventPlan, ObjectRef, Plan, PlannedPatch, Propagation, Report, Target, Why};
