//! The scheduling framework as pure decisions.
