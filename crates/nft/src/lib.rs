//! nftables tables as values: chains, rules, sets, what differs between two of them, and their text.
//!
//! Entry types: [`Table`] (a family, a name and its [`Parts`]), [`Parts`] (chains, sets and elements, whole or of one
//! service alone), [`Change`] (one step of a transaction). [`Parts::changes_to`] gives the steps from one state to
//! another, in the order the kernel accepts them within one atomic transaction; `Display` of a [`Table`] is what
//! `nft -f` reads.
//!
//! The key decision: the rule language has only what Coracle uses. A rule that cannot be said here cannot be compared,
//! printed or undone either.
//!
//! This crate never talks to the kernel and knows no Kubernetes: deciders build these values, `host-net` carries them out.

mod diff;
mod model;
mod text;

pub use diff::Change;
pub use model::{
    Chain, ChainHook, ChainType, Data, Elements, Expr, Family, Field, Hook, Key, Parts, Proto, Rule, Set, SetData,
    Table, Type, Value, Verdict,
};
