//! Objects seen through their schema: which fields they have, how two differ, what merging and pruning them gives.
//!
//! Source: structured-merge-diff v6 `typed`.

mod compare;
mod fields_of;
mod items;
mod merge;
mod named;
mod reconcile;
mod remove;
mod shape;
mod validate;

pub(crate) use compare::{Delta, Form, compare};
pub(crate) use fields_of::fields_of;
pub(crate) use merge::merge;
pub(crate) use named::with_named_fields;
pub(crate) use reconcile::reconcile;
pub(crate) use remove::remove_items;
pub(crate) use shape::{Shape, Types};
pub(crate) use validate::validate;
