//! Server-side tables: what `kubectl get` shows. Columns, cells and their wording are upstream's
//! (`pkg/printers/internalversion/printers.go`). Custom resources have their columns in their definitions; the ages of
//! those are made with [`duration::age`].

pub mod duration;
mod rows;

use coracle_api_meta::{Gvk, Value};
use jiff::Timestamp;

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer` or `boolean`.
    pub kind: &'static str,
    /// `name` for the column that names the object, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// The columns of a kind. Kinds without a printer have `Name` and `Age`.
#[must_use]
pub fn columns(gvk: &Gvk) -> &'static [Column] {
    rows::printer(gvk).0
}

/// The cells of an object, one for each column.
#[must_use]
pub fn row(gvk: &Gvk, object: &Value, now: Timestamp) -> Vec<Value> {
    rows::printer(gvk).1(object, now)
}
